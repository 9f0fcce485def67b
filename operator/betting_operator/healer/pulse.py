"""Measures how late the healer itself is: its own pause must not look like the silence of others."""

from __future__ import annotations

import asyncio
import time

INTERVAL_S = 0.1
# Unlike time.monotonic() this clock goes on while the machine sleeps.
_WITH_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Pulse:
    """Sleeps for a short time repeatedly, and measures the excess."""

    def __init__(self) -> None:
        self._due_s = time.monotonic()
        self._worst_s = 0.0
        self._slept_s = _slept_s(self._due_s)

    async def run(self) -> None:
        """Measures for the life of the process."""
        while True:
            self._due_s = time.monotonic() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._note()

    def take_ms(self) -> tuple[int, int]:
        """Now, in milliseconds of time.monotonic(), and the longest it was late since the last call.

        A pause that has just ended is included, also when the machine itself slept. Both come from one reading, and are
        to be taken last: what was looked at before a pause is never taken for what is so after it.
        """
        now_s = self._note()
        worst_s, self._worst_s = self._worst_s, 0.0
        return int(now_s * 1_000), int(worst_s * 1_000)

    def late_ms(self) -> int:
        """The longest it was late since the last `take_ms`, a pause that has just ended included."""
        self._note()
        return int(self._worst_s * 1_000)

    def _note(self) -> float:
        now_s = time.monotonic()
        slept_s = _slept_s(now_s)
        self._worst_s = max(self._worst_s, now_s - self._due_s, slept_s - self._slept_s)
        self._due_s = max(self._due_s, now_s)  # the same pause counts once
        self._slept_s = slept_s
        return now_s


def _slept_s(now_s: float) -> float:
    return time.clock_gettime(_WITH_SLEEP) - now_s
