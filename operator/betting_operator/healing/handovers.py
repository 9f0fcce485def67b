"""Hand-overs in progress, and which side blocks one: the owner that keeps the shard, or the new owner that does not
take it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.actions import Action, ForceRelease, Place
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, lasted_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Shard


@dataclass(frozen=True, slots=True)
class HandOver:
    """A shard whose desired owner is not its owner, since a time. owner: None once it is released."""

    shard: int
    owner: Life | None
    epoch: int
    to: Life
    since_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """How many shards an owner has, since a time: who gives or takes others is at work."""

    owner: Life
    count: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class HandOvers:
    """All hand-overs in progress."""

    waiting: tuple[HandOver, ...] = ()
    held: tuple[Held, ...] = ()


def watch(before: HandOvers, seen: Observation, dead: Collection[Life]) -> HandOvers:
    """After one more look. Between the living only: shards of the dead and leaving are placed, not handed over."""
    if seen.shards is None or seen.owners is None or seen.database is not Database.OK:
        return HandOvers()
    living = {owner.life for owner in seen.owners if not owner.exited and owner.life not in dead}
    counts = Counter(shard.owner for shard in seen.shards if shard.owner is not None)
    known = {(each.owner, each.count): each for each in before.held}
    held = tuple(known.get((life, counts[life]), Held(life, counts[life], seen.at_ms)) for life in sorted(living))
    under_way = {(each.shard, each.owner, each.epoch, each.to): each for each in before.waiting}
    rows = [row for row in seen.shards if _under_way(row, living)]
    not_taken = {row.desired_owner for row in rows if row.owner is None}
    waiting = []
    for row in rows:
        if row.desired_owner is not None:
            new = HandOver(row.shard, row.owner, row.epoch, row.desired_owner, seen.at_ms)
            # An owner gives nothing more to who has not taken what it was given before: that is no time of its own.
            waits = row.owner is not None and row.desired_owner in not_taken
            waiting.append(new if waits else under_way.get((new.shard, new.owner, new.epoch, new.to), new))
    return HandOvers(tuple(waiting), held)


def stuck(handovers: HandOvers, evidence: Evidence, at_ms: int, policy: Policy) -> Iterator[Diagnosis]:
    """Hand-overs without progress, each with the life that it waits for."""
    for each, idle_ms in _without_progress(handovers, evidence, at_ms, policy):
        if each.owner is None:
            text = f"released for {each.to}, which has taken nothing for {idle_ms} ms"
        else:
            text = f"{each.owner} has not handed it to {each.to}, nor anything else, for {idle_ms} ms"
        yield Diagnosis(Kind.HANDOVER_STUCK, f"shard {each.shard}", Certainty.CONFIRMED, (text,))


def remedies(
    handovers: HandOvers, evidence: Evidence, eligible: Collection[Life], seen: Observation, policy: Policy
) -> tuple[list[Action], list[int]]:
    """Shards to take from owners that do not answer, and shards that no other instance can take.

    eligible: possible owners.
    """
    actions: list[Action] = []
    left: list[int] = []
    held = Counter({each.owner: each.count for each in handovers.held})
    for each, _idle_ms in _without_progress(handovers, evidence, seen.at_ms, policy):
        others = [life for life in eligible if life != each.to]
        if each.owner is not None and each.to in eligible:
            actions.append(ForceRelease(each.shard, each.owner, each.epoch, seen.term))
        elif each.owner is None and others:
            other = min(others, key=lambda life: (held[life], life))
            held[other] += 1
            actions.append(Place(((each.shard, other),), seen.term))
        else:
            left.append(each.shard)
    return actions, left


def _under_way(row: Shard, living: Collection[Life]) -> bool:
    if row.desired_owner not in living or row.desired_owner == row.owner:
        return False
    return row.state == "free" or (row.state == "owned" and row.owner in living)


def _without_progress(
    handovers: HandOvers, evidence: Evidence, at_ms: int, policy: Policy
) -> Iterable[tuple[HandOver, int]]:
    """An overloaded giver still serves the shard: it is waited for. Until a receiver takes it nobody does."""
    worked = {each.owner: each.since_ms for each in handovers.held}
    for each in handovers.waiting:
        since_ms = max(each.since_ms, worked.get(each.owner or each.to, at_ms))
        idle_ms = lasted_ms(evidence, at_ms, since_ms, Kind.HANDOVER_STUCK, each.owner)
        if idle_ms >= policy.handover_stuck_after_ms:
            yield each, idle_ms
