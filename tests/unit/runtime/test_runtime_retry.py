"""Retries: the budget bounds them, jitter spreads them, the deadline ends them."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime import retry
from betting.runtime.retry import RetryBudget


def test_an_outage_costs_at_most_the_reserve_and_a_tenth_more_calls() -> None:
    """1,000 calls in one instant that all fail and all want retries: 10 saved tokens and 100 earned ones, no more."""
    budget = RetryBudget()
    granted = 0
    for _ in range(1000):
        budget.deposit()
        granted += budget.withdraw(0.0)
    assert 100 <= granted <= 110
    assert budget.statistics().refused_total == 1000 - granted


def test_an_empty_budget_fills_with_time() -> None:
    """A quiet client gets a retry every two seconds."""
    budget = RetryBudget(capacity=1.0, per_call=0.0, per_s=0.5)
    assert budget.withdraw(0.0)
    assert not budget.withdraw(1.9)
    assert budget.withdraw(2.0)


def test_a_clock_that_runs_backwards_gives_no_tokens() -> None:
    """Going back and forth between two times fills nothing twice."""
    budget = RetryBudget(capacity=1.0, per_call=0.0, per_s=0.5)
    assert budget.withdraw(10.0)
    assert not budget.withdraw(0.0)
    assert not budget.withdraw(11.0)
    assert not budget.withdraw(0.0)
    assert budget.withdraw(12.0)


@given(st.lists(st.one_of(st.none(), st.floats(0, 100, allow_nan=False)), max_size=200))
def test_tokens_stay_between_zero_and_the_capacity(steps: list[float | None]) -> None:
    """Whatever the order of calls (None) and retries (a time), the bucket neither overflows nor goes into debt."""
    budget = RetryBudget(capacity=5.0)
    for step in steps:
        if step is None:
            budget.deposit()
        else:
            budget.withdraw(step)
        assert 0.0 <= budget.statistics().tokens <= 5.0


@given(attempt=st.integers(1, 50), unit=st.floats(0, 1, exclude_max=True))
def test_backoff_lies_between_nothing_and_a_bound_that_doubles_up_to_the_cap(attempt: int, unit: float) -> None:
    """Full jitter: anything from zero to the bound."""
    bound_s = min(retry.BACKOFF_CAP_S, retry.BACKOFF_BASE_S * 2 ** (attempt - 1))
    assert 0.0 <= retry.backoff_s(attempt, unit) <= bound_s
    assert retry.backoff_s(attempt, 0.5) == pytest.approx(bound_s / 2)


def test_the_third_attempt_is_the_last() -> None:
    """Attempts one and two may be followed, the third not."""
    assert retry.pause_s(1, 10.0, 0.0) is not None
    assert retry.pause_s(2, 10.0, 0.0) is not None
    assert retry.pause_s(3, 10.0, 0.0) is None


@given(attempt=st.integers(1, 2), unit=st.floats(0, 1, exclude_max=True), remaining_s=st.floats(-1, 1, allow_nan=False))
def test_no_pause_reaches_past_the_deadline(attempt: int, unit: float, remaining_s: float) -> None:
    """A pause is only taken when time is left after it."""
    pause_s = retry.pause_s(attempt, remaining_s, unit)
    assert pause_s is None or pause_s < remaining_s


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_only_unavailable_is_tried_again(code: grpc.StatusCode) -> None:
    """Every other code is an answer, or gets worse by asking again."""
    assert retry.retriable(code) == (code is grpc.StatusCode.UNAVAILABLE)
