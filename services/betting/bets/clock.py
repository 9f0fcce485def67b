"""Time is the database's: an offset to this machine's monotonic clock, refreshed by every append."""

from __future__ import annotations

import time

import asyncpg

from betting.runtime import clock

# An owner that wakes up with its machine must not take bets by the time it fell asleep at. Linux stops CLOCK_MONOTONIC
# meanwhile (clock_gettime(2)), macOS does not.
_ALSO_ASLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class DatabaseClock:
    """Microseconds since 1970 as Postgres counts them. Before the first `observe` it is not to be asked."""

    def __init__(self) -> None:
        self._offset_us: int | None = None

    def observe(self, database_us: int, asked_at_us: int, answered_at_us: int) -> None:
        """Takes the database's time, read between two moments of this machine's monotonic clock.

        Only what the two moments prove is believed: an answer read late, by a process that was frozen meanwhile, must
        not put the clock back by half of that time (bets are closed by it).
        """
        if self._offset_us is None:
            self._offset_us = database_us - (asked_at_us + answered_at_us) // 2
        else:
            self._offset_us = max(database_us - answered_at_us, min(database_us - asked_at_us, self._offset_us))

    async def read(self, connection: asyncpg.Connection) -> None:
        """Asks the database once."""
        asked_at = monotonic_us()
        database_us: int = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        self.observe(database_us, asked_at, monotonic_us())

    def now_us(self) -> int:
        """The database's time now."""
        assert self._offset_us is not None, "the database's clock has not been read yet"
        return monotonic_us() + self._offset_us

    def wall_error_us(self) -> int:
        """How far this machine's wall clock is from the database's; over two seconds means: own no shards."""
        return clock.now_us() - self.now_us()


def monotonic_us() -> int:
    """This machine's monotonic clock, which counts the time that the machine slept, too."""
    return time.clock_gettime_ns(_ALSO_ASLEEP) // 1000
