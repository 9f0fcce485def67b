"""Listens for changes of the shard directory.

A lost notification does no harm: the directory is also read every half second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from betting.journal.connection import DRIVER_ERRORS, connect
from betting.journal.directory import CHANNEL
from betting.runtime import logs
from betting.runtime.loops import FailureLog

_log = logs.get(__name__)

RETRY_S = 1.0


class ShardListener:
    """A connection of its own, used only for LISTEN."""

    def __init__(self, dsn: str, instance: str, look: Callable[[], None]) -> None:
        self._dsn = dsn
        self._instance = instance
        self._look = look
        self._lost = FailureLog(_log, "not listening for shard changes")

    async def run(self) -> None:
        while True:
            try:
                await self._listen_until_lost()
            except DRIVER_ERRORS as problem:
                self._lost.failed(problem)
            await asyncio.sleep(RETRY_S)

    async def _listen_until_lost(self) -> None:
        connection = await connect(self._dsn, self._instance)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._look())
            self._lost.worked()
            await lost.wait()
        finally:
            connection.terminate()
