"""Diagnoses tick by tick, as episodes: when something broke, when it was well again. Nothing is decided by it.

An owner that died is well again when its shards are owned by others, not when it is marked dead. A diagnosis that is
back within a few seconds was not over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from betting.life import Life
from betting_operator.healing.diagnoses import TABLE, Certainty, Diagnosis, Kind, Void
from betting_operator.healing.redis_signals import NOBODY, FailoverPhase, RedisRecord
from betting_operator.healing.signals import Exit, Observation

# What is not made for so long is over, since it was made last.
BACK_WITHIN_MS = 3_000
# What is not confirmed for so long is more than one late answer.
LASTS_MS = 5_000
_ABOUT_OWNERS = (Kind.OWNER_DIED, Kind.PROCESS_HUNG)
_FAILED_OVER_FOR = (Kind.REDIS_PRIMARY_GONE, Kind.REDIS_PRIMARY_HUNG)
# Diagnoses that are not made while the platform underneath, or the directory in Postgres, cannot be seen.
_OF_PROCESSES = {Kind.PROCESS_DIED, *(kind for kind, entry in TABLE.items() if Void.UNSEEN in entry.voids)}
_OF_DATABASE = {
    *(Kind.OWNER_DIED, Kind.SHARD_STOPPED),
    *(kind for kind, entry in TABLE.items() if Void.DATABASE in entry.voids),
}


@dataclass(frozen=True, slots=True)
class Episode:
    """One diagnosis, from the beginning of its evidence to its end.

    certainty, evidence: of when it was confirmed last, or began. began_ms: the exit, the beginning of the silence, or
    else the first tick that made the diagnosis. confirmed: whether it ever was. orphans: shards that its life owned.
    gone_ms: the first tick without it, None while it is made.
    """

    kind: Kind
    target: str
    certainty: Certainty
    evidence: tuple[str, ...]
    began_ms: int
    first_ms: int
    confirmed: bool = False
    life: Life | None = None
    orphans: tuple[int, ...] = ()
    gone_ms: int | None = None

    @property
    def key(self) -> tuple[Kind, str]:
        """What it is the same diagnosis by."""
        return self.kind, self.target

    @property
    def took_ms(self) -> int:
        """From its evidence to its end; only of one that is over."""
        assert self.gone_ms is not None
        return self.gone_ms - self.began_ms


@dataclass(frozen=True, slots=True)
class Failover:
    """Redis has another primary, or the same node again in a later life. began_ms, ended_ms: evidence, and the record
    of the new epoch."""

    before: str
    after: str
    epoch: int
    began_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Repairs:
    """episodes: those that last. steady: the Redis record that was steady last."""

    episodes: tuple[Episode, ...] = ()
    steady: RedisRecord | None = None
    left_ms: int | None = None

    def standing(self, at_ms: int) -> tuple[Episode, ...]:
        """Those to be shown: confirmed, or longer than a late answer lasts; the oldest first."""
        shown = [each for each in self.episodes if each.confirmed or at_ms - each.first_ms >= LASTS_MS]
        return tuple(sorted(shown, key=lambda each: (each.began_ms, each.key)))


@dataclass(frozen=True, slots=True)
class Followed:
    """What a tick changed. over: episodes that ended and had been confirmed."""

    repairs: Repairs
    over: tuple[Episode, ...] = ()
    failover: Failover | None = None


def follow(before: Repairs, seen: Observation, diagnoses: Sequence[Diagnosis], exits: Sequence[Exit]) -> Followed:
    """After a tick. exits: of the window (`Memory.exits`), since a diagnosis may come later than the exit."""
    made = {(each.kind, each.target): each for each in diagnoses}
    known = {each.key: each for each in before.episodes}
    lasting, over = [], []
    for key, each in known.items():
        found = made.get(key)
        after = _absent(each, seen) if found is None else _made(each, found)
        if after.gone_ms is not None and seen.at_ms - after.gone_ms >= BACK_WITHIN_MS:
            over.append(after)
        else:
            lasting.append(after)
    lasting += [_begun(each, seen, exits) for key, each in made.items() if key not in known]
    steady, left_ms, failover = _redis(before, tuple(lasting), seen)
    return Followed(Repairs(tuple(lasting), steady, left_ms), tuple(each for each in over if each.confirmed), failover)


def _begun(found: Diagnosis, seen: Observation, exits: Sequence[Exit]) -> Episode:
    return Episode(
        found.kind,
        found.target,
        found.certainty,
        found.evidence,
        began_ms=min(seen.at_ms, _evidence_ms(found, seen, exits)),
        first_ms=seen.at_ms,
        confirmed=found.confirmed,
        life=found.life,
        orphans=_owned(found.life, seen) if found.kind in _ABOUT_OWNERS else (),
    )


def _made(each: Episode, found: Diagnosis) -> Episode:
    """Made again. Between suspected and cannot-tell it may change with every tick, which is no news."""
    each = replace(each, gone_ms=None)
    if found.confirmed == (each.certainty is Certainty.CONFIRMED):
        return each
    return replace(
        each, certainty=found.certainty, evidence=found.evidence, confirmed=each.confirmed or found.confirmed
    )


def _absent(each: Episode, seen: Observation) -> Episode:
    if each.gone_ms is not None or _waiting(each, seen):
        return each
    return replace(each, gone_ms=seen.at_ms)


def _waiting(each: Episode, seen: Observation) -> bool:
    """Whether shards that were its own are still with nobody who lives, or nobody can tell that it is over."""
    if seen.processes is None and each.kind in _OF_PROCESSES:
        return True
    if (seen.shards is None or seen.owners is None) and each.kind in _OF_DATABASE:
        return True
    if not each.confirmed or not each.orphans or seen.shards is None:
        return False
    alive = {owner.life for owner in seen.owners or () if not owner.exited}
    waiting = set(each.orphans)
    return any(
        shard.shard in waiting and shard.state in ("free", "owned") and shard.owner not in alive
        for shard in seen.shards
    )


def _owned(life: Life | None, seen: Observation) -> tuple[int, ...]:
    return tuple(shard.shard for shard in seen.shards or () if life is not None and shard.owner == life)


def _evidence_ms(found: Diagnosis, seen: Observation, exits: Sequence[Exit]) -> int:
    """When what it rests on began."""
    if found.kind is Kind.PROCESS_DIED:
        return max((each.at_ms for each in exits if each.life.instance == found.target), default=seen.at_ms)
    if found.life is None:
        return seen.at_ms
    ended = [each.at_ms for each in exits if each.life == found.life]
    return ended[-1] if ended else seen.at_ms - max(_silences_ms(found.life, seen), default=0)


def _silences_ms(life: Life, seen: Observation) -> Iterable[int]:
    yield from (each.silent_ms for each in seen.probes if each.life == life)
    yield from (each.silent_ms for each in seen.processes or () if each.life == life)
    yield from (each.silent_ms for each in seen.reports if each.life == life and each.unanswered)
    if seen.redis is not None:
        yield from (each.silent_ms for each in seen.redis.nodes if each.life == life)


def _redis(
    before: Repairs, episodes: tuple[Episode, ...], seen: Observation
) -> tuple[RedisRecord | None, int | None, Failover | None]:
    """The record that was steady last, since when it is not, and a failover that has ended with this tick."""
    if seen.redis is None:
        return before.steady, before.left_ms, None
    record = seen.redis.record
    if record.phase is not FailoverPhase.STEADY:
        return before.steady, before.left_ms if before.left_ms is not None else seen.at_ms, None
    old = before.steady
    if old is None or old == NOBODY or record.epoch <= old.epoch:
        return record, None, None
    causes = [each.began_ms for each in episodes if each.kind in _FAILED_OVER_FOR and each.target == old.primary]
    left_ms = seen.at_ms if before.left_ms is None else before.left_ms
    failover = Failover(old.primary, record.primary, record.epoch, min([*causes, left_ms]), seen.at_ms)
    return record, None, failover
