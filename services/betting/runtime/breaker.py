"""Circuit breaker: stops calling a target that mostly fails, tries again a little later. Pure: the time is passed in.

    closed ──(≥ 20 calls in 60 s, ≥ 50 % failed)──► open ──(10 s)──► half-open ──(3 probes succeed)──► closed
                                                     ▲                  │
                                                     └──(a probe fails)─┘

Only what says something about the target's health counts as a failure, see `counts_as_failure`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import grpc

_TARGET_FAILURES = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
)
# What a service hands on of one shard's owner: it says nothing about the service, nor about any other shard.
_OF_ONE_SHARD = frozenset(
    {"SHARD_UNAVAILABLE", "SHARD_FROZEN", "OUTCOME_UNKNOWN", "NOT_OWNER", "BOOK_STALE", "DEADLINE_PASSED"}
)


class State(enum.Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CallOutcome(enum.Enum):
    """How a permitted call ended. NEUTRAL: no information about the target (the caller cancelled, or made an error)."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and for how long."""

    window_s: float = 60.0
    slots: int = 12
    calls_min: int = 20
    failure_ratio: float = 0.5
    open_s: float = 10.0
    probes: int = 3

    def __post_init__(self) -> None:
        assert min(self.window_s, self.slots, self.calls_min, self.open_s, self.probes) > 0
        assert 0 < self.failure_ratio <= 1


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """A breaker at one moment; totals count since the start of the process."""

    state: State
    calls_in_window: int
    failures_in_window: int
    opened_total: int
    rejected_total: int
    probes_in_flight: int


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; given back with `record`. A permit of an earlier state changes nothing in a later one."""

    generation: int
    probe: bool


class Breaker:
    """One target's breaker. Times are seconds on any clock that does not run backwards."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._window = _Window(self._policy.window_s, self._policy.slots)
        self._state = State.CLOSED
        self._generation = 0
        self._opened_at_s = 0.0
        self._probes_in_flight = 0
        self._probes_succeeded = 0
        self._opened_total = 0
        self._rejected_total = 0

    @property
    def state(self) -> State:
        """The state that the last call to `permit` or `record` left."""
        return self._state

    def permit(self, now_s: float) -> Permit | None:
        """Leave to call now, or None: do not call. Every permit must be given back with `record`, once."""
        if self._state is State.CLOSED:
            return Permit(self._generation, probe=False)
        if self._state is State.OPEN and now_s - self._opened_at_s >= self._policy.open_s:
            self._enter(State.HALF_OPEN)
        if self._state is State.HALF_OPEN and self._probes_in_flight + self._probes_succeeded < self._policy.probes:
            self._probes_in_flight += 1
            return Permit(self._generation, probe=True)
        self._rejected_total += 1
        return None

    def record(self, permit: Permit, outcome: CallOutcome, now_s: float) -> None:
        """Gives a permit back with how the call ended."""
        if permit.generation != self._generation:
            return
        if permit.probe:
            self._record_probe(outcome, now_s)
        elif outcome is not CallOutcome.NEUTRAL:
            self._window.add(now_s, failed=outcome is CallOutcome.FAILURE)
            if outcome is CallOutcome.FAILURE and self._mostly_failing():
                self._open(now_s)

    def retry_after_s(self, now_s: float) -> float:
        """Seconds until an open breaker lets a probe through; 0 unless open."""
        if self._state is not State.OPEN:
            return 0.0
        return max(0.0, self._opened_at_s + self._policy.open_s - now_s)

    def statistics(self) -> BreakerStatistics:
        """The counts, frozen."""
        return BreakerStatistics(
            state=self._state,
            calls_in_window=self._window.calls,
            failures_in_window=self._window.failures,
            opened_total=self._opened_total,
            rejected_total=self._rejected_total,
            probes_in_flight=self._probes_in_flight,
        )

    def _record_probe(self, outcome: CallOutcome, now_s: float) -> None:
        self._probes_in_flight -= 1
        if outcome is CallOutcome.FAILURE:
            self._open(now_s)
        elif outcome is CallOutcome.SUCCESS:
            self._probes_succeeded += 1
            if self._probes_succeeded >= self._policy.probes:
                self._enter(State.CLOSED)

    def _mostly_failing(self) -> bool:
        calls, failures = self._window.calls, self._window.failures
        return calls >= self._policy.calls_min and failures >= calls * self._policy.failure_ratio

    def _open(self, now_s: float) -> None:
        self._opened_at_s = now_s
        self._opened_total += 1
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._probes_in_flight = 0
        self._probes_succeeded = 0
        self._window.clear()


class _Window:
    """Counts of the last `width_s` seconds, in slots: memory and work do not grow with the call rate."""

    def __init__(self, width_s: float, slots: int) -> None:
        self._slot_s = width_s / slots
        self._calls = [0] * slots
        self._failures = [0] * slots
        self._head = 0
        self.calls = 0
        self.failures = 0

    def add(self, now_s: float, *, failed: bool) -> None:
        self._advance(int(now_s / self._slot_s))
        index = self._head % len(self._calls)
        self._calls[index] += 1
        self.calls += 1
        if failed:
            self._failures[index] += 1
            self.failures += 1

    def clear(self) -> None:
        self._calls = [0] * len(self._calls)
        self._failures = [0] * len(self._failures)
        self.calls = self.failures = 0

    def _advance(self, head: int) -> None:
        if head <= self._head:
            return
        if head - self._head >= len(self._calls):
            self.clear()
        else:
            for slot in range(self._head + 1, head + 1):
                self._drop(slot % len(self._calls))
        self._head = head

    def _drop(self, index: int) -> None:
        self.calls -= self._calls[index]
        self.failures -= self._failures[index]
        self._calls[index] = self._failures[index] = 0


def counts_as_failure(code: grpc.StatusCode, reason: str, timeout_s: float | None, objective_s: float) -> bool:
    """Whether an error says that the target is unwell. Nothing that a caller from outside can choose does.

    timeout_s: what the call was given, in seconds (None: no limit); objective_s: within how many seconds the platform
    itself means to answer methods of this class (see method.py).

    UNAVAILABLE, INTERNAL, UNKNOWN and DATA_LOSS do, except where the target hands on the word of one shard's owner.
    DEADLINE_EXCEEDED does only if the target said nothing at all for as long as the objective: a shorter deadline was
    its caller's choice. OVERLOADED does not: it says how much was asked, and the target did answer. Everything else is
    the caller's error or an ordinary answer.
    """
    if code in _TARGET_FAILURES:
        return reason not in _OF_ONE_SHARD
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and reason == code.name:
        return timeout_s is None or timeout_s >= objective_s
    return False


def outcome_of_error(code: grpc.StatusCode, reason: str, timeout_s: float | None, objective_s: float) -> CallOutcome:
    """How a call that ended with this error counts; the arguments are those of `counts_as_failure`."""
    if counts_as_failure(code, reason, timeout_s, objective_s):
        return CallOutcome.FAILURE
    if code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
        return CallOutcome.NEUTRAL
    return CallOutcome.NEUTRAL if reason == "OVERLOADED" or reason in _OF_ONE_SHARD else CallOutcome.SUCCESS
