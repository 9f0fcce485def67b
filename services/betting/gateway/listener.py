"""The gateway's listening socket and its life: open, sweep, drain, close."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Final

from betting.gateway.connections import TURNED_AWAY_MAX, Connections, HttpConnection
from betting.gateway.fast_path import FastPath
from betting.gateway.pages import Pages
from betting.gateway.server import HttpServer
from betting.gateway.settings import GatewaySettings
from betting.runtime import logs
from betting.runtime.clock import US_PER_S, now_us
from betting.runtime.server import PortBusyError
from betting.runtime.settings import split_address

# Files that are no connections of clients: the database, other services, logs.
_OTHER_FILES: Final = 512
_SWEEP_S: Final = 1.0
# Part of the drain time kept for calls that came over gRPC and for closing.
_DRAIN_SHARE: Final = 0.8
_BACKLOG: Final = 4_096

_log = logs.get(__name__)


class Listener:
    """The listening socket at settings.http_address: opens, sweeps, drains and closes its connections."""

    def __init__(
        self, http: HttpServer, fast: FastPath, pages: Pages, connections: Connections, settings: GatewaySettings
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
        self._connections.total_max = _affordable(self._connections.total_max)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._new_connection, host, port, backlog=_BACKLOG)
        except OSError:
            raise PortBusyError(f"cannot listen on {self._settings.http_address}: is the port in use?") from None
        bound = self._server.sockets[0].getsockname()
        self.address = f"[{host}]:{bound[1]}" if ":" in host else f"{host}:{bound[1]}"
        _log.info("serving http", address=self.address)

    async def sweep(self) -> None:
        """Ends connections that keep us waiting; runs for the life of the process."""
        interval_s = min(_SWEEP_S, self._settings.receive_timeout.total_seconds() / 4)
        while True:
            await asyncio.sleep(interval_s)
            self._fast.tick(now_us() / US_PER_S)
            ended = self._connections.end_overdue(time.monotonic())
            if ended:
                _log.debug("overdue connections closed", count=ended)

    async def refuse(self) -> None:
        """Says "not ready"; requests that still come are answered, each as the last one of its connection."""
        self._pages.draining = True
        self._connections.end_with_next()

    async def drain(self) -> None:
        """No new connections, then every request under way is finished."""
        if self._server is not None:
            self._server.close()
        self._http.end_streams()
        self._connections.drain()
        try:
            async with asyncio.timeout(self._settings.drain_timeout.total_seconds() * _DRAIN_SHARE):
                await self._connections.empty()
        except TimeoutError:
            _log.warning("drain timed out", count=len(self._connections))

    async def close(self) -> None:
        """Closes the socket and all connections; aiohttp gets one second for requests in flight."""
        if self._server is not None:
            self._server.close()
        await self._http.aiohttp.shutdown(1.0)

    def _new_connection(self) -> HttpConnection:
        return HttpConnection(self._http.aiohttp(), self._fast, self._pages, self._connections)


def _affordable(connections: int) -> int:
    """As many connections as the system lets this process have open, having asked it for enough files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + TURNED_AWAY_MAX + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    affordable = max(1, soft - TURNED_AWAY_MAX - _OTHER_FILES)
    _log.warning("connection limit lowered", files=soft, connections=affordable)
    return affordable
