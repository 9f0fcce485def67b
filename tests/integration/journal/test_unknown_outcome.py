"""The connection is cut around an append: nothing is guessed, and taking the shard again gives the one true answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from scribe import ADDRESS, OWNER, Scribe, own

from betting.journal import append, ownership, reader
from betting.journal.append import OutcomeUnknown, ShardEntries
from betting.runtime.clock import now_us

USER = bytes(range(16))


class CuttingProxy:
    """Passes bytes to Postgres and back. Once armed, it lets `budget` bytes through and cuts both sides."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.budget: int | None = None
        self.cut_answers = False

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, up_writer]
        for pump in (self._up(reader, up_writer), self._down(up_reader, writer)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _up(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.budget is not None:
                data, rest = data[: self.budget], data[self.budget :]
                self.budget -= len(data)
                sink.write(data)
                if rest:
                    await sink.drain()
                    self._cut()
                    return
            else:
                sink.write(data)

    async def _down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.cut_answers:
                self._cut()
                return
            sink.write(data)

    def _cut(self) -> None:
        for writer in self._writers:
            with suppress(OSError, RuntimeError):
                writer.close()


@pytest.fixture
async def proxy(installed: str) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """A proxy in front of the database, and the DSN through it."""
    parts = urlsplit(installed)
    assert parts.port is not None
    cutting = CuttingProxy(parts.port)
    port = await cutting.start()
    yield cutting, installed.replace(f":{parts.port}/", f":{port}/")
    await cutting.stop()


async def resolve(connection: Any, confirmed: int, sent: int) -> tuple[str, int]:
    """The procedure of the design: take again, read the head, compare."""
    again = await ownership.take_again(connection, 0, OWNER, ADDRESS, 1)
    assert again is not None
    verdicts = {sent: "written", confirmed: "append again"}
    return verdicts[again.head_sequence], again.epoch


async def test_cut_before_the_answer(proxy: tuple[CuttingProxy, str], connecting: Any) -> None:
    """The statement arrived whole, its answer did not: the entries are there, once."""
    cutting, dsn = proxy
    direct = await connecting()
    await own(direct, [0])
    connection = await connecting(OWNER, dsn)
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 100)
    await scribe.commit(connection)
    scribe.deposit(USER, 100)
    cutting.cut_answers = True
    with pytest.raises(OutcomeUnknown):
        await append.append(connection, OWNER, [ShardEntries(0, 1, scribe.take())])
    assert await resolve(direct, confirmed=2, sent=3) == ("written", 2)
    assert await reader.head(direct, 0) == 3


async def test_cut_anywhere_in_the_statement(proxy: tuple[CuttingProxy, str], connecting: Any) -> None:
    """Whatever part of the bytes arrives: all entries or none, and appending again when it says so leaves each once."""
    cutting, dsn = proxy
    direct = await connecting()
    await own(direct, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 100)
    await scribe.commit(direct)
    for _ in range(40):
        scribe.deposit(USER, 1)
    entries = scribe.take()
    confirmed, sent = 2, entries[-1].sequence
    verdicts = set()
    epoch = 1
    for budget in (0, 1, 200, 4_000, 9_000, 1 << 20):
        cutting.budget = None
        connection = await connecting(OWNER, dsn)
        # Asks once so that the statement is prepared and the next bytes are its parameters.
        await append.append(connection, OWNER, [ShardEntries(0, epoch, entries[:0])])
        cutting.budget = budget
        cutting.cut_answers = budget == 1 << 20
        with pytest.raises(OutcomeUnknown):
            await append.append(connection, OWNER, [ShardEntries(0, epoch, entries)])
        verdict, epoch = await resolve(direct, confirmed, sent)
        verdicts.add(verdict)
        cutting.cut_answers = False
        if verdict == "written":
            break
    assert verdicts <= {"written", "append again"}
    assert "append again" in verdicts
    if "written" not in verdicts:
        assert (await append.append(direct, OWNER, [ShardEntries(0, epoch, entries)])).matched == {0}
    found = await reader.read_entries(direct, 0, confirmed, 100)
    assert found == entries
    # The late statement of the old epoch, should it still arrive, finds the fence shut.
    assert (await append.append(direct, OWNER, [ShardEntries(0, 1, entries)])).matched == set()


async def test_a_cancelled_append_is_resolved_the_same_way(connecting: Any) -> None:
    """A timeout around the append stops the statement or not; taking again says which, and entries are there once."""
    direct, connection, blocker = await connecting(), await connecting(), await connecting("blocker")
    await own(direct, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 100)
    entries = scribe.take()
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM betting.shards WHERE shard_id = 0 FOR UPDATE")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await append.append(connection, OWNER, [ShardEntries(0, 1, entries)])
    connection.terminate()
    verdict, epoch = await resolve(direct, confirmed=0, sent=2)
    if verdict == "append again":
        assert (await append.append(direct, OWNER, [ShardEntries(0, epoch, entries)])).matched == {0}
    assert await reader.read_entries(direct, 0, 0, 10) == entries
