"""One connection: decides for each request between the fast lane and aiohttp; ends when the peer keeps us waiting.

aiohttp's request handler gets all bytes of the requests it answers, and none of the others; requests of one connection
are answered one after another, whichever way they go.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from betting.clients.owners.lanes import Waiter
    from betting.gateway.fastlane import FastLane, Plan

MAX_HEAD_BYTES: Final = 8_192
# Unread answers of a client that sends and never reads.
MAX_UNREAD_BYTES: Final = 1 << 20
_HEAD_END: Final = b"\r\n\r\n"


class Front(asyncio.Protocol):
    """The protocol object of an accepted connection. `inner` is aiohttp's."""

    def __init__(self, inner: asyncio.Protocol, fast: FastLane, connections: Connections) -> None:
        self._inner = inner
        self._fast = fast
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._plans = fast.plans
        self._peer = ""
        self._waiter: Waiter | None = None  # of the request on the fast lane
        self._backlog: list[bytes] = []  # what came meanwhile
        self._inside = False  # aiohttp has bytes that it may not be done with
        self._handled = False  # aiohttp's request has reached our handler
        self._seen = bytearray()  # the first bytes of aiohttp's request
        self._seen_total = 0
        self._learnt: Plan | None = None
        self._closing = False
        self.since_s = time.monotonic()  # when the state last changed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepts, unless there are too many."""
        if not self._connections.add(self):
            cast("asyncio.Transport", transport).abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, without saying so
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waited on this connection waits no more; commands under way go on."""
        self._connections.discard(self)
        if self._waiter is not None:
            self._waiter.give_up()
            self._waiter = None
            self._fast.abandoned()
        if self._transport is not None:
            self._transport = None
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        """The peer sends nothing more."""
        return self._inner.eof_received()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._waiter is not None:
            self._backlog.append(data)
            assert self._transport is not None
            self._transport.pause_reading()
            return
        if not self._inside:
            if self._took_fast_lane(data):
                return
            self._inside = True
            self._handled = False
            self._seen.clear()
            self._seen_total = 0
            self._learnt = None
            self.since_s = time.monotonic()
        self._seen_total += len(data)
        if len(self._seen) < MAX_HEAD_BYTES:
            self._seen += data[: MAX_HEAD_BYTES - len(self._seen)]
        self._inner.data_received(data)

    def handling(self) -> None:
        """aiohttp's request has reached the handler, its head is whole."""
        self._handled = True
        self.since_s = time.monotonic()

    def learn(self, plan: Plan | None) -> None:
        """The head of the request being answered may take the fast lane next time."""
        self._learnt = plan

    def answered(self, body_bytes: int | None) -> None:
        """aiohttp has written the answer to a request whose body had this length (None: not to be known beforehand).

        If aiohttp had this one request and nothing else, the fast lane is open again.
        """
        self.since_s = time.monotonic()
        self._handled = False
        if self._closing:
            self.abort()
            return
        end = self._seen.find(_HEAD_END) + len(_HEAD_END)
        if body_bytes is None or end < len(_HEAD_END) or self._seen_total != end + body_bytes:
            return
        self._inside = False
        if self._learnt is not None:
            self._plans.put(self._peer, bytes(self._seen[:end]), self._learnt)

    def overdue(self, now_s: float, receive_timeout_s: float, keepalive_timeout_s: float) -> bool:
        """Whether this connection has kept us waiting for too long: a head that does not end, or no request at all."""
        if self._waiter is not None or self._handled:
            return False
        waiting_s = now_s - self.since_s
        half = self._inside and self._seen.find(_HEAD_END) < 0
        return waiting_s > (receive_timeout_s if half else keepalive_timeout_s)

    def close_when_idle(self) -> None:
        """Ends the connection now, or after the request it is busy with."""
        self._closing = True
        if self._waiter is None and not self._handled:
            self.abort()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._transport is not None:
            self._transport.close()

    def _took_fast_lane(self, data: bytes) -> bool:
        end = data.find(_HEAD_END) + len(_HEAD_END)
        plan = self._plans.get(self._peer, data[:end])
        if plan is None or len(data) - end != plan.content_length:
            return False
        waiter = self._fast.start(plan, data[end:], self._write)
        if waiter is not None and not waiter.done:  # an answer may have come at once
            self._waiter = waiter
        return waiter is not None

    def _write(self, answer: bytes) -> None:
        """The fast lane's answer."""
        self._waiter = None
        self.since_s = time.monotonic()
        transport = self._transport
        if transport is None:
            return
        transport.write(answer)
        if self._closing or transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            transport.close()
        elif self._backlog:
            data = b"".join(self._backlog)
            self._backlog.clear()
            transport.resume_reading()
            self.data_received(data)


class Connections:
    """All connections of the gateway, bounded."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._fronts: set[Front] = set()
        self.refused_total = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._fronts)

    def add(self, front: Front) -> bool:
        """Whether there is room for one more."""
        if len(self._fronts) >= self._maximum:
            self.refused_total += 1
            return False
        self._fronts.add(front)
        self._empty.clear()
        return True

    def discard(self, front: Front) -> None:
        """The connection has ended."""
        self._fronts.discard(front)
        if not self._fronts:
            self._empty.set()

    async def empty(self) -> None:
        """Returns when no connection is open."""
        await self._empty.wait()

    def end_overdue(self, now_s: float, receive_timeout_s: float, keepalive_timeout_s: float) -> int:
        """Ends connections that keep us waiting; returns how many."""
        overdue = [front for front in self._fronts if front.overdue(now_s, receive_timeout_s, keepalive_timeout_s)]
        for front in overdue:
            front.abort()
        return len(overdue)

    def drain(self) -> None:
        """Lets every connection finish what it is busy with, and end."""
        for front in list(self._fronts):
            front.close_when_idle()
