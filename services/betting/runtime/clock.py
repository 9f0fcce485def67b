"""The wall clock, in the one unit the platform stores: microseconds since 1970."""

from __future__ import annotations

import time
from typing import Protocol

US_PER_S = 1_000_000
# What fault injection puts the wall clock forward by.
STEP_US = 5 * US_PER_S

_stepped_us = 0


class Clock(Protocol):
    """What gives the time, so that tests can give another one."""

    def now_us(self) -> int:
        """Microseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...


def now_us() -> int:
    """Microseconds since 1970 by this machine's clock."""
    return time.time_ns() // 1000 + _stepped_us


def step() -> int:
    """Puts this process's wall clock forward, or back if it was: for fault injection. Microseconds it is now off."""
    global _stepped_us  # noqa: PLW0603 - there is one clock in a process
    _stepped_us = 0 if _stepped_us else STEP_US
    return _stepped_us


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return now_us()

    def monotonic_s(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()
