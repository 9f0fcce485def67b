"""Statistics of the calls of this process to other processes, as evidence for the healer. A few additions per call.

Answered: any reply of the called process itself, errors included. Unanswered: no reply within the objective of the
method, or no connection. Calls with a shorter deadline than the objective, and calls that our own caller cancelled, are
not counted: clients outside the platform choose both.

A record is about one life, never about an address: replies name the life that sent them, and when another life answers,
the record starts again. Until it is known which life a connection leads to, its record is about no life.
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
class CallStatistics:
    """The calls over one connection, at one moment.

    life: the life that the numbers are about. None: there was no reply yet, or several lives have replied within the
    window, as behind a load balancer, so that it is not known which one an unanswered call was meant for. calls,
    failures, p90_s: of the calls that ended within the window, unanswered ones included (p90_s: the upper bound of its
    bucket). unanswered: calls started since the last reply that ended without one, and calls in flight for longer than
    their objective. silent_s: since the first of these was started or, if that was later, since the last reply.
    answered_ago_s: since the last reply; None: there was none.
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
    """Records the calls over one connection. life: the called life, if it is known before the first reply.

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
        """Starts an empty record of a life. Calls that were sent before count only if this life answers them."""
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
        """Records the start of a call. Returns its number, for `ended`; every call must end with `ended`.

        objective_s: the objective of the class of its method, in seconds.
        """
        self._number += 1
        self._in_flight[self._number] = (now_s, now_s + objective_s)
        return self._number

    def ended(self, number: int, end: End, now_s: float, named: Life | None = None) -> None:
        """Records the end of a call. named: the life that answered it, if the reply named one."""
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

    def statistics(self, now_s: float) -> CallStatistics:
        """The statistics at this moment.

        A life is silent only if a call to it remained unanswered within the window.
        """
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
        return CallStatistics(
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
        """Another life answers.

        A life that ended never comes back: if an earlier one answers again, both are running.
        """
        before = {life: at_s for life, at_s in self._before.items() if now_s - at_s <= WINDOW_S}
        if named in before:
            self._several_at_s = now_s
        if self._life is not None and self._answered_at_s is not None:
            before[self._life] = self._answered_at_s
        self._before = before
        self._begin(named)

    def _now_in(self, now_s: float) -> int:
        """The slot of this moment; empties the slots that have passed since."""
        slot = int(now_s / _SLOT_S)
        for passed in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            self._failures[passed % SLOTS] = 0
            self._buckets[passed % SLOTS] = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._slot = max(slot, self._slot)
        return self._slot % SLOTS


class PeerRecords:
    """The records of all processes that this process calls: one for each connection."""

    def __init__(self) -> None:
        self._known: dict[Outcomes, None] = {}

    def opened(self, address: str, life: Life | None = None) -> Outcomes:
        """Adds a record for a new connection, kept until `closed`. life: the called life, if it is known."""
        outcomes = Outcomes(address, life)
        self._known[outcomes] = None
        return outcomes

    def closed(self, outcomes: Outcomes) -> None:
        """Removes the record of a closed connection."""
        self._known.pop(outcomes, None)

    def statistics(self, now_s: float) -> list[CallStatistics]:
        """The statistics of every connection at this moment."""
        return [outcomes.statistics(now_s) for outcomes in self._known]


def _percentile(counts: list[int]) -> float:
    """The 90th percentile in seconds; 0 without a call. Calls above the last bucket count as its bound."""
    left = sum(counts) * _P90
    for bound, count in zip(LATENCY_BUCKETS_S, counts, strict=False):
        left -= count
        if left <= 0 and count:
            return bound
    return LATENCY_BUCKETS_S[-1] if sum(counts) else 0.0
