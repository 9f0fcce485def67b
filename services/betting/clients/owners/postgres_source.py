"""The directory's rows in Postgres, and the notification that they changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from betting.clients.owners.directory import Route
from betting.journal import directory, install
from betting.journal.directory import CHANNEL
from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting.runtime.postgres import translated

_RECONNECT_S = 0.5
_QUERY_TIMEOUT_S = 2.0

_log = logs.get(__name__)


class PostgresSource:
    """Reads the directory and listens for changes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._lost = FailureLog(_log, "shard listener disconnected")

    async def fetch(self) -> list[Route]:
        """All rows; raises ServiceError UNAVAILABLE when the database does not answer."""
        async with translated():
            rows = await directory.shards(self._pool, timeout_s=_QUERY_TIMEOUT_S)
        return [Route(row.shard, row.owner, row.address, row.epoch, row.state) for row in rows]

    async def shard_count(self) -> int | None:
        """The number of shards the platform was installed with; None before the first bet-service has started."""
        async with translated():
            return await install.shard_count(self._pool, timeout_s=_QUERY_TIMEOUT_S)

    async def listen(self, changed: Callable[[], None]) -> None:
        """Calls `changed` at each notification and after each reconnect; runs for the life of the process."""
        while True:
            try:
                await self._listen_once(changed)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                self._lost.failed(error)
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
            self._lost.worked()
            changed()
            try:
                await lost.wait()
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(CHANNEL, notified)
                    connection.remove_termination_listener(terminated)
