"""A connection decides for each request between the fast path and aiohttp; all of them share the places there are.

aiohttp's request handler gets all bytes of the requests it answers, and none of the others; requests of one connection
are answered one after another, whichever way they go. Much that comes at once is handed on in pieces, one in each turn
of the loop: a thousand tiny requests, chunks or WebSocket frames of one client cost the others nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final, cast

from betting.clients.owners.shard_queues import Waiter
from betting.gateway.fast_path import FastPath, KnownHead
from betting.gateway.http2 import PREFACE, Http2Refusal
from betting.gateway.pages import Pages
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.protocols.wires import HttpReply, connect_failure, http_bytes
from betting.gateway.settings import GatewaySettings
from betting.runtime.networks import network_of

MAX_HEAD_BYTES: Final = 16_384
# Unread answers of a client that sends and never reads.
MAX_UNREAD_BYTES: Final = 1 << 20
# What is handed on in one turn of the loop; a whole request of the fast path fits.
PIECE_BYTES: Final = 32_768
# What may wait for its turn, of one client that goes on sending.
MAX_HELD_BYTES: Final = 4 << 20
# Longer heads are not worth remembering.
_MAX_KNOWN_HEAD_BYTES: Final = 4_096
_HEAD_END: Final = b"\r\n\r\n"
# Connections without a place that may wait for their answer, and for how long; a connection that was ended to make room
# for another has as long to read what it was sent.
TURNED_AWAY_MAX: Final = 512
TURNED_AWAY_S: Final = 1.0
# Beyond this share of all places, those that are kept for a next request are let go sooner.
_BUSY_SHARE: Final = 0.75
# After the status line of an answer.
_LAST: Final = b"\r\nConnection: close\r\n"
# How many busy connections are looked at, at most, to find one that waits.
_LOOKS: Final = 32


class HttpConnection(asyncio.Protocol):
    """The protocol object of an accepted connection. `inner` is aiohttp's."""

    def __init__(self, inner: asyncio.Protocol, fast: FastPath, pages: Pages, connections: Connections) -> None:
        self._inner = inner
        self._fast = fast
        self._pages = pages
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._known_heads = fast.known_heads
        self._peer = ""
        self._turned_away = False  # there was no place: it is told so when it asks
        self._http2: Http2Refusal | None = None
        self._waiter: Waiter | None = None  # of the request on the fast path
        self._known_head: KnownHead | None = None  # of that request
        self._held: list[bytes] = []  # what came and waits for its turn
        self._held_bytes = 0
        self._is_scheduled = False  # what is held will be handed on in the next turn of the loop
        self._inside = False  # aiohttp has bytes that it may not be done with
        self._handled = False  # aiohttp's request has reached our handler
        self._seen = bytearray()  # the first bytes of aiohttp's request
        self._seen_total = 0
        self._learnt: KnownHead | None = None
        self._closing = False  # it ends with its next answer, which says so
        self._is_new = True  # nothing was answered yet
        self._since_s = time.monotonic()  # when the state last changed
        self._unread_since_s: float | None = None  # since when the peer does not read

    @property
    def network(self) -> str:
        """The peer's address as limits count it: an IPv4 address, or an IPv6 /64."""
        return network_of(self._peer)

    @property
    def is_ending(self) -> bool:
        """Whether its next answer is its last."""
        return self._closing

    @property
    def is_idle(self) -> bool:
        """Whether it waits for the peer's next request, or for the rest of its head."""
        return self._waiter is None and not self._handled and not self._held

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Registers the connection;
        one over the limit stays open only until it has been answered TOO_MANY_CONNECTIONS.
        """
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, without saying so
        if self._connections.add(self):
            self._inner.connection_made(transport)
        elif self._connections.turn_away(self):
            self._turned_away = True
        else:
            self._turned_away = True
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waited on this connection waits no more; commands under way go on."""
        self._connections.discard(self)
        if self._waiter is not None:
            self._waiter.give_up()
            self._waiter = None
            assert self._known_head is not None
            self._fast.abandoned(self._known_head)
        self._held.clear()
        if self._transport is not None:
            self._transport = None
            if not self._turned_away:
                self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The write buffer is over its high-water mark; `is_overdue` measures from here."""
        self._unread_since_s = time.monotonic()
        if not self._turned_away:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The write buffer is below its low-water mark again."""
        self._unread_since_s = None
        if not self._turned_away:
            self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        """The peer has closed its side; aiohttp decides whether the connection stays open for the answer."""
        return None if self._turned_away else self._inner.eof_received()

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the socket, at most PIECE_BYTES in one turn of the loop;
        the rest is held, reading paused.
        """
        if self._waiter is not None or self._held:
            self._hold(data)
            return
        if len(data) > PIECE_BYTES:
            self._hold(data[PIECE_BYTES:])
            self._go_on_soon()
            data = data[:PIECE_BYTES]
        self._take(data)

    def _hold(self, data: bytes) -> None:
        assert self._transport is not None
        self._held.append(data)
        self._held_bytes += len(data)
        self._transport.pause_reading()
        if self._held_bytes > MAX_HELD_BYTES:
            self._transport.abort()

    def _go_on_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Hands on the next piece of what is held."""
        self._is_scheduled = False
        if self._waiter is not None or self._transport is None or not self._held:
            return
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = len(data) - PIECE_BYTES
        if self._held_bytes > 0:
            self._held.append(data[PIECE_BYTES:])
            self._go_on_soon()
        else:
            self._held_bytes = 0
            if not _wants_pause(self._inner):
                self._transport.resume_reading()
        self._take(data[:PIECE_BYTES])

    def _take(self, data: bytes) -> None:
        if self._turned_away or self._http2 is not None:
            self._refuse(data)
            return
        if not self._inside:
            if self._is_new and data[:3] == PREFACE[:3]:
                self._http2 = Http2Refusal()
                self._refuse(data)
                return
            if self._took_fast_path(data):
                return
            self._inside = True
            self._handled = False
            self._seen.clear()
            self._seen_total = 0
            self._learnt = None
            self._since_s = time.monotonic()
        self._seen_total += len(data)
        if len(self._seen) < MAX_HEAD_BYTES:
            self._seen += data[: MAX_HEAD_BYTES - len(self._seen)]
        if self._seen_total >= MAX_HEAD_BYTES and not self._handled and self._seen.find(_HEAD_END) < 0:
            self._end_with(_head_too_large())
            return
        self._inner.data_received(data)

    def _refuse(self, data: bytes) -> None:
        """Answers a connection that gets no place, or that speaks HTTP/2, in its own terms."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._http2 is None:
            self._end_with(self._pages.for_turned_away(data))
            return
        transport.write(self._http2.answer(data))
        if self._http2.is_over:
            transport.close()

    def _end_with(self, reply: HttpReply) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.write(http_bytes(reply, (("Connection", "close"),)))
        self._transport.close()

    def handling(self) -> None:
        """aiohttp's request has reached the handler, its head is whole."""
        self._handled = True
        self._since_s = time.monotonic()

    def learn(self, known_head: KnownHead | None) -> None:
        """The head of the request being answered may take the fast path next time."""
        self._learnt = known_head

    def answered(self, body_bytes: int | None) -> None:
        """aiohttp has written the answer to a request whose body had this length (None: not to be known beforehand).

        If aiohttp had this one request and nothing else, the fast path is open again.
        """
        self._since_s = time.monotonic()
        self._handled = False
        self._is_new = False
        if self._closing:
            self.close()
            return
        end = self._seen.find(_HEAD_END) + len(_HEAD_END)
        if body_bytes is None or end < len(_HEAD_END) or self._seen_total != end + body_bytes:
            return
        self._inside = False
        if self._learnt is not None and end <= _MAX_KNOWN_HEAD_BYTES:
            self._known_heads.put(self._peer, bytes(self._seen[:end]), self._learnt)

    def is_overdue(self, now_s: float, *, receive_s: float, keepalive_s: float, send_s: float) -> bool:
        """Whether this connection has kept us waiting for too long.

        For its first request, or a head that does not end: receive_s; for another request: keepalive_s; for reading
        what it was sent: send_s.
        """
        if self._unread_since_s is not None and now_s - self._unread_since_s > send_s:
            return True
        if not self.is_idle:
            return False
        begun = self._is_new or (self._inside and self._seen.find(_HEAD_END) < 0)
        return now_s - self._since_s > (receive_s if begun else keepalive_s)

    def end_with_next(self) -> None:
        """The next answer is the last one, and says so: a peer never meets a connection that is just being closed."""
        self._closing = True

    def close_when_idle(self) -> None:
        """Ends the connection now, or after the request it is busy with."""
        self._closing = True
        if self._waiter is None and not self._handled:
            self.close()

    def close(self) -> None:
        """Ends the connection once what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def let_go(self, within_s: float) -> None:
        """Ends the connection; what its peer has not read by then, in seconds, is dropped. It may never read it."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(within_s, self.abort)
        self.close()

    def abort(self) -> None:
        """Closes the connection at once; what is not sent yet is dropped."""
        if self._transport is not None:
            self._transport.abort()

    def _took_fast_path(self, data: bytes) -> bool:
        end = data.find(_HEAD_END) + len(_HEAD_END)
        known_head = self._known_heads.get(self._peer, data[:end])
        if known_head is None or len(data) - end != known_head.content_length:
            return False
        waiter = self._fast.start(known_head, data[end:], self._write)
        if waiter is not None and not waiter.done:  # an answer may have come at once
            self._waiter = waiter
            self._known_head = known_head
        return waiter is not None

    def _write(self, answer: bytes) -> None:
        """The fast path's answer."""
        self._waiter = None
        self._since_s = time.monotonic()
        self._is_new = False
        transport = self._transport
        if transport is None:
            return
        transport.write(answer.replace(b"\r\n", _LAST, 1) if self._closing else answer)
        if self._closing or transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            transport.close()
        elif self._held:
            self._go_on_soon()


class Connections:
    """All connections of the gateway: so many in all, so many of one address.

    Where there is no place, a connection that only waits for its peer is ended for the new one, the oldest first: of
    the same address if that has its share, of any if all places are taken. So idle connections keep nobody out.
    """

    def __init__(self, settings: GatewaySettings) -> None:
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
        self._are_ending = False
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
        if self._are_ending:
            connection.end_with_next()
        return True

    def turn_away(self, connection: HttpConnection) -> bool:
        """Whether a connection without a place may wait until it has asked, to be told so."""
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            return False
        self._turned_away[connection] = time.monotonic()
        return True

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

    def end_with_next(self) -> None:
        """Every connection, those to come too, ends with its next answer, which says so: clients go elsewhere."""
        self._are_ending = True
        for connection in self._accepted:
            connection.end_with_next()

    def drain(self) -> None:
        """Lets every connection finish what it is busy with, and end."""
        for connection in list(self._accepted):
            connection.close_when_idle()

    def _end_idle(self, connections: OrderedDict[HttpConnection, None]) -> bool:
        """Ends the oldest that waits for its peer; those found busy are looked at last the next time."""
        for _ in range(min(len(connections), _LOOKS)):
            connection = next(iter(connections))
            if connection.is_idle:
                self.discard(connection)  # the sweep does not see it any more
                connection.let_go(TURNED_AWAY_S)
                self.ended_for_others_total += 1
                return True
            connections.move_to_end(connection)
        return False


def _wants_pause(inner: asyncio.Protocol) -> bool:
    """Whether aiohttp itself holds up its peer: it has a body or a WebSocket that nobody reads."""
    return bool(getattr(inner, "_reading_paused", False) or getattr(inner, "_buffer_paused", False))


def _head_too_large() -> HttpReply:
    message = f"the head of the request is larger than {MAX_HEAD_BYTES} bytes: send fewer or shorter headers"
    return connect_failure(Failure(Code.RESOURCE_EXHAUSTED, "HEAD_TOO_LARGE", message, http_status=431))
