"""The circuit breaker against a plain model, and each of its rules alone."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from betting.runtime.breaker import (
    Breaker,
    BreakerPolicy,
    CallOutcome,
    Permit,
    State,
    counts_as_failure,
    outcome_of_error,
)


def _call(breaker: Breaker, outcome: CallOutcome, now_s: float) -> None:
    permit = breaker.permit(now_s)
    assert permit is not None
    breaker.record(permit, outcome, now_s)


def _state(breaker: Breaker) -> State:
    return breaker.statistics().state


def _opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(20):
        _call(breaker, CallOutcome.FAILURE, now_s)
    return breaker


def test_nineteen_failures_are_not_enough_to_open() -> None:
    """Below the minimum number of calls nothing is concluded; the twentieth opens it."""
    breaker = Breaker()
    for _ in range(19):
        _call(breaker, CallOutcome.FAILURE, 0.0)
    assert _state(breaker) is State.CLOSED
    _call(breaker, CallOutcome.FAILURE, 0.0)
    assert _state(breaker) is State.OPEN
    assert breaker.permit(0.0) is None


def test_opens_at_half_and_not_below() -> None:
    """11 successes and 10 failures stay closed (47.6 %); one more failure makes half."""
    breaker = Breaker()
    for _ in range(11):
        _call(breaker, CallOutcome.SUCCESS, 0.0)
    for _ in range(10):
        _call(breaker, CallOutcome.FAILURE, 0.0)
    assert _state(breaker) is State.CLOSED
    _call(breaker, CallOutcome.FAILURE, 0.0)
    assert _state(breaker) is State.OPEN


def test_failures_older_than_the_window_are_forgotten() -> None:
    """19 failures, a pause of a window and one more failure: nothing to conclude."""
    breaker = Breaker()
    for _ in range(19):
        _call(breaker, CallOutcome.FAILURE, 0.0)
    _call(breaker, CallOutcome.FAILURE, 61.0)
    assert _state(breaker) is State.CLOSED
    assert breaker.statistics().calls_in_window == 1


def test_failures_leave_the_window_slot_by_slot() -> None:
    """Calls 40 s apart share a window of 60 s; those 80 s apart do not."""
    breaker = Breaker()
    for at_s in (0.0, 40.0, 80.0):
        for _ in range(5):
            _call(breaker, CallOutcome.SUCCESS, at_s)
    assert breaker.statistics().calls_in_window == 10


def test_open_lets_nothing_through_for_ten_seconds_then_three_probes() -> None:
    """After the pause exactly three calls pass until one of them has ended."""
    breaker = _opened(100.0)
    assert breaker.permit(109.9) is None
    assert breaker.retry_after_s(104.0) == pytest.approx(6.0)
    probes = [breaker.permit(110.0) for _ in range(3)]
    assert all(probe is not None and probe.probe for probe in probes)
    assert breaker.permit(110.0) is None
    assert _state(breaker) is State.HALF_OPEN


def test_three_good_probes_close_it_with_an_empty_window() -> None:
    """Closed again, the failures that opened it count no more."""
    breaker = _opened()
    for _ in range(3):
        _call(breaker, CallOutcome.SUCCESS, 10.0)
    assert _state(breaker) is State.CLOSED
    assert breaker.statistics().calls_in_window == 0
    assert breaker.statistics().opened_total == 1


def test_one_bad_probe_opens_it_again_for_the_full_time() -> None:
    """A failed probe starts a new pause, and probes still on their way are ignored when they return."""
    breaker = _opened()
    late, bad = breaker.permit(10.0), breaker.permit(10.0)
    assert late is not None
    assert bad is not None
    breaker.record(bad, CallOutcome.FAILURE, 12.0)
    assert breaker.permit(21.9) is None
    breaker.record(late, CallOutcome.SUCCESS, 21.9)
    assert _state(breaker) is State.OPEN
    assert breaker.statistics().probes_in_flight == 0
    assert breaker.permit(22.0) is not None


def test_a_late_probe_does_not_count_for_the_next_round() -> None:
    """A probe of the first half-open round that returns in the second is not one of its three."""
    breaker = _opened()
    late, bad = breaker.permit(10.0), breaker.permit(10.0)
    assert late is not None
    assert bad is not None
    breaker.record(bad, CallOutcome.FAILURE, 10.0)
    for _ in range(2):
        _call(breaker, CallOutcome.SUCCESS, 20.0)
    breaker.record(late, CallOutcome.SUCCESS, 20.0)
    assert _state(breaker) is State.HALF_OPEN
    _call(breaker, CallOutcome.SUCCESS, 20.0)
    assert _state(breaker) is State.CLOSED


def test_a_probe_whose_caller_gave_up_frees_its_place() -> None:
    """A neutral probe neither opens nor closes, and another may be made: half-open is no dead end."""
    breaker = _opened()
    for _ in range(10):
        _call(breaker, CallOutcome.NEUTRAL, 10.0)
    assert _state(breaker) is State.HALF_OPEN
    for _ in range(3):
        _call(breaker, CallOutcome.SUCCESS, 10.0)
    assert _state(breaker) is State.CLOSED


def test_calls_begun_before_it_opened_change_nothing_after() -> None:
    """A permit of the closed state that fails while half-open does not reopen it, however little it takes to open."""
    breaker = Breaker(BreakerPolicy(calls_min=1))
    early = breaker.permit(0.0)
    assert early is not None
    _call(breaker, CallOutcome.FAILURE, 0.0)
    assert breaker.permit(10.0) is not None
    breaker.record(early, CallOutcome.FAILURE, 10.0)
    assert _state(breaker) is State.HALF_OPEN


_CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "reason", "timeout_s", "expected"),
    [
        (_CODE.UNAVAILABLE, "X", 1.0, CallOutcome.FAILURE),
        (_CODE.INTERNAL, "X", 1.0, CallOutcome.FAILURE),
        (_CODE.UNKNOWN, "X", 1.0, CallOutcome.FAILURE),
        (_CODE.DATA_LOSS, "X", 1.0, CallOutcome.FAILURE),
        (_CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 0.5, CallOutcome.FAILURE),
        (_CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", None, CallOutcome.FAILURE),
        (_CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 0.105, CallOutcome.NEUTRAL),
        (_CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 0.499, CallOutcome.NEUTRAL),
        (_CODE.DEADLINE_EXCEEDED, "DEADLINE_IN_QUEUE", 1.0, CallOutcome.NEUTRAL),
        (_CODE.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN", 1.0, CallOutcome.NEUTRAL),
        (_CODE.UNAVAILABLE, "OUTCOME_UNKNOWN", 1.0, CallOutcome.NEUTRAL),
        (_CODE.UNAVAILABLE, "SHARD_UNAVAILABLE", 0.1, CallOutcome.NEUTRAL),
        (_CODE.UNAVAILABLE, "SHARD_FROZEN", 1.0, CallOutcome.NEUTRAL),
        (_CODE.RESOURCE_EXHAUSTED, "OVERLOADED", 1.0, CallOutcome.NEUTRAL),
        (_CODE.RESOURCE_EXHAUSTED, "RATE_LIMITED", 1.0, CallOutcome.SUCCESS),
        (_CODE.CANCELLED, "X", 1.0, CallOutcome.NEUTRAL),
        (_CODE.INVALID_ARGUMENT, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.NOT_FOUND, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.ALREADY_EXISTS, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.UNAUTHENTICATED, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.PERMISSION_DENIED, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.FAILED_PRECONDITION, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.ABORTED, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.OUT_OF_RANGE, "X", 1.0, CallOutcome.SUCCESS),
        (_CODE.UNIMPLEMENTED, "X", 1.0, CallOutcome.SUCCESS),
    ],
)
def test_which_errors_say_that_the_target_is_unwell(
    code: grpc.StatusCode, reason: str, timeout_s: float | None, expected: CallOutcome
) -> None:
    """The callers' own errors never count against a target, nor do deadlines below its objective, nor one shard."""
    assert outcome_of_error(code, reason, timeout_s, 0.5) is expected
    assert counts_as_failure(code, reason, timeout_s, 0.5) == (expected is CallOutcome.FAILURE)


class BreakerMachine(RuleBasedStateMachine):
    """Random calls, outcomes and pauses; after each step what must always be true is checked from outside."""

    policy = BreakerPolicy(window_s=60.0, slots=12, calls_min=4, failure_ratio=0.5, open_s=10.0, probes=2)

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(self.policy)
        self.now_s = 0.0
        self.out: list[Permit] = []
        self.opened_at_s: float | None = None
        # Every result in the closed state since it was entered: (when, failed).
        self.results: list[tuple[float, bool]] = []

    def _note_change(self, before: State) -> None:
        after = self.breaker.state
        if after is State.OPEN and before is not State.OPEN:
            self.opened_at_s = self.now_s
        if after is not before:
            self.results = []

    @rule(seconds=st.floats(0.0, 30.0, allow_nan=False))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        permit = self.breaker.permit(self.now_s)
        if before is State.CLOSED:
            assert permit is not None
            assert not permit.probe
        if before is State.OPEN:
            assert self.opened_at_s is not None
            assert (permit is not None) == (self.now_s - self.opened_at_s >= self.policy.open_s)
        if permit is not None:
            self.out.append(permit)
        self._note_change(before)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(CallOutcome))
    def end(self, data: st.DataObject, outcome: CallOutcome) -> None:
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before, opened_before = self.breaker.state, self.breaker.statistics().opened_total
        current = permit.generation == self.breaker._generation
        self.breaker.record(permit, outcome, self.now_s)
        if before is State.CLOSED and current and outcome is not CallOutcome.NEUTRAL:
            self.results.append((self.now_s, outcome is CallOutcome.FAILURE))
            self._check_closed(outcome)
        if not current:
            assert self.breaker.state is before
        assert self.breaker.statistics().opened_total - opened_before == (
            self.breaker.state is State.OPEN and before is not State.OPEN
        )
        self._note_change(before)

    def _check_closed(self, outcome: CallOutcome) -> None:
        """Slots make the edge of the window fuzzy by one slot (5 s): the verdict lies between the two exact ones."""
        wide = [failed for at_s, failed in self.results if at_s > self.now_s - 60.0]
        sure = [failed for at_s, failed in self.results if at_s > self.now_s - 55.0]
        if self.breaker.state is State.OPEN:
            assert outcome is CallOutcome.FAILURE
            assert len(wide) >= self.policy.calls_min
            assert any(wide)
        elif len(sure) == len(wide) and outcome is CallOutcome.FAILURE:
            assert len(sure) < self.policy.calls_min or sum(sure) * 2 < len(sure)

    @invariant()
    def bounds_hold(self) -> None:
        statistics = self.breaker.statistics()
        assert 0 <= statistics.failures_in_window <= statistics.calls_in_window
        assert 0 <= statistics.probes_in_flight <= self.policy.probes
        current_probes = [p for p in self.out if p.probe and p.generation == self.breaker._generation]
        assert len(current_probes) == statistics.probes_in_flight


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
