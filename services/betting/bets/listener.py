"""Hears at once when the directory of shards changes; looking every half second anyway makes up for what is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from betting.journal.connection import DRIVER_ERRORS, connect

log = structlog.get_logger(__name__)

CHANNEL = "betting_shards"
RETRY_S = 1.0


class ShardListener:
    """A connection of its own that does nothing but LISTEN."""

    def __init__(self, dsn: str, instance: str, look: Callable[[], None]) -> None:
        self._dsn = dsn
        self._instance = instance
        self._look = look

    async def run(self) -> None:
        while True:
            try:
                await self._listen_until_lost()
            except DRIVER_ERRORS as problem:
                log.info("listener_lost", problem=str(problem))
            await asyncio.sleep(RETRY_S)

    async def _listen_until_lost(self) -> None:
        connection = await connect(self._dsn, self._instance)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._look())
            await lost.wait()
        finally:
            connection.terminate()
