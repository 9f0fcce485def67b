"""python-socketio and python-engineio as the gateway uses them: the only module that touches their insides.

What is replaced, and why:

- `AsyncServer._async["websocket"]`: python-engineio ends a WebSocket on a packet that it cannot read, and reads as many
  packets as come. Ours answers what is wrong, counts, and gives its transport to `Writer`.
- `AsyncSocket.handle_post_request`: python-engineio splits a body before it looks at it, and drops all packets of one
  with more than 16. Ours counts first, and hands on what may be taken in pieces.
- the handlers of `connect` and `disconnect` (python-socketio's are called by ours): every session has a place.

tests/unit/gateway/test_live_engine.py pins all that is leaned on here, and fails where a new version changes it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import socketio
from aiohttp import WSMsgType, web
from engineio.packet import MESSAGE, Packet

from betting.gateway.limits import ConcurrencyLimit
from betting.gateway.live import messages
from betting.gateway.live.messages import InvalidMessage
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.server import read_body
from betting.gateway.settings import GatewaySettings, Rate
from betting.runtime import metrics
from betting.runtime.networks import network_of
from betting.runtime.token_bucket import TokenBucket

# What the system may keep for a client: by default it is megabytes, and prices in it are seconds old.
SYSTEM_BYTES: Final = 32 * 1024
# A message of MESSAGE_CHARACTERS_MAX may have four bytes a character. What is longer ends the connection.
BODY_BYTES_MAX: Final = 128 * 1024
# Of one long-polling request: what the rate lets through at once, five times over.
PACKETS_MAX: Final = 1_000
MESSAGES: Final = Rate(per_s=50.0, burst=200.0)
# Who sends still more than it is refused is disconnected.
REFUSED: Final = Rate(per_s=50.0, burst=1_000.0)
# A client that has so much unread is not even told what was wrong.
UNREAD_ERRORS_MAX: Final = 1_000
# So many packets are taken, or refused, before others have their turn.
PACKETS_A_TURN: Final = 16

_BETWEEN_PACKETS: Final = "\x1e"
_SOURCE: Final = web.RequestKey("source", str)
_REFUSED: Final = web.RequestKey("refused", Failure)
_TOO_MANY: Final = InvalidMessage("TOO_MANY_MESSAGES", "far more messages than are taken: connect again and send fewer")


class Connection:
    """One Engine.IO session, whichever transport it uses. engine: python-engineio's socket.

    transport: of its WebSocket, None while it has none; holder: whose place it has.
    """

    def __init__(self, engine: Any, holder: str | bytes, receive_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self._engine = engine
        self._receive_s = receive_s
        self.transport: asyncio.Transport | None = None
        self.holder = holder
        self.anonymous_since_s: float | None = now_s
        self._messages = TokenBucket(MESSAGES.per_s, MESSAGES.burst, now_s)
        self._refusals = TokenBucket(REFUSED.per_s, REFUSED.burst, now_s)
        self._refused = metrics.counter(
            "betting_live_refused_messages_total", "Client messages that were refused", ("code",)
        )
        self.is_flooding = False
        self.is_polled = False

    @property
    def queued(self) -> int:
        """Packets that wait for python-engineio to send them."""
        return cast("int", self._engine.queue.qsize())

    @property
    def takes_frames(self) -> bool:
        """Whether the transport is a WebSocket's, and nothing of python-engineio's waits to go first."""
        return bool(self._engine.upgraded and self._engine.queue.empty())

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return bool(self._engine.closed)

    def enqueue(self, text: str) -> None:
        """Has python-engineio send a Socket.IO packet."""
        self._engine.queue.put_nowait(Packet(MESSAGE, data=text))

    def let_go(self) -> None:
        """Closes its transport: the WebSocket, or the pending poll."""
        if self.transport is not None:
            self.transport.abort()
        else:
            self._engine.queue.put_nowait(None)

    async def end(self) -> None:
        """Ends the session, without waiting."""
        await self._engine.close(wait=False, abort=True)
        self.let_go()

    def takes(self, text: str, *, polled: bool = False) -> bool:
        """Whether python-socketio gets this packet. If not, the client gets the reason."""
        wrong = self._over_rate() or messages.problem_with(text, polled=polled)
        if wrong is not None:
            self.refuse(wrong)
        return wrong is None

    def takes_control(self) -> bool:
        """Whether a WebSocket ping or pong is within the rate limit."""
        wrong = self._over_rate()
        if wrong is not None:
            self.refuse(wrong)
        return wrong is None

    def refuse(self, wrong: InvalidMessage) -> None:
        """Sends the reason of a refusal, unless so much is unread that this would only use memory."""
        self._refused.labels(wrong.code).inc()
        if self._refusals.take(1, asyncio.get_running_loop().time()) > 0:
            self.is_flooding = True
        elif self.queued < UNREAD_ERRORS_MAX:
            self.enqueue(messages.event("error", wrong._asdict()).text)

    def _over_rate(self) -> InvalidMessage | None:
        wait_s = self._messages.take(1, asyncio.get_running_loop().time())
        if wait_s <= 0:
            return None
        return InvalidMessage("RATE_LIMITED", f"more than {MESSAGES.per_s:g} messages a second: wait {wait_s:.1f} s")

    async def receive_body(self, environ: dict[str, Any]) -> None:
        """Handles a long-polling request, see AsyncSocket.handle_post_request.

        Engine.handle raises what is wrong with it.
        """
        request: web.BaseRequest = environ["aiohttp.request"]
        try:
            body = await read_body(request, bytes_max=BODY_BYTES_MAX, timeout_s=self._receive_s)
            if body.count(_BETWEEN_PACKETS.encode()) >= PACKETS_MAX:
                message = f"a request has at most {PACKETS_MAX} packets: send fewer at once"
                raise Failure(Code.RESOURCE_EXHAUSTED, "TOO_MANY_PACKETS", message, http_status=413)
            await self._receive(body)
        except Failure as failure:
            request[_REFUSED] = failure

    async def _receive(self, body: bytes) -> None:
        try:
            packets = body.decode().split(_BETWEEN_PACKETS)
        except UnicodeDecodeError:
            self.refuse(InvalidMessage("MALFORMED", "this is no UTF-8"))
            return
        for number, text in enumerate(packets, 1):
            wrong = self._over_rate()
            if wrong is not None:  # for all that follow, at once
                self.refuse(wrong)
                return
            wrong = messages.problem_with(text, polled=True)
            if wrong is not None:
                self.refuse(wrong)
            else:
                await self._engine.receive(Packet(encoded_packet=text))
            if self.is_flooding:
                raise Failure(Code.RESOURCE_EXHAUSTED, *_TOO_MANY)
            if number % PACKETS_A_TURN == 0:
                await asyncio.sleep(0)


class LiveWebSocket:
    """The WebSocket object for python-engineio."""

    def __init__(self, handler: Callable[[Any], Awaitable[None]], connection: Connection) -> None:
        self._handler = handler
        self._connection = connection
        # Pings are answered here: aiohttp answers as many as come before anybody else has a turn.
        self._socket = web.WebSocketResponse(max_msg_size=BODY_BYTES_MAX, compress=False, autoping=False)

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        """Upgrades the request and serves it until it ends."""
        request: web.BaseRequest = environ["aiohttp.request"]
        await self._socket.prepare(request)
        transport = cast("asyncio.Transport", request.transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM_BYTES)
        self._connection.transport = transport
        await self._handler(self)
        return self._socket

    async def close(self) -> None:
        """Closes the WebSocket with a close frame."""
        await self._socket.close()

    async def send(self, message: str | bytes) -> None:
        """Sends one packet."""
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            await self._socket.send_str(message)

    async def wait(self) -> str:
        """The next packet that can be taken. Raises OSError at the end."""
        connection, number = self._connection, 0
        while not connection.is_flooding:
            number += 1
            if number % PACKETS_A_TURN == 0:
                await asyncio.sleep(0)
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT:
                    if connection.takes(message.data):
                        return str(message.data)
                case WSMsgType.BINARY:
                    connection.refuse(InvalidMessage("BINARY", "this server takes no binary messages"))
                case WSMsgType.PING:
                    if connection.takes_control():
                        await self._socket.pong(message.data)
                case WSMsgType.PONG:
                    connection.takes_control()
                case _:
                    raise OSError(f"the WebSocket has ended: {message.type.name}")
        closing = {"code": _TOO_MANY.code, "reconnect": False, "message": _TOO_MANY.message}
        with suppress(ConnectionError):
            await self._socket.send_str("4" + messages.event("closing", closing).text)
        if connection.transport is not None:
            connection.transport.close()  # not in order: that would read on
        raise OSError("the client sends far more than is taken")


class Engine:
    """The Socket.IO server of a gateway, with all its connections, signed in or not."""

    def __init__(self, settings: GatewaySettings) -> None:
        quiet = logging.getLogger("betting.gateway.live.protocol")
        quiet.setLevel(logging.CRITICAL)
        origins = settings.cors_origins
        self._sio = socketio.AsyncServer(
            async_mode="aiohttp",
            cors_allowed_origins=origins if origins == "*" else [each.strip() for each in origins.split(",")],
            cors_credentials=False,
            http_compression=False,
            max_http_buffer_size=BODY_BYTES_MAX,
            logger=quiet,
            engineio_logger=quiet,
        )
        self._eio = self._sio.eio
        self._eio._async = {**self._eio._async, "websocket": self._websocket}
        self._opened_too, self._closed_too = self._eio.handlers["connect"], self._eio.handlers["disconnect"]
        self._eio.on("connect", self._opened)
        self._eio.on("disconnect", self._closed)
        self._receive_s = settings.receive_timeout.total_seconds()
        self._places = ConcurrencyLimit(
            "live connections",
            settings.live_connections_max,
            of_address=settings.live_connections_per_address_max,
            of_user=settings.live_connections_per_user_max,
        )
        self._connections: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def on(self, event: str, handler: Callable[..., Awaitable[Any]]) -> None:
        """Registers the handler of a Socket.IO event; "*": of all others."""
        self._sio.on(event, handler)

    async def handle(self, request: web.BaseRequest, source: str) -> web.StreamResponse:
        """Answers a request. Raises Failure for a request that ends its session, or that is refused."""
        response: web.StreamResponse
        request[_SOURCE] = source
        connection_id = request.query.get("sid", "")
        engine = self._eio.sockets.get(connection_id)
        if engine is not None and engine.closed:  # python-engineio would fail on it
            del self._eio.sockets[connection_id]
        connection = self._connections.get(connection_id)
        if request.method == "GET" and connection is not None and "Upgrade" not in request.headers:
            response = await self._poll(connection, request)
        else:
            response = await self._eio.handle_request(request)
        failure: Failure | None = request.get(_REFUSED)
        if failure is not None:
            await self._end(connection_id)
            raise failure
        return response

    def connection_of(self, sid: str) -> tuple[str, Connection]:
        """The id and the connection of a Socket.IO session."""
        connection_id: str = self._sio.manager.eio_sid_from_sid(sid, "/")
        return connection_id, self._connections[connection_id]

    def sign_in(self, connection: Connection, user: bytes) -> None:
        """Moves the connection to a place of the user. Raises Failure when there is none."""
        if connection.holder != user:
            self._places.give_back(connection.holder)
            try:
                self._places.take(user)
            except Failure:
                self._places.take(connection.holder)
                raise
            connection.holder = user
        connection.anonymous_since_s = None

    def sign_out(self, connection: Connection) -> None:
        """The client has to sign in again, or is disconnected."""
        connection.anonymous_since_s = asyncio.get_running_loop().time()

    async def disconnect(self, sid: str) -> None:
        """Ends a Socket.IO session; the client library does not reconnect."""
        await self._sio.disconnect(sid)

    async def end_transport(self, connection_id: str) -> None:
        """Closes only the connection; the client library reconnects by itself."""
        await self._eio.disconnect(connection_id)

    async def end_anonymous(self) -> None:
        """Disconnects clients that did not sign in in time; forgets connections that python-engineio has closed."""
        now_s = asyncio.get_running_loop().time()
        for connection_id, connection in list(self._connections.items()):
            if connection_id not in self._eio.sockets:
                self._forget(connection_id)
            elif connection.anonymous_since_s is not None and now_s - connection.anonymous_since_s > self._receive_s:
                await self._end(connection_id)

    async def _poll(self, connection: Connection, request: web.BaseRequest) -> web.StreamResponse:
        """One poll of a session at a time: each waits for up to 45 s."""
        if connection.is_polled:
            message = "this session waits for an answer already: poll again once that has come"
            raise Failure(Code.FAILED_PRECONDITION, "POLL_OVERLAP", message)
        connection.is_polled = True
        try:
            response: web.StreamResponse = await self._eio.handle_request(request)
        finally:
            connection.is_polled = False
        return response

    async def _end(self, connection_id: str) -> None:
        """Ends a session, without waiting for anything."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            await connection.end()
            self._eio.sockets.pop(connection_id, None)

    def _websocket(self, handler: Any, _server: Any) -> LiveWebSocket:
        return LiveWebSocket(handler, self._connections[handler.__self__.sid])

    async def _opened(self, connection_id: str, environ: dict[str, Any]) -> Any:
        request: web.BaseRequest = environ["aiohttp.request"]
        holder = network_of(request[_SOURCE])
        try:
            self._places.take(holder)
        except Failure as failure:
            request[_REFUSED] = failure
            return False
        engine = self._eio.sockets[connection_id]
        connection = self._connections[connection_id] = Connection(engine, holder, self._receive_s)
        engine.handle_post_request = connection.receive_body
        return await self._opened_too(connection_id, environ)

    async def _closed(self, connection_id: str, reason: str) -> None:
        try:
            await self._closed_too(connection_id, reason)
        finally:
            self._forget(connection_id)

    def _forget(self, connection_id: str) -> None:
        connection = self._connections.pop(connection_id, None)
        if connection is not None:
            self._places.give_back(connection.holder)
