"""The gateway's listening socket and the life of its connections: open, sweep, drain, close."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from betting.gateway.fastlane import FastLane
from betting.gateway.front import Connections, Front
from betting.gateway.pages import Pages
from betting.gateway.server import HttpServer
from betting.gateway.settings import GatewaySettings
from betting.runtime import logs
from betting.runtime.clock import US_PER_S, now_us
from betting.runtime.server import PortBusyError
from betting.runtime.settings import split_address

_SWEEP_S: Final = 1.0
# Part of the drain time kept for calls that came over gRPC and for closing.
_DRAIN_SHARE: Final = 0.8
_BACKLOG: Final = 4_096

_log = logs.get(__name__)


class Listener:
    """Serves HTTP at settings.http_address."""

    def __init__(
        self, http: HttpServer, fast: FastLane, pages: Pages, connections: Connections, settings: GatewaySettings
    ) -> None:
        self._http = http
        self._fast = fast
        self._pages = pages
        self._connections = connections
        self._settings = settings
        self._server: asyncio.Server | None = None
        self.address = settings.http_address

    async def open(self) -> None:
        """Listens; `address` then has the real port. Raises PortBusyError."""
        host, port = split_address(self._settings.http_address)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._front, host, port, backlog=_BACKLOG)
        except OSError:
            raise PortBusyError(f"cannot listen on {self._settings.http_address}: is the port in use?") from None
        bound = self._server.sockets[0].getsockname()
        self.address = f"[{host}]:{bound[1]}" if ":" in host else f"{host}:{bound[1]}"
        _log.info("serving http", address=self.address)

    async def sweep(self) -> None:
        """Ends connections that keep us waiting; runs for the life of the process."""
        receive_timeout_s = self._settings.receive_timeout.total_seconds()
        keepalive_timeout_s = self._settings.keepalive_timeout.total_seconds()
        interval_s = min(_SWEEP_S, receive_timeout_s / 4)
        while True:
            await asyncio.sleep(interval_s)
            self._fast.tick(now_us() / US_PER_S)
            ended = self._connections.end_overdue(time.monotonic(), receive_timeout_s, keepalive_timeout_s)
            if ended:
                _log.debug("connections ended that kept us waiting", count=ended)

    async def drain(self) -> None:
        """Not ready, then no new connections, then every request under way is finished."""
        self._pages.draining = True
        await asyncio.sleep(self._settings.drain_delay.total_seconds())
        if self._server is not None:
            self._server.close()
        self._http.end_streams()
        self._connections.drain()
        try:
            async with asyncio.timeout(self._settings.drain_timeout.total_seconds() * _DRAIN_SHARE):
                await self._connections.empty()
        except TimeoutError:
            _log.warning("connections were still busy when the drain time was over", count=len(self._connections))

    async def close(self) -> None:
        """Ends what is left."""
        if self._server is not None:
            self._server.close()
        await self._http.aiohttp.shutdown(1.0)

    def _front(self) -> Front:
        return Front(self._http.aiohttp(), self._fast, self._connections)
