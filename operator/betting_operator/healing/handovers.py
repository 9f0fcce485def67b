"""Hand-overs in progress, and which side blocks one: the owner that keeps the shard, or the new owner that does not
take it. Who took nothing of what was released for it gets no shards for a while, unless there is nobody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from betting.life import Life
from betting_operator.healing.actions import Action, ForceRelease
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, lasted_ms
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Database, Observation, Shard

# After that a bet-service that took nothing is given shards again. Longer than owners themselves give it none
# (`betting.bets.directory_view`): what is wanted of them then they do.
REFUSED_FOR_MS = 30_000


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
class Refusal:
    """A bet-service that took none of the shards released for it, and how many it had then. at_ms: last seen so."""

    life: Life
    count: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class HandOvers:
    """All hand-overs in progress. refusals: not over yet, one for each life."""

    waiting: tuple[HandOver, ...] = ()
    held: tuple[Held, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def refusing(self) -> frozenset[Life]:
        """Who should get no shards now."""
        return frozenset(each.life for each in self.refusals)


def watch(before: HandOvers, seen: Observation, dead: Collection[Life]) -> HandOvers:
    """After one more look. Between the living only: shards of the dead and leaving are placed, not handed over."""
    if seen.shards is None or seen.owners is None or seen.database is not Database.OK:
        return HandOvers(refusals=before.refusals)
    living = {owner.life for owner in seen.owners if not owner.exited and owner.life not in dead}
    counts = Counter(shard.owner for shard in seen.shards if shard.owner is not None)
    known = {(each.owner, each.count): each for each in before.held}
    held = tuple(known.get((life, counts[life]), Held(life, counts[life], seen.at_ms)) for life in sorted(living))
    refusals = tuple(
        each
        for each in before.refusals
        if each.life in living and counts[each.life] <= each.count and seen.at_ms - each.at_ms < REFUSED_FOR_MS
    )
    refusing = {each.life for each in refusals}
    under_way = {(each.shard, each.owner, each.epoch, each.to): each for each in before.waiting}
    rows = [row for row in seen.shards if _under_way(row, living)]
    not_taken = {row.desired_owner for row in rows if row.owner is None}
    waiting = []
    for row in rows:
        if row.desired_owner is not None:
            new = HandOver(row.shard, row.owner, row.epoch, row.desired_owner, seen.at_ms)
            # An owner gives nothing more to who has not taken what it was given before: that is no time of its own.
            waits = row.owner is not None and row.desired_owner in not_taken | refusing
            waiting.append(new if waits else under_way.get((new.shard, new.owner, new.epoch, new.to), new))
    return HandOvers(tuple(waiting), held, refusals)


def remember(handovers: HandOvers, evidence: Evidence, at_ms: int, policy: Policy) -> HandOvers:
    """With those that refuse now: what was released for them has waited too long."""
    counts = {each.owner: each.count for each in handovers.held}
    known = {each.life: each for each in handovers.refusals}
    for each, _idle_ms in _without_progress(handovers, evidence, at_ms, policy):
        if each.owner is None:
            known[each.to] = Refusal(each.to, counts.get(each.to, 0), at_ms)
    return replace(handovers, refusals=tuple(known[life] for life in sorted(known)))


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
    """Shards to take from owners that do not hand them over, and shards that no other instance can take.

    eligible: possible owners. Those released for who does not take them are placed like all others without an owner. By
    force one at a time for each receiver: should it not take that one, the others are still served.
    """
    actions: list[Action] = []
    left: list[int] = []
    given: set[Life] = set()
    for each, _idle_ms in _without_progress(handovers, evidence, seen.at_ms, policy):
        if each.owner is None:
            if not any(life != each.to for life in eligible):
                left.append(each.shard)
        elif each.to not in eligible:
            left.append(each.shard)
        elif each.to not in given:
            given.add(each.to)
            actions.append(ForceRelease(each.shard, each.owner, each.epoch, seen.term))
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
