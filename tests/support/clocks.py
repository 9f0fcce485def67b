"""Clocks that tests hold in their hands."""

from __future__ import annotations


class ManualClock:
    """A wall clock that only tests move. Both kinds of time are the same."""

    def __init__(self, time_us: int) -> None:
        self.time_us = time_us

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return self.time_us

    def monotonic_s(self) -> float:
        """Seconds."""
        return self.time_us / 1e6
