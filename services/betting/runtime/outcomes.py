"""What this process experiences with those it calls, for the healer: one vantage point of many. A few additions a call.

Answered: anything the other side said itself, a refusal too. Unanswered: it did not answer within the platform's own
objective for the method, or cannot be reached. A deadline shorter than the objective, and what our own caller gave up,
say nothing: outsiders choose them.

A record is about a life, never about an address: replies name the life that gave them, and when another one answers the
record begins anew. While nobody knows whom a connection leads to, its record is about no life.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from enum import Enum
from typing import Final

from betting.life import Life
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


def end_of(error: ServiceError, timeout_s: float, objective_s: float) -> End:
    """How a call ended that was given `timeout_s` seconds, of a class with this objective, and raised this."""
    if error.reason in _NOTHING:
        return End.GIVEN_UP
    failed = counts_as_failure(error.code, error.reason, timeout_s, objective_s)
    if error.reason in _NOT_SAID:
        return End.UNANSWERED if failed else End.GIVEN_UP
    return End.FAILED if failed else End.ANSWERED


@dataclass(frozen=True, slots=True)
class Experience:
    """One callee at one moment.

    life: whom it is about; None: nobody has answered yet, or several lives have in turn within the window, as behind a
    load balancer: whom a call without an answer was meant for is not known. calls, failures, p90_s: of those that ended
    within the window, unanswered ones included (p90_s: the upper bound of its bucket). unanswered: asked since its last
    answer, and calls in flight for longer than their objective; silent_s: since the first of these was asked or, if
    that was later, the last answer came. answered_ago_s: since its last answer; None: it never gave one.
    """

    address: str
    calls: int
    failures: int
    p90_s: float
    unanswered: int
    silent_s: float
    answered_ago_s: float | None
    life: Life | None = None


class Outcomes:
    """One callee. life: the one that is called, if that is known before it answers.

    Times are seconds on any clock that does not run backwards.
    """

    def __init__(self, address: str, life: Life | None = None) -> None:
        self.address = address
        # By number, the oldest first: when each began, and from when on it is overdue.
        self._in_flight: dict[int, tuple[float, float]] = {}
        self._number = 0
        # Lives that answered before this one, and when last; when one of them answered again.
        self._before: dict[Life, float] = {}
        self._several_at_s: float | None = None
        self._begin(life)

    def _begin(self, life: Life | None) -> None:
        """The record of a life, with nothing in it. Calls sent before that count only if it answers them itself."""
        self._life = life
        self._sent_before = self._number
        self._unanswered = 0
        self._unanswered_since_s = 0.0
        self._asked_at_s = 0.0  # when the latest call began that was not answered
        self._answered_at_s: float | None = None
        self._slot = 0
        self._failures = [0] * SLOTS
        self._buckets = [[0] * (len(LATENCY_BUCKETS_S) + 1) for _ in range(SLOTS)]

    def began(self, now_s: float, objective_s: float) -> int:
        """A call is on its way that the platform means to answer within `objective_s` seconds: its number, for `ended`.

        Every call ends with `ended`.
        """
        self._number += 1
        self._in_flight[self._number] = (now_s, now_s + objective_s)
        return self._number

    def ended(self, number: int, end: End, now_s: float, named: Life | None = None) -> None:
        """The call of this number ended like this. named: the life that answered it, if the reply says so."""
        began_s, _ = self._in_flight.pop(number)
        if named is not None and named != self._life:
            self._another(named, now_s)
        if end is End.GIVEN_UP or (named is None and number <= self._sent_before):
            return
        if end is End.UNANSWERED:
            if self._unanswered == 0 or began_s < self._unanswered_since_s:
                self._unanswered_since_s = began_s
            self._unanswered += 1
            self._asked_at_s = max(self._asked_at_s, began_s)
        else:
            self._unanswered = 0
            self._answered_at_s = now_s
        seconds = now_s - began_s
        index = self._now_in(now_s)
        self._buckets[index][bisect.bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        if end is not End.ANSWERED:
            self._failures[index] += 1

    def experience(self, now_s: float) -> Experience:
        """The figures. Who has not been asked in vain for a window is not silent: nobody knows."""
        self._now_in(now_s)
        counts = [sum(column) for column in zip(*self._buckets, strict=True)]
        overdue = [
            began_s
            for number, (began_s, overdue_s) in self._in_flight.items()
            if overdue_s <= now_s and number > self._sent_before
        ]
        waited_for = len(overdue) + self._unanswered
        forgotten = not overdue and now_s - self._asked_at_s > WINDOW_S
        silent = waited_for > 0 and not forgotten
        since_s = min(overdue, default=now_s)
        if self._unanswered:
            since_s = min(since_s, self._unanswered_since_s)
        if self._answered_at_s is not None:
            since_s = max(since_s, self._answered_at_s)
        several = self._several_at_s is not None and now_s - self._several_at_s <= WINDOW_S
        return Experience(
            address=self.address,
            life=None if several else self._life,
            calls=sum(counts),
            failures=sum(self._failures),
            p90_s=_percentile(counts),
            unanswered=waited_for if silent else 0,
            silent_s=now_s - since_s if silent else 0.0,
            answered_ago_s=None if self._answered_at_s is None else now_s - self._answered_at_s,
        )

    def _another(self, named: Life, now_s: float) -> None:
        """A life answers that the record is not about. A life that ended never comes back: if it does, both live."""
        before = {life: at_s for life, at_s in self._before.items() if now_s - at_s <= WINDOW_S}
        if named in before:
            self._several_at_s = now_s
        if self._life is not None and self._answered_at_s is not None:
            before[self._life] = self._answered_at_s
        self._before = before
        self._begin(named)

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

    def opened(self, address: str, life: Life | None = None) -> Outcomes:
        """The record of a new connection, kept until it is `closed`. life: whom it leads to, where that is known."""
        outcomes = Outcomes(address, life)
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
