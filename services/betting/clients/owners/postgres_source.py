"""The directory's rows in Postgres, and the notification that they changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from betting.clients.owners.directory import Route
from betting.runtime import logs
from betting.runtime.postgres import translated

CHANNEL = "betting_shards"
_RECONNECT_S = 0.5
_QUERY_TIMEOUT_S = 2.0
_INSTALLED = "SELECT shard_count FROM betting.install"
_ROWS = "SELECT shard_id, owner, address, epoch, state FROM betting.shards"

_log = logs.get(__name__)


class PostgresSource:
    """Reads `betting.shards` and listens for changes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self) -> list[Route]:
        """All rows; raises ServiceError UNAVAILABLE when the database does not answer."""
        async with translated():
            rows = await self._pool.fetch(_ROWS, timeout=_QUERY_TIMEOUT_S)
        return [Route(*row) for row in rows]

    async def shard_count(self) -> int | None:
        """The number of shards the platform was installed with; None before the first bet-service has started."""
        async with translated():
            count: int | None = await self._pool.fetchval(_INSTALLED, timeout=_QUERY_TIMEOUT_S)
        return count

    async def listen(self, changed: Callable[[], None]) -> None:
        """Calls `changed` at each notification and after each reconnect; runs for the life of the process."""
        while True:
            try:
                await self._listen_once(changed)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.info("not listening for shard changes, polling until then", error=str(error))
            await asyncio.sleep(_RECONNECT_S)

    async def _listen_once(self, changed: Callable[[], None]) -> None:
        lost = asyncio.Event()

        def notified(*_: Any) -> None:
            changed()

        def terminated(_: Any) -> None:
            lost.set()

        async with self._pool.acquire(timeout=_QUERY_TIMEOUT_S) as connection:
            connection.add_termination_listener(terminated)
            await connection.add_listener(CHANNEL, notified)
            changed()
            try:
                await lost.wait()
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(CHANNEL, notified)
                    connection.remove_termination_listener(terminated)
