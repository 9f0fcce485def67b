"""How a client's packets come in: what python-socketio would die of, or lose, is answered here by an event `error`."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

from aiohttp import WSMsgType, web
from engineio.async_drivers.aiohttp import translate_request
from engineio.packet import MESSAGE, Packet
from engineio.payload import Payload

from betting.gateway.limits import Bucket, Rate
from betting.gateway.live import frames, outlet
from betting.gateway.live.frames import Wrong
from betting.runtime import metrics

# What the system may keep for a client: by default it is megabytes, and prices in it are seconds old.
SYSTEM_BYTES: Final = 32 * 1024
# Beyond this aiohttp ends the WebSocket, and python-engineio the session of a long-polling client.
FRAME_BYTES_MAX: Final = 1 << 20
MESSAGES: Final = Rate(per_s=50.0, burst=200.0)

_INTAKE: Final = "betting_intake"
_BETWEEN_PACKETS: Final = "\x1e"
# python-engineio takes 16 packets of one long-polling request, and silently drops all of them when there are more;
# socket.io's own client sends any number. How many is for our rate to say.
Payload.max_decode_packets = FRAME_BYTES_MAX


class Intake:
    """One connection's, whichever transport it uses. connection: python-engineio's socket."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._bucket = Bucket("", MESSAGES, asyncio.get_running_loop().time())
        self._refused = metrics.counter("betting_live_refused_messages_total", "Messages not taken", ("code",))

    @staticmethod
    def of(connection: Any) -> Intake:
        """The one of this connection."""
        if not hasattr(connection, _INTAKE):
            setattr(connection, _INTAKE, Intake(connection))
        return cast("Intake", getattr(connection, _INTAKE))

    def takes(self, text: str, *, polled: bool = False) -> bool:
        """Whether python-socketio may have this packet; if not, the client is told why."""
        wait_s = self._bucket.take(1, asyncio.get_running_loop().time())
        if wait_s > 0:
            wrong: Wrong | None = Wrong(
                "RATE_LIMITED", f"more than {MESSAGES.per_s:g} messages a second: wait {wait_s:.1f} s"
            )
        else:
            wrong = frames.wrong_with(text, polled=polled)
        if wrong is not None:
            self.refuse(wrong)
        return wrong is None

    def refuse(self, wrong: Wrong) -> None:
        """Tells what was wrong, unless so much is unread already that it only costs memory."""
        self._refused.labels(wrong.code).inc()
        if self._connection.queue.qsize() < outlet.UNREAD_PACKETS_MAX:
            answer = frames.event("error", wrong._asdict())
            self._connection.queue.put_nowait(Packet(MESSAGE, data=answer.text))


class LiveWebSocket:
    """What python-engineio drives as its WebSocket."""

    def __init__(self, handler: Any, server: Any) -> None:
        self._handler = handler
        self._connection = handler.__self__
        self._socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False)
        self._intake = Intake.of(self._connection)

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        """Upgrades the request and serves it until it ends."""
        request = environ["aiohttp.request"]
        await self._socket.prepare(request)
        transport = cast("asyncio.Transport", request.transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SYSTEM_BYTES)
        outlet.attach(self._connection, transport)
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
        """The next packet that can be taken. Raises OSError at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                if self._intake.takes(message.data):
                    return str(message.data)
            elif message.type is WSMsgType.BINARY:
                self._intake.refuse(Wrong("BINARY", "this server takes no binary messages"))
            else:
                raise OSError(f"the WebSocket has ended: {message.type.name}")


class PolledRequests:
    """What python-engineio calls to see an HTTP request: with the packets of it that can be taken."""

    def __init__(self, connections: dict[str, Any]) -> None:
        self._connections = connections

    async def translated(self, request: web.BaseRequest) -> dict[str, Any]:
        """Its environment, as WSGI calls it."""
        environ: dict[str, Any] = translate_request(request)
        connection = self._connections.get(request.query.get("sid", ""))
        if request.method == "POST" and connection is not None:
            body = _Body(await _taken(Intake.of(connection), request))
            environ |= {"wsgi.input": body, "CONTENT_LENGTH": str(len(body.content))}
        return environ


class _Body:
    """A request's body that has been read."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def read(self, _length: int) -> bytes:
        return self.content


async def _taken(intake: Intake, request: web.BaseRequest) -> bytes:
    """What may go on to python-engineio; what is too long goes there to be refused with the session."""
    body = b""
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > FRAME_BYTES_MAX:
            return body
    try:
        packets = body.decode().split(_BETWEEN_PACKETS)
    except UnicodeDecodeError:
        intake.refuse(Wrong("MALFORMED", "this is no UTF-8"))
        return b""
    return _BETWEEN_PACKETS.join(each for each in packets if intake.takes(each, polled=True)).encode()
