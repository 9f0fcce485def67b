"""A TCP proxy in front of any server (Postgres, say): cuts the connections through it, or holds answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class CuttingProxy:
    """`dsn` goes through it; `cut` drops what is connected; new connections are welcome at once.

    answers: while cleared, what Postgres says is held back; statements still reach it. delay_s: how long each piece of
    an answer takes.
    """

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.cuts = 0
        self.delay_s = 0.0
        self.answers = asyncio.Event()
        self.answers.set()

    @property
    def dsn(self) -> str:
        assert self._server is not None
        credentials = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{credentials}@{self.address}"))

    @property
    def address(self) -> str:
        """Host and port."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def lead_to(self, dsn: str) -> None:
        """New connections go there, as behind a balancer; those that are open stay."""
        self._target = urlsplit(dsn)

    def cut(self) -> None:
        """Both directions at once: an answer on its way is lost."""
        self.cuts += 1
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(_pump(reader, upstream), self._pump_answers(upstream_reader, writer))
        finally:
            for one in (writer, upstream):
                one.transport.abort()
                self._writers.discard(one)

    async def _pump_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def hold_back() -> None:
            await self.answers.wait()
            await asyncio.sleep(self.delay_s)

        await _pump(reader, writer, hold_back)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    hold_back: Callable[[], Awaitable[None]] | None = None,
) -> None:
    try:
        while data := await reader.read(65_536):
            if hold_back is not None:
                await hold_back()
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()
