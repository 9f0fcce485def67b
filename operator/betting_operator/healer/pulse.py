"""How late this process itself is: a healer that was stopped, or starved, must not take it for others' silence."""

from __future__ import annotations

import asyncio
import time

INTERVAL_S = 0.1


class Pulse:
    """A short sleep again and again; whatever it takes longer, everything here was late."""

    def __init__(self) -> None:
        self._due_s = time.monotonic()
        self._worst_s = 0.0

    async def run(self) -> None:
        """Beats for the life of the process."""
        while True:
            self._due_s = time.monotonic() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._note()

    def take_ms(self) -> int:
        """The longest it was late since the last call, a pause that has just ended included."""
        self._note()
        worst_s, self._worst_s = self._worst_s, 0.0
        return int(worst_s * 1_000)

    def _note(self) -> None:
        now_s = time.monotonic()
        self._worst_s = max(self._worst_s, now_s - self._due_s)
        self._due_s = max(self._due_s, now_s)  # the same pause counts once
