"""The gateway's listening socket and all of its connections: open, share out, sweep, drain, close."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import OrderedDict
from typing import Final

from betting.gateway.connections import HttpConnection
from betting.gateway.fast_path import FastPath
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.protocols.wires import HttpReply, connect_failure
from betting.gateway.server import HttpServer, Pages
from betting.gateway.settings import GatewaySettings
from betting.runtime import logs
from betting.runtime.clock import US_PER_S, now_us
from betting.runtime.server import PortBusyError
from betting.runtime.settings import split_address

# Connections without a place that may wait to be told so, and for how long.
TURNED_AWAY_MAX: Final = 512
TURNED_AWAY_S: Final = 1.0
# Beyond this share of all places, those that are kept for a next request are let go sooner.
_BUSY_SHARE: Final = 0.75
# How many busy connections are looked at, at most, to find one that waits.
_LOOKS: Final = 32
# Files that are no connections of clients: the database, other services, logs.
_OTHER_FILES: Final = 512
_SWEEP_S: Final = 1.0
# Part of the drain time kept for calls that came over gRPC and for closing.
_DRAIN_SHARE: Final = 0.8
_BACKLOG: Final = 4_096

_log = logs.get(__name__)


class Connections:
    """All connections of the gateway: so many in all, so many of one address.

    Where there is no place, a connection that only waits for its peer is ended for the new one, the oldest first: of
    the same address if that has its share, of any if all places are taken. So idle connections keep nobody out.
    """

    def __init__(self, pages: Pages, settings: GatewaySettings) -> None:
        self._pages = pages
        self.total_max = settings.connections_max
        # Behind proxies of ours, everybody's connections come from their addresses.
        shared = settings.trusted_proxies > 0
        self._of_address_max = settings.connections_max if shared else settings.connections_per_address_max
        self._receive_s = settings.receive_timeout.total_seconds()
        self._keepalive_s = settings.keepalive_timeout.total_seconds()
        self._send_s = settings.send_timeout.total_seconds()
        self._accepted: OrderedDict[HttpConnection, None] = OrderedDict()
        self._of_address: dict[str, OrderedDict[HttpConnection, None]] = {}
        self._turned_away: OrderedDict[HttpConnection, float] = OrderedDict()
        self.refused_total = 0
        self.ended_for_others_total = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._accepted)

    def add(self, connection: HttpConnection) -> bool:
        """Admits a connection; False when the total or its address is at the limit and no idle one could be closed."""
        same = self._of_address.get(connection.network, OrderedDict())
        if len(same) >= self._of_address_max and not self._end_idle(same):
            self.refused_total += 1
            return False
        if len(self._accepted) >= self.total_max and not self._end_idle(self._accepted):
            self.refused_total += 1
            return False
        self._accepted[connection] = None
        self._of_address.setdefault(connection.network, OrderedDict())[connection] = None
        self._empty.clear()
        return True

    def turn_away(self, connection: HttpConnection) -> bool:
        """Whether a connection without a place may wait until it has asked, to be told so."""
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            return False
        self._turned_away[connection] = time.monotonic()
        return True

    def answer_to_turned_away(self, data: bytes) -> HttpReply:
        """What a connection without a place is told. Probes get their answer: this process lives."""
        for path in ("/healthz", "/readyz"):
            if data.startswith(f"GET {path} ".encode()):
                page = self._pages.page(path)
                assert page is not None
                return page
        message = "the gateway has no place for this connection: try again in a second, with fewer connections"
        failure = Failure(Code.UNAVAILABLE, "TOO_MANY_CONNECTIONS", message, headers=(("Retry-After", "1"),))
        return connect_failure(failure)

    def discard(self, connection: HttpConnection) -> None:
        """Forgets a connection that has ended; unknown ones are ignored."""
        self._turned_away.pop(connection, None)
        if connection not in self._accepted:
            return
        del self._accepted[connection]
        same = self._of_address[connection.network]
        del same[connection]
        if not same:
            del self._of_address[connection.network]
        if not self._accepted:
            self._empty.set()

    async def empty(self) -> None:
        """Waits until no admitted connection is open."""
        await self._empty.wait()

    def end_overdue(self, now_s: float) -> int:
        """Ends connections that keep us waiting; returns how many."""
        is_busy = len(self._accepted) > _BUSY_SHARE * self.total_max
        keepalive_s = min(self._keepalive_s, self._receive_s) if is_busy else self._keepalive_s
        overdue = [
            connection
            for connection in self._accepted
            if connection.is_overdue(now_s, receive_s=self._receive_s, keepalive_s=keepalive_s, send_s=self._send_s)
        ]
        overdue += [connection for connection, since_s in self._turned_away.items() if now_s - since_s > TURNED_AWAY_S]
        for connection in overdue:
            connection.abort()
        return len(overdue)

    def drain(self) -> None:
        """Lets every connection finish what it is busy with, and end."""
        for connection in list(self._accepted):
            connection.close_when_idle()

    def _end_idle(self, connections: OrderedDict[HttpConnection, None]) -> bool:
        """Ends the oldest that waits for its peer; those found busy are looked at last the next time."""
        for _ in range(min(len(connections), _LOOKS)):
            connection = next(iter(connections))
            if connection.is_idle:
                self.discard(connection)
                connection.close()
                self.ended_for_others_total += 1
                return True
            connections.move_to_end(connection)
        return False


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
        _log.info("serving_http", address=self.address)

    async def sweep(self) -> None:
        """Ends connections that keep us waiting; runs for the life of the process."""
        interval_s = min(_SWEEP_S, self._settings.receive_timeout.total_seconds() / 4)
        while True:
            await asyncio.sleep(interval_s)
            self._fast.tick(now_us() / US_PER_S)
            ended = self._connections.end_overdue(time.monotonic())
            if ended:
                _log.debug("overdue_connections_closed", count=ended)

    async def refuse(self) -> None:
        """Says "not ready"; requests that still come are answered."""
        self._pages.draining = True

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
            _log.warning("drain_timeout", count=len(self._connections))

    async def close(self) -> None:
        """Closes the socket and all connections; aiohttp gets one second for requests in flight."""
        if self._server is not None:
            self._server.close()
        await self._http.aiohttp.shutdown(1.0)

    def _new_connection(self) -> HttpConnection:
        return HttpConnection(self._http.aiohttp(), self._fast, self._connections)


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
    _log.warning("connection_limit_lowered", files=soft, connections=affordable)
    return affordable
