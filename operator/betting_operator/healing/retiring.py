"""Retires a life: its shards are handed over, then it is killed, or moved to another node; one life at a time.

For an instance that works badly, or on a bad node. An instance without shards is killed or moved at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.actions import Action, Drain
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.signals import Observation, Phase

# A hot shard shows where it went within this time; until then no other instance is retired.
WATCHED_FOR_MS = 60_000
# Shards whose hand-over is stuck are released by force after five seconds each, several at once.
EMPTIED_WITHIN_MS = 60_000
RETIRED_FOR = (Kind.GREY_FAILURE, Kind.MEMORY_CLIMBING, Kind.BAD_NODE)


@dataclass(frozen=True, slots=True)
class Retirement:
    """A retirement that was begun. owner: the life; shards: those it had then."""

    kind: Kind
    owner: Life
    shards: tuple[int, ...]
    why: str
    at_ms: int


def remember(
    last: Retirement | None, drains: Sequence[Drain], diagnoses: Sequence[Diagnosis], seen: Observation
) -> Retirement | None:
    """The latest, while its life or its shards may still say something."""
    for drain in drains:
        found = next(d for d in diagnoses if d.life == drain.owner and d.kind in RETIRED_FOR)
        return Retirement(found.kind, drain.owner, _shards_of(drain.owner, seen), found.evidence[0], seen.at_ms)
    if last is None or (seen.at_ms - last.at_ms > WATCHED_FOR_MS and not _lives(last.owner, seen)):
        return None
    return last


def under_way(last: Retirement | None, seen: Observation) -> Iterator[Diagnosis]:
    """An instance that is being retired has no callers left, so no evidence either: its diagnosis is kept."""
    if last is not None and _lives(last.owner, seen):
        left = len(_shards_of(last.owner, seen))
        texts = (last.why, f"retired {seen.at_ms - last.at_ms} ms ago, {left} shards left")
        yield Diagnosis(last.kind, last.owner.instance, Certainty.CONFIRMED, texts, last.owner)


def next_action(
    each: Diagnosis, last: Retirement | None, eligible: Collection[Life], seen: Observation
) -> Action | str | None:
    """What comes next for a confirmed one: an action, why it has to wait, or None: it may be killed."""
    owner = each.life
    process = next((p for p in seen.processes or () if p.life == owner), None)
    if each.kind is Kind.BAD_NODE and (process is None or process.phase is not Phase.RUNNING):
        return None  # it crashes again and again: nothing to hand over, and most of the time there is no life
    if owner is None or process is None or process.phase is not Phase.RUNNING:
        return "it is not running any more"
    shards = _shards_of(owner, seen)
    if last is not None and last.owner == owner:
        if seen.shards is None or (shards and seen.at_ms - last.at_ms < EMPTIED_WITHIN_MS):
            return f"its shards are being handed over: {len(shards)} left"
        return None
    if _lives(owner, seen):
        return _drain(owner, last, eligible, seen)
    others = [p for p in seen.processes or () if p.workload == process.workload and p is not process]
    if each.kind is Kind.GREY_FAILURE and not all(p.phase is Phase.RUNNING and not p.silent_ms for p in others):
        return "its peers are not all well: it is better than none"
    return None


def _drain(owner: Life, last: Retirement | None, eligible: Collection[Life], seen: Observation) -> Action | str:
    if last is not None and (last.kind is not Kind.BAD_NODE or _lives(last.owner, seen)):
        return f"{last.owner} was retired {seen.at_ms - last.at_ms} ms ago: one at a time"
    others = [other for other in eligible if other != owner]
    living = [known for known in seen.owners or () if not known.exited and known.life != owner]
    if not others or len(others) < len(living):
        return "not all of its peers can take its shards: it is better than none"
    return Drain(owner, seen.term)


def _lives(owner: Life, seen: Observation) -> bool:
    return any(known.life == owner and not known.exited for known in seen.owners or ())


def _shards_of(owner: Life, seen: Observation) -> tuple[int, ...]:
    return tuple(shard.shard for shard in seen.shards or () if shard.owner == owner)
