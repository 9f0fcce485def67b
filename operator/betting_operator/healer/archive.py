"""Copies the healer's log lines and their records into Postgres. Best effort: the healer never waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

import asyncpg

from betting.journal import flight_records
from betting.journal.connection import DRIVER_ERRORS, connect
from betting.runtime import logs, metrics
from betting_operator.healing import flight
from betting_operator.healing.flight import Record

QUEUED_MAX = 256
TIMEOUT_S = 5.0
RETRY_S = 5.0

_log = logs.get(__name__)


class _News(NamedTuple):
    term: int
    record: Record
    lines: list[str]


class Archive:
    """Queues what could not be written yet; when the queue is full the oldest is dropped.

    It connects when there is something to write and disconnects afterwards: an idle platform has no connection for it.
    """

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._queue: deque[_News] = deque(maxlen=QUEUED_MAX)
        self._news = asyncio.Event()
        self._left_out = metrics.counter(
            "betting_healer_records_left_out_total",
            "Records of the healer that were dropped before they reached Postgres",
        )

    def offer(self, term: int, record: Record, lines: list[str]) -> None:
        """Queues the lines of a tick; returns at once."""
        if not lines:
            return
        if len(self._queue) == QUEUED_MAX:
            self._left_out.inc()
        self._queue.append(_News(term, record, lines))
        self._news.set()

    async def run(self) -> None:
        """Writes queued lines; runs for the life of the process."""
        while True:
            await self._news.wait()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._write()
            except asyncpg.DataError as error:  # it would be refused again for ever
                self._leave_out(error)
            except DRIVER_ERRORS as error:
                _log.info("news not in Postgres yet", waiting=len(self._queue), error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # whatever is wrong with a copy, the healer goes on
                self._leave_out(error)

    def _leave_out(self, error: Exception) -> None:
        _log.warning("news left out of Postgres", error=type(error).__name__)
        self._left_out.inc()
        if self._queue:
            self._queue.popleft()

    async def _write(self) -> None:
        """Writes everything in the queue. If the connection fails after a write, it may be written twice."""
        connection = await connect(self._dsn, self._name, timeout_s=TIMEOUT_S)
        try:
            while self._queue:
                news = self._queue[0]
                record = flight.line(news.record)
                await flight_records.add(connection, news.record.wall_us, news.term, news.lines, flight.VERSION, record)
                if self._queue and self._queue[0] is news:
                    self._queue.popleft()
            self._news.clear()
        finally:
            connection.terminate()
