"""What Postgres knows: the directory, and how many bets there are. Started before Postgres, it waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from betting.health.observations import WaitingSettlement
from betting.journal import directory, healing_switch, read_model, redis_record
from betting.journal.directory import Observed
from betting.runtime import logs
from betting.runtime.loops import forever
from betting.runtime.postgres import translated

READ_TIMEOUT_S: Final = 1.0
COUNT_TIMEOUT_S: Final = 60.0
# Older than this, the directory is shown as what it is: the last known.
FRESH_FOR_S: Final = 5.0

# The oldest first; more than these are shown once these are decided.
_WAITING = """
SELECT market_id, event_id, version, problem, since_us FROM settlement.waiting
ORDER BY since_us, market_id, version LIMIT 500"""

# Matches that a feed cannot finish by itself (the index of migration 0041 holds only these).
_ATTENTION = "SELECT attention FROM odds.replay_matches WHERE attention <> '' ORDER BY event_id LIMIT $1"
ATTENTION_SHOWN = 20

_log = logs.get(__name__)


class PlatformStore:
    """The latest reads of Postgres; the loops that make them never end."""

    def __init__(
        self, pool: Callable[[], Awaitable[asyncpg.Pool]], *, interval_s: float, recount_interval_s: float
    ) -> None:
        self._pool = pool
        self._interval_s = interval_s
        self._recount_interval_s = recount_interval_s
        self._read_at_s = float("-inf")
        self.directory = Observed((), (), None)
        self.redis: redis_record.Row | None = None
        self.settlements_waiting: tuple[WaitingSettlement, ...] = ()
        self.attention: tuple[str, ...] = ()
        self.switch = healing_switch.Switch("", False)

    @property
    def is_fresh(self) -> bool:
        """Whether the directory was read within the last seconds."""
        return time.monotonic() - self._read_at_s <= FRESH_FOR_S

    async def refresh(self) -> None:
        """Reads the directory, who is Redis primary, how healing is switched, and what waits for a person.

        Raises ServiceError when Postgres does not answer in time.
        """
        pool = await self._pool()
        async with translated(), asyncio.timeout(READ_TIMEOUT_S), pool.acquire() as connection:
            self.directory = await directory.observe(connection)
            recorded = await redis_record.read(connection)
            self.switch = await healing_switch.read(connection)
            attention = await connection.fetch(_ATTENTION, ATTENTION_SHOWN)
            waiting = await connection.fetch(_WAITING)
        self.redis = recorded and recorded[0]
        self.attention = tuple(row["attention"] for row in attention)
        self.settlements_waiting = tuple(WaitingSettlement(*row) for row in waiting)
        self._read_at_s = time.monotonic()

    async def count_bets(self) -> int:
        """All bets the projector has seen. Raises ServiceError."""
        pool = await self._pool()
        async with translated():
            return await read_model.count_bets(pool, timeout_s=COUNT_TIMEOUT_S)

    async def run_directory(self) -> None:
        """Reads the directory at an interval, for the life of the process."""
        await forever(self.refresh, every_s=self._interval_s, log=_log, event="directory not read")

    async def run_counts(self, counted: Callable[[int], None]) -> None:
        """Counts the bets at an interval, sooner after a failure."""

        async def count() -> None:
            counted(await self.count_bets())

        every_s, retry_s = self._recount_interval_s, min(self._recount_interval_s, FRESH_FOR_S)
        await forever(count, every_s=every_s, retry_s=retry_s, retry_max_s=retry_s, log=_log, event="bets not counted")
