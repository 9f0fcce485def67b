"""Since when what follows the journal has stood still, and whether others of the same process move on."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.evidence import Evidence, counts_from
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Consumer, Observation, Phase

# Of many shards that stand at once so many are named.
NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Stall:
    """A consumer as it was seen last. since_ms: it has stood at this position with more to take in; head_moved: the
    journal has grown meanwhile; moved_ms: when it was last seen to move, -1: never."""

    name: str
    shard: int
    holder: Life | None
    position: int
    head: int
    since_ms: int
    head_moved: bool = False
    moved_ms: int = -1


Stalls = tuple[Stall, ...]


def watch(before: Stalls, consumers: Iterable[Consumer] | None, at_ms: int) -> Stalls:
    """All that are seen; the clock of one starts anew when it moves, has nothing to do, could not be seen, or its
    holder begins a new life."""
    known = {(each.name, each.shard): each for each in before}
    return tuple(_after(known.get((each.name, each.shard)), each, at_ms) for each in consumers or ())


def stuck(stalls: Stalls, evidence: Evidence, seen: Observation, policy: Policy) -> Iterator[Diagnosis]:
    """One diagnosis for each life that stands still as a whole, and one for each consumer of a life of which some
    shards are stuck: however many shards they are, a person is told once."""
    at_ms = seen.at_ms
    running = {p.life for p in seen.processes or () if p.phase is Phase.RUNNING}
    counts = {h: counts_from(evidence, Kind.CONSUMER_STUCK, h) for h in {each.holder for each in stalls}}
    lasted = {each: _stood_ms(each, counts[each.holder], at_ms) for each in stalls}
    standing = [each for each in stalls if each.head_moved and lasted[each] >= policy.stuck_after_ms]
    by_holder: dict[Life, list[Stall]] = {}
    alone: dict[tuple[str, Life | None], list[Stall]] = {}
    moved_ms: dict[tuple[str, Life | None], list[int]] = {}  # of all that one life follows under one name
    for each in stalls:
        moved_ms.setdefault((each.name, each.holder), []).append(each.moved_ms)
    moved_ms = {key: sorted(moments) for key, moments in moved_ms.items()}
    for each in standing:
        if each.holder and not _moved_since(moved_ms[each.name, each.holder], each):
            by_holder.setdefault(each.holder, []).append(each)
        else:
            alone.setdefault((each.name, each.holder), []).append(each)
    for (name, of), found in alone.items():
        longest = max(found, key=lambda each: lasted[each])
        others = _moved_since(moved_ms[name, of], longest)
        why = f"its process goes on with {others} others" if others else "its process is not known"
        target = name if of is None else f"{name} of {of.instance}"
        texts = (*_named(found), f"the longest for {lasted[longest]} ms", why)
        yield Diagnosis(Kind.CONSUMER_STUCK, target, Certainty.CONFIRMED, texts)
    for holder, found in sorted(by_holder.items()):
        texts = (f"nothing moves for {max(lasted[each] for each in found)} ms", *_named(found))
        certainty = Certainty.CANNOT_TELL
        if len(by_holder) > 1:
            texts = (*texts, f"but {len(by_holder)} processes stand still at once")
        elif holder not in running:
            texts = (*texts, "but it is not known to be running")
        else:
            certainty = Certainty.CONFIRMED
        yield Diagnosis(Kind.CONSUMER_STUCK, holder.instance, certainty, texts, holder)


def _moved_since(moved_ms: Sequence[int], each: Stall) -> int:
    """How many of the same consumer and life have moved since this one stands. moved_ms: ascending."""
    return len(moved_ms) - bisect.bisect_right(moved_ms, each.since_ms)


def _named(found: Sequence[Stall]) -> tuple[str, ...]:
    named = tuple(f"{e.name} of shard {e.shard} at {e.position} of {e.head}" for e in found[:NAMED_MAX])
    more = len(found) - len(named)
    return (*named, f"and {more} more shards") if more else named


def never_moved(stalls: Stalls) -> frozenset[Life]:
    """Lives with something to take in of which nothing has moved since they began to follow it."""
    moved = {each.holder for each in stalls if each.moved_ms >= 0}
    behind = (each.holder for each in stalls if each.position < each.head)
    return frozenset(holder for holder in behind if holder is not None and holder not in moved)


def _stood_ms(each: Stall, counts_ms: int | None, at_ms: int) -> int:
    return 0 if counts_ms is None else at_ms - max(each.since_ms, counts_ms)


def _after(last: Stall | None, now: Consumer, at_ms: int) -> Stall:
    if last is None or last.holder != now.holder:
        return Stall(now.name, now.shard, now.holder, now.position, now.head, at_ms)
    moved = last.position != now.position
    moved_ms = at_ms if moved else last.moved_ms
    if moved or now.position >= now.head or last.position >= last.head:
        return Stall(now.name, now.shard, now.holder, now.position, now.head, at_ms, moved_ms=moved_ms)
    grown = last.head_moved or now.head > last.head
    return Stall(now.name, now.shard, now.holder, now.position, now.head, last.since_ms, grown, moved_ms)
