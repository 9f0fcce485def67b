"""How bytes reach one client: as finished frames where it has a WebSocket, through python-engineio's queue if not."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

from aiohttp import WSMsgType, web
from engineio.packet import MESSAGE, Packet

from betting.gateway.limits import Bucket, Rate
from betting.gateway.live import frames
from betting.gateway.live.frames import Outgoing, Wrong
from betting.runtime import metrics

# What a client may leave unread: beyond it, prices are conflated, and one that is owed bets is disconnected.
CONFLATE_BYTES: Final = 16 * 1024
# What the system may keep for it besides: by default it is megabytes, and prices in it are seconds old.
SYSTEM_BYTES: Final = 32 * 1024
UNREAD_BYTES_MAX: Final = 1 << 20
CONFLATE_PACKETS: Final = 16
UNREAD_PACKETS_MAX: Final = 1_000
# How long messages for one client may wait for each other.
GATHER_S: Final = 0.01
# Beyond this aiohttp ends the connection.
FRAME_BYTES_MAX: Final = 1 << 20
MESSAGES: Final = Rate(per_s=50.0, burst=200.0)

_TRANSPORT: Final = "betting_transport"


class Flusher:
    """Writes what has gathered for each client in one go: the system call costs ten times what a message does.

    The first message goes at once, at the end of this turn of the loop; those that follow closely wait for each other.
    """

    def __init__(self) -> None:
        self._waiting: list[Outlet] = []
        self._is_scheduled = False
        self._last_s = 0.0

    def add(self, outlet: Outlet) -> None:
        """It has something to write."""
        self._waiting.append(outlet)
        if not self._is_scheduled:
            self._is_scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_at(self._last_s + GATHER_S, self._flush)  # in the past: in this turn of the loop

    def _flush(self) -> None:
        self._is_scheduled = False
        waiting, self._waiting = self._waiting, []
        for outlet in waiting:
            outlet.flush()
        self._last_s = asyncio.get_running_loop().time()


class Outlet:
    """One client's way out. connection: python-engineio's socket."""

    __slots__ = ("_connection", "_flusher", "_pending", "_pending_bytes")

    def __init__(self, connection: Any, flusher: Flusher) -> None:
        self._connection = connection
        self._flusher = flusher
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether so much is unread that newer prices should wait for it and replace each other."""
        return self._is_over(CONFLATE_BYTES, CONFLATE_PACKETS)

    @property
    def is_overfull(self) -> bool:
        """Whether so much is unread that nothing more may be kept for it."""
        return self._is_over(UNREAD_BYTES_MAX, UNREAD_PACKETS_MAX)

    def write(self, message: Outgoing) -> None:
        """Sends in a moment; before that what python-socketio itself has to send. Messages keep their order."""
        connection = self._connection
        if self._pending or (connection.upgraded and connection.queue.empty()):
            self._pending.append(message.frame)
            self._pending_bytes += len(message.frame)
            if len(self._pending) == 1:
                self._flusher.add(self)
        elif not connection.closed:
            connection.queue.put_nowait(Packet(MESSAGE, data=message.text))

    def flush(self) -> None:
        """Sends now."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        transport = getattr(self._connection, _TRANSPORT, None)
        if pending and transport is not None and not transport.is_closing():
            transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def abort_if_ended(self) -> None:
        """Lets go of a client that did not even read that this is the end. One that connected again here stays."""
        if not self._connection.closed:
            return
        transport = getattr(self._connection, _TRANSPORT, None)
        if transport is not None:
            transport.abort()
        else:
            self._connection.queue.put_nowait(None)  # answers the poll that still waits

    def _is_over(self, most_bytes: int, packets: int) -> bool:
        transport = getattr(self._connection, _TRANSPORT, None)
        if transport is None:
            return bool(self._connection.queue.qsize() > packets)
        return bool(self._pending_bytes + transport.get_write_buffer_size() > most_bytes)


class LiveWebSocket:
    """What python-engineio drives as its WebSocket: hands out the transport, and keeps from it what it would die of."""

    def __init__(self, handler: Any, server: Any) -> None:
        self._handler = handler
        self._connection = handler.__self__
        self._socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False)
        self._bucket = Bucket("", MESSAGES, asyncio.get_running_loop().time())
        self._refused = metrics.counter("betting_live_refused_messages_total", "Messages not taken", ("code",))

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        """Upgrades the request and serves it until it ends."""
        request = environ["aiohttp.request"]
        await self._socket.prepare(request)
        transport = cast("asyncio.Transport", request.transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM_BYTES)
        setattr(self._connection, _TRANSPORT, transport)
        await self._handler(self)
        return self._socket

    async def close(self) -> None:
        """Ends it in order."""
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        """One packet."""
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            await self._socket.send_str(message)

    async def wait(self) -> str:
        """The next packet that can be taken; the others are answered by an event `error`. Raises OSError at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                wrong = self._wrong_with(message.data)
                if wrong is None:
                    return str(message.data)
            elif message.type is WSMsgType.BINARY:
                wrong = Wrong("BINARY", "this server takes no binary messages")
            else:
                raise OSError(f"the WebSocket has ended: {message.type.name}")
            self._refused.labels(wrong.code).inc()
            answer = frames.event("error", wrong._asdict())
            self._connection.queue.put_nowait(Packet(MESSAGE, data=answer.text))

    def _wrong_with(self, text: str) -> Wrong | None:
        wait_s = self._bucket.take(1, asyncio.get_running_loop().time())
        if wait_s > 0:
            return Wrong("RATE_LIMITED", f"more than {MESSAGES.per_s:g} messages a second: wait {wait_s:.1f} s")
        return frames.wrong_with(text)
