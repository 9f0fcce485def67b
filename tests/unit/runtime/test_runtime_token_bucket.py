"""The token bucket: so many at once, so many a second, and a debt is paid off with time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.runtime.token_bucket import TokenBucket


def test_a_full_bucket_gives_its_capacity_at_once_and_then_its_rate() -> None:
    """Three at once, then one each half second."""
    bucket = TokenBucket(per_s=2.0, capacity=3.0, now_s=100.0)
    assert [bucket.take(1, 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1, 100.25) == 0.25
    assert bucket.take(1, 100.5) == 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6)), max_size=200))
def test_whatever_the_pattern_no_more_than_capacity_and_rate_is_taken(steps: list[tuple[float, int]]) -> None:
    """A request above the capacity is let through only by a full bucket, which pays it off."""
    bucket, now_s, taken = TokenBucket(per_s=1.5, capacity=4.0, now_s=0.0), 0.0, 0
    for pause_s, count in steps:
        now_s += pause_s
        if bucket.take(count, now_s) == 0:
            taken += count
        assert bucket.tokens <= 4.0
    assert taken <= max(4.0, *(count for _, count in steps), 0) + 1.5 * now_s + 1e-6


@given(debt=st.integers(0, 20), count=st.integers(1, 10))
def test_after_the_wait_that_was_told_the_tokens_are_there(debt: int, count: int) -> None:
    """Not before, and neither asking nor waiting takes any."""
    bucket = TokenBucket(per_s=4.0, capacity=5.0, now_s=0.0)
    bucket.debit(debt, 0.0)
    wait_s = bucket.wait_s(count, 0.0)
    if wait_s > 0:
        assert bucket.take(count, wait_s * 0.99) > 0
    assert bucket.take(count, wait_s) == 0


def test_a_debt_is_paid_off_before_anything_is_given() -> None:
    """A debit takes what is not there."""
    bucket = TokenBucket(per_s=1.0, capacity=2.0, now_s=0.0)
    bucket.debit(5, 0.0)
    assert bucket.level(0.0) == -3.0
    assert bucket.take(1, 0.0) == 4.0
    assert bucket.take(1, 4.0) == 0.0


def test_what_is_put_in_beyond_the_capacity_is_lost() -> None:
    """Credits and time fill up to the same mark."""
    bucket = TokenBucket(per_s=1.0, capacity=2.0, now_s=0.0)
    bucket.debit(1, 0.0)
    bucket.credit(0.5)
    assert bucket.level(0.0) == 1.5
    bucket.credit(7)
    assert bucket.level(1_000.0) == 2.0


def test_a_time_before_an_earlier_one_adds_and_takes_nothing() -> None:
    """Going back and forth between two times fills nothing twice."""
    bucket = TokenBucket(per_s=1.0, capacity=1.0, now_s=10.0)
    assert bucket.take(1, 10.0) == 0
    assert bucket.level(0.0) == 0
    assert bucket.level(10.5) == 0.5
    assert bucket.level(0.0) == 0.5
    assert bucket.level(10.5) == 0.5


@pytest.mark.parametrize(("per_s", "capacity"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5)])
def test_a_bucket_that_never_gives_anything_is_refused(per_s: float, capacity: float) -> None:
    """It is a mistake of whoever makes it."""
    with pytest.raises(AssertionError):
        TokenBucket(per_s, capacity, 0.0)
