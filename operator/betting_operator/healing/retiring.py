"""Taking one life out of service in order: its shards are handed on, then it is killed; one at a time.

For an instance that works, only badly. What owns no shards is killed at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from betting_operator.healing.actions import Action, Eject
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.signals import Observation, Owner, Phase

# A hot shard shows where it went within this time; until then nobody else is retired.
WATCHED_FOR_MS = 60_000
# Hand-overs that get stuck are seized after five seconds each, several at once.
EMPTIED_WITHIN_MS = 60_000
RETIRED_FOR = (Kind.GREY_FAILURE, Kind.MEMORY_CLIMBING)


@dataclass(frozen=True, slots=True)
class Retirement:
    """One that was begun. owner: as the directory names the life; shards: what it had then."""

    kind: Kind
    owner: str
    shards: tuple[int, ...]
    why: str
    at_ms: int


def remember(
    last: Retirement | None, ejects: Sequence[Eject], diagnoses: Sequence[Diagnosis], seen: Observation
) -> Retirement | None:
    """The latest, while its life or its shards may still say something."""
    for eject in ejects:
        found = next(d for d in diagnoses if f"{d.target}@{d.boot_id}" == eject.owner and d.kind in RETIRED_FOR)
        return Retirement(found.kind, eject.owner, _shards_of(eject.owner, seen), found.evidence[0], seen.at_ms)
    if last is None or (seen.at_ms - last.at_ms > WATCHED_FOR_MS and not _lives(last.owner, seen)):
        return None
    return last


def under_way(last: Retirement | None, seen: Observation) -> Iterator[Diagnosis]:
    """Who is being retired is called by nobody, so nobody complains of it any more: it is remembered."""
    if last is not None and _lives(last.owner, seen):
        instance, _, boot_id = last.owner.partition("@")
        left = len(_shards_of(last.owner, seen))
        texts = (last.why, f"retired {seen.at_ms - last.at_ms} ms ago, {left} shards left")
        yield Diagnosis(last.kind, instance, Certainty.CONFIRMED, texts, boot_id)


def step(each: Diagnosis, last: Retirement | None, able: Collection[str], seen: Observation) -> Action | str | None:
    """What comes next for a confirmed one: an action, why it has to wait, or None: it may be killed."""
    owner = f"{each.target}@{each.boot_id}"
    process = next((p for p in seen.processes or () if (p.instance, p.boot_id) == (each.target, each.boot_id)), None)
    if process is None or process.phase is not Phase.RUNNING:
        return "it is not running any more"
    shards = _shards_of(owner, seen)
    known = {known.name: known for known in seen.owners or ()}
    if last is not None and last.owner == owner:
        if seen.shards is None or (shards and seen.at_ms - last.at_ms < EMPTIED_WITHIN_MS):
            return f"its shards are being handed over: {len(shards)} left"
        return None
    if _is_owner(owner, known):
        return _ejection(owner, last, able, seen)
    others = [p for p in seen.processes or () if p.service == process.service and p is not process]
    if each.kind is Kind.GREY_FAILURE and not all(p.phase is Phase.RUNNING and not p.silent_ms for p in others):
        return "its peers are not all well: it is better than none"
    return None


def _ejection(owner: str, last: Retirement | None, able: Collection[str], seen: Observation) -> Action | str:
    if last is not None:
        return f"{last.owner} was retired {seen.at_ms - last.at_ms} ms ago: one at a time"
    others = [name for name in able if name != owner]
    living = [known for known in seen.owners or () if not known.exited and known.name != owner]
    if not others or len(others) < len(living):
        return "not all of its peers can take its shards: it is better than none"
    return Eject(owner, seen.term)


def _is_owner(owner: str, known: dict[str, Owner]) -> bool:
    return owner in known and not known[owner].exited


def _lives(owner: str, seen: Observation) -> bool:
    return any(known.name == owner and not known.exited for known in seen.owners or ())


def _shards_of(owner: str, seen: Observation) -> tuple[int, ...]:
    return tuple(shard.shard for shard in seen.shards or () if shard.owner == owner)
