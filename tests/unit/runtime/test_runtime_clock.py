"""The wall clock and its step."""

from __future__ import annotations

import time

from betting.bets.clock import DatabaseClock, monotonic_us
from betting.runtime import clock


def test_a_stepped_clock_is_seen_to_be_off_and_steps_back() -> None:
    """The database's time goes on as it was: bets are not closed by a clock that jumps."""
    database = DatabaseClock()
    asked_us = monotonic_us()
    database.observe(time.time_ns() // 1_000, asked_us, monotonic_us())
    before_us = database.now_us()
    try:
        assert clock.step() == clock.STEP_US
        assert abs(database.wall_error_us() - clock.STEP_US) < 500_000
        assert database.now_us() - before_us < clock.STEP_US
    finally:
        assert clock.step() == 0
    assert abs(database.wall_error_us()) < 500_000
