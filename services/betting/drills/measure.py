"""The effect of each fault on bettors, computed from their bets. Pure; times are seconds on one monotonic clock."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from betting.drills.target import Tick

ACCEPTED = "accepted"
UNANSWERED = "no answer"
DELAYED_S = 1.0


@dataclass(slots=True)
class Attempt:
    """One bet from first try to definite answer. `outcome` is ACCEPTED, a refusal's name, or UNANSWERED.

    `acknowledged`: its definite answer was written down, so the journal must have it under `request_key`. `problem` is
    why the latest try had no answer. `limited`: a try was refused because this bettor asks too much, which nobody but
    the bettor is to blame for. `past_closing_s`: of a refused bet, how long before its answer the leg that the refusal
    is about had closed, by the bettor's clock; negative: it had not.
    """

    shard: int
    sent_s: float
    answered_s: float | None = None
    outcome: str = UNANSWERED
    tries: int = 0
    request_key: str = ""
    acknowledged: bool = False
    problem: str = ""
    limited: bool = False
    past_closing_s: float | None = None


class Mark(NamedTuple):
    """From this time on a part of the platform works, or does not."""

    at_s: float
    works: bool


@dataclass(frozen=True)
class Window:
    """The time that a fault is judged over. budget_s: within which its part should be back; None: there is none.

    part: what the fault takes away, a key of the marks; "": bets alone tell.
    """

    name: str
    fault_s: float
    until_s: float
    budget_s: float | None = None
    part: str = ""
    fault_us: int = 0  # of the wall clock
    by_hand: bool = False


@dataclass(frozen=True)
class FaultResult:
    """What a fault did; durations in seconds after it.

    worst_s: the longest that any shard accepted no bet; None: a shard did not come back. part_s: until the part that
    it took away worked again; None: not within watched_s. healed_s: until everything did. detected_s: until the healer
    confirmed something; None: it did not. by_hand: a person put it right.
    """

    name: str
    worst_shard: int | None
    worst_s: float | None
    accepted: int
    delayed: int
    refused: Counter[str]
    unanswered: int
    lost: int = 0
    budget_s: float | None = None
    part: str = ""
    part_s: float | None = None
    healed_s: float | None = None
    detected_s: float | None = None
    watched_s: float = 0.0
    by_hand: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the part recovered within its budget, or there is no budget."""
        return self.budget_s is None or (self.part_s is not None and self.part_s <= self.budget_s)


def judge(
    window: Window,
    attempts: Sequence[Attempt],
    shards: Sequence[int],
    missing: Collection[str] = frozenset(),
    marks: Mapping[str, Sequence[Mark]] | None = None,
    detected_s: float | None = None,
) -> FaultResult:
    """Everything about one fault, over these shards.

    missing: request keys that the journal does not have; marks: when which part of the platform worked.
    """
    backs = {part: back_s(found, window) for part, found in (marks or {}).items()}
    outages = {shard: outage_s(_accepted_times(attempts, shard), window) for shard in shards}
    worst = max(outages, key=lambda shard: float("inf") if (gap := outages[shard]) is None else gap, default=None)
    worst_s = None if worst is None else outages[worst]
    inside = [each for each in attempts if window.fault_s <= each.sent_s < window.until_s]
    return FaultResult(
        name=window.name,
        budget_s=window.budget_s,
        part=window.part,
        part_s=backs.get(window.part, worst_s),
        healed_s=_latest([worst_s, *backs.values()]),
        detected_s=detected_s,
        watched_s=window.until_s - window.fault_s,
        by_hand=window.by_hand,
        worst_shard=worst,
        worst_s=worst_s,
        accepted=sum(each.outcome == ACCEPTED for each in inside),
        delayed=sum(_is_delayed(each, window) for each in attempts),
        refused=Counter(each.outcome for each in inside if each.outcome not in {ACCEPTED, UNANSWERED}),
        unanswered=sum(each.outcome == UNANSWERED for each in inside),
        lost=sum(each.acknowledged and each.request_key in missing for each in inside),
    )


def back_s(marks: Sequence[Mark], window: Window) -> float | None:
    """From the fault until a part worked again; 0 if it always did, None if it still did not at the end."""
    inside = [mark for mark in marks if mark.at_s < window.until_s]
    if not inside or not inside[-1].works:
        return None
    return max(0.0, inside[-1].at_s - window.fault_s)


def _latest(durations_s: Sequence[float | None]) -> float | None:
    """The longest; None means never, which is longer than any."""
    known = [each for each in durations_s if each is not None]
    return max(known, default=0.0) if len(known) == len(durations_s) else None


def outage_s(accepted_s: Sequence[float], window: Window) -> float | None:
    """The longest time without an accepted bet from the fault on; None if it had not ended within the window.

    The longest gap, not the first bet after the fault: a bet already on its way when a process is killed, or one
    accepted before a pause bites, does not count as recovery.
    """
    inside = [at for at in accepted_s if window.fault_s <= at < window.until_s]
    gaps = [after - before for before, after in pairwise([window.fault_s, *inside])]
    last = window.until_s - (inside[-1] if inside else window.fault_s)
    longest = max(gaps, default=0.0)
    return None if last > max(longest, DELAYED_S) else longest


def detections_s(ticks: Iterable[Tick], faults_us: Sequence[int]) -> list[float | None]:
    """For moments in ascending order (microseconds since 1970): seconds until something new was confirmed, or None.

    What was confirmed after the next moment is the next one's.
    """
    found: list[float | None] = [None] * len(faults_us)
    standing: frozenset[tuple[str, str]] = frozenset()
    for tick in ticks:
        number = bisect.bisect_right(faults_us, tick.wall_us) - 1
        if number >= 0 and found[number] is None and tick.confirmed - standing:
            found[number] = (tick.wall_us - faults_us[number]) / 1e6
        standing = tick.confirmed
    return found


def _accepted_times(attempts: Sequence[Attempt], shard: int) -> list[float]:
    return sorted(
        each.answered_s
        for each in attempts
        if each.shard == shard and each.outcome == ACCEPTED and each.answered_s is not None
    )


def _is_delayed(attempt: Attempt, window: Window) -> bool:
    """Took over a second, and some of that within the window."""
    if attempt.sent_s >= window.until_s:
        return False
    ended_s = window.until_s if attempt.answered_s is None else attempt.answered_s
    return ended_s >= window.fault_s and ended_s - attempt.sent_s > DELAYED_S
