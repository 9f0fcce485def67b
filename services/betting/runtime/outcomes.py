"""What this process experiences with those it calls, for the healer: one vantage point of many. A few additions a call.

Answered: anything the other side said itself, a refusal too. Unanswered: it did not answer in time, or cannot be
reached. What our own caller gave up says nothing.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from enum import Enum
from typing import Final

from betting.runtime.breaker import counts_as_failure
from betting.runtime.errors import ServiceError
from betting.runtime.metrics import LATENCY_BUCKETS_S

WINDOW_S: Final = 10.0
SLOTS: Final = 5
_SLOT_S: Final = WINDOW_S / SLOTS
_P90: Final = 0.9

# Reasons that are ours: the other side said nothing. See remote_errors.
_NOT_SAID: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
_NOTHING: Final = frozenset({"CANCELLED", "CHANNEL_CLOSED"})


class End(Enum):
    """How a call ended."""

    ANSWERED = "answered"
    FAILED = "failed"  # answered with an error that says it is unwell
    UNANSWERED = "unanswered"
    GIVEN_UP = "given-up"


def end_of(error: ServiceError, timeout_s: float) -> End:
    """How a call ended that was given this long and raised this."""
    if error.reason in _NOTHING:
        return End.GIVEN_UP
    failed = counts_as_failure(error.code, error.reason, timeout_s)
    if error.reason in _NOT_SAID:
        return End.UNANSWERED if failed else End.GIVEN_UP
    return End.FAILED if failed else End.ANSWERED


@dataclass(frozen=True, slots=True)
class Experience:
    """One callee at one moment.

    calls, failures, p90_s: of those that ended within the window, unanswered ones included (p90_s: the upper bound of
    its bucket). unanswered: asked since its last answer, calls in flight included; silent_s: since the first of these.
    answered_ago_s: since its last answer; None: it never gave one.
    """

    address: str
    calls: int
    failures: int
    p90_s: float
    unanswered: int
    silent_s: float
    answered_ago_s: float | None


class Outcomes:
    """One callee. Times are seconds on any clock that does not run backwards."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._in_flight = 0
        self._unanswered = 0
        self._waiting_since_s = 0.0
        self._asked_at_s = 0.0
        self._answered_at_s: float | None = None
        self._slot = 0
        self._failures = [0] * SLOTS
        self._buckets = [[0] * (len(LATENCY_BUCKETS_S) + 1) for _ in range(SLOTS)]

    def began(self, now_s: float) -> None:
        """A call is on its way. Every one ends with `ended`."""
        if self._in_flight == 0 and self._unanswered == 0:
            self._waiting_since_s = now_s
        self._asked_at_s = now_s
        self._in_flight += 1

    def ended(self, end: End, now_s: float, seconds: float) -> None:
        """It took so long to end like this."""
        self._in_flight -= 1
        if end is End.GIVEN_UP:
            return
        if end is End.UNANSWERED:
            self._unanswered += 1
        else:
            self._unanswered = 0
            self._answered_at_s = self._waiting_since_s = now_s
        index = self._now_in(now_s)
        self._buckets[index][bisect.bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        if end is not End.ANSWERED:
            self._failures[index] += 1

    def experience(self, now_s: float) -> Experience:
        """The figures. Who has not been asked for a window is not silent: nobody knows."""
        self._now_in(now_s)
        counts = [sum(column) for column in zip(*self._buckets, strict=True)]
        waited_for = self._in_flight + self._unanswered
        forgotten = not self._in_flight and now_s - self._asked_at_s > WINDOW_S
        silent = waited_for > 0 and not forgotten
        return Experience(
            address=self.address,
            calls=sum(counts),
            failures=sum(self._failures),
            p90_s=_percentile(counts),
            unanswered=waited_for if silent else 0,
            silent_s=now_s - self._waiting_since_s if silent else 0.0,
            answered_ago_s=None if self._answered_at_s is None else now_s - self._answered_at_s,
        )

    def _now_in(self, now_s: float) -> int:
        """The slot of this moment; those that went by since are empty."""
        slot = int(now_s / _SLOT_S)
        for passed in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            self._failures[passed % SLOTS] = 0
            self._buckets[passed % SLOTS] = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._slot = max(slot, self._slot)
        return self._slot % SLOTS


class Callees:
    """Everybody this process calls: one record for each connection."""

    def __init__(self) -> None:
        self._known: dict[Outcomes, None] = {}

    def opened(self, address: str) -> Outcomes:
        """The record of a new connection, kept until it is `closed`."""
        outcomes = Outcomes(address)
        self._known[outcomes] = None
        return outcomes

    def closed(self, outcomes: Outcomes) -> None:
        """Nobody is called through it any more."""
        self._known.pop(outcomes, None)

    def experiences(self, now_s: float) -> list[Experience]:
        """All of them at this moment."""
        return [outcomes.experience(now_s) for outcomes in self._known]


def _percentile(counts: list[int]) -> float:
    """0 without a call; what is beyond the last bound counts as that bound."""
    left = sum(counts) * _P90
    for bound, count in zip(LATENCY_BUCKETS_S, counts, strict=False):
        left -= count
        if left <= 0 and count:
            return bound
    return LATENCY_BUCKETS_S[-1] if sum(counts) else 0.0
