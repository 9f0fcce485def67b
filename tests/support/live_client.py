"""A bettor's Socket.IO client that keeps what it is told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import socketio

EVENTS = ("odds:update", "bet:placed", "bet:settled", "bet:reopened", "token:expiring", "closing", "error")
WAIT_S = 20.0
HANDSHAKE = "/socket.io/?EIO=4&transport="


class LiveClient:
    """python-socketio's client, which connects once; `heard` has every event in its order."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.heard: list[tuple[str, Any]] = []
        self.refused: Any = None
        self.gone = asyncio.Event()
        self._changed = asyncio.Event()
        for name in EVENTS:
            self.sio.on(name, self._note(name))
        self.sio.on("connect_error", self._refuse)
        self.sio.on("disconnect", lambda _reason: self._leave())

    def _note(self, name: str) -> Callable[[Any], None]:
        def note(data: Any) -> None:
            self.heard.append((name, data))
            self._changed.set()

        return note

    def _refuse(self, data: Any) -> None:
        self.refused = data

    def _leave(self) -> None:
        self.gone.set()
        self._changed.set()

    def all(self, name: str) -> list[Any]:
        """The data of every event of this name."""
        return [data for heard, data in self.heard if heard == name]

    async def until(self, wanted: Callable[[], Any]) -> Any:
        """What `wanted` gives once it is true; it is asked again after each event."""
        async with asyncio.timeout(WAIT_S):
            while not (found := wanted()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def told(self, name: str, count: int = 1) -> list[Any]:
        """The first `count` events of this name, waiting for them."""
        await self.until(lambda: len(self.all(name)) >= count)
        return self.all(name)[:count]

    async def call(self, name: str, data: Any = None) -> Any:
        """The acknowledgement of an event."""
        return await self.sio.call(name, data, timeout=WAIT_S)


@asynccontextmanager
async def live_client(address: str, token: str | None, *, transport: str = "websocket") -> AsyncIterator[LiveClient]:
    """Connected for the length of a block. Raises socketio's ConnectionError when it is refused."""
    client = LiveClient()
    try:
        auth = None if token is None else {"token": token}
        await client.sio.connect(f"http://{address}", auth=auth, transports=[transport], wait_timeout=WAIT_S)
        yield client
    finally:
        await client.sio.shutdown()


async def refusal(address: str, auth: Any) -> Any:
    """Why a connection is refused."""
    client = LiveClient()
    try:
        await client.sio.connect(f"http://{address}", auth=auth, transports=["websocket"], wait_timeout=WAIT_S)
    except socketio.exceptions.ConnectionError:
        return client.refused
    finally:
        await client.sio.shutdown()
    raise AssertionError("it was let in")


class RawClient:
    """A WebSocket whose packets the test writes itself."""

    def __init__(self, session: aiohttp.ClientSession, made: aiohttp.ClientWebSocketResponse) -> None:
        self._session = session
        self._socket = made

    @classmethod
    async def connected(cls, address: str, token: str, receive_bytes: int | None = None) -> RawClient:
        """Signed in."""

        def small(info: Any) -> Any:
            made = socket.socket(info[0], info[1], info[2])
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes or 0)
            return made

        connector = aiohttp.TCPConnector(socket_factory=small) if receive_bytes else aiohttp.TCPConnector()
        session = aiohttp.ClientSession(connector=connector)
        opened = await session.ws_connect(f"http://{address}{HANDSHAKE}websocket", max_msg_size=0)
        client = cls(session, opened)
        await client.send('40{"token":"' + token + '"}')
        await client.until("40")
        return client

    async def send(self, text: str | bytes) -> None:
        """One packet."""
        await (self._socket.send_str(text) if isinstance(text, str) else self._socket.send_bytes(text))

    async def until(self, wanted: str) -> list[str]:
        """Packets up to the first with this in it. Raises ConnectionError when the gateway ends it before."""
        told: list[str] = []
        async with asyncio.timeout(30):
            while not told or wanted not in told[-1]:
                message = await self._socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise ConnectionError(f"{message.type.name} after {told}")
                if message.data == "2":
                    await self.send("3")
                told.append(message.data)
        return told

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self._transport.write(data)

    def stand_still(self) -> None:
        """Reads nothing more."""
        self._transport.pause_reading()

    def read_on(self) -> None:
        """Reads again."""
        self._transport.resume_reading()

    @property
    def port(self) -> int:
        """This end's."""
        return int(self._transport.get_extra_info("sockname")[1])

    @property
    def _transport(self) -> Any:
        connection = self._socket._response.connection
        assert connection is not None
        return connection.transport

    async def close(self) -> None:
        """Gone."""
        await self._socket.close()
        await self._session.close()


class PolledClient:
    """Long-polling requests that the test writes itself."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @asynccontextmanager
    async def connected(cls, address: str, token: str) -> AsyncIterator[PolledClient]:
        """Signed in."""
        url = f"http://{address}{HANDSHAKE}polling"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                sid = json.loads((await answer.text())[1:])["sid"]
            client = cls(session, f"{url}&sid={sid}")
            await client.post(('40{"token":"' + token + '"}').encode())
            await client.until("40")
            yield client

    async def post(self, body: bytes) -> None:
        """One request, as it is."""
        async with self._session.post(self._url, data=body) as answer:
            assert answer.status == 200, await answer.text()

    async def poll(self) -> tuple[int, str]:
        """One request for packets: status and body."""
        async with self._session.get(self._url) as answer:
            return answer.status, await answer.text()

    async def until(self, wanted: str) -> list[str]:
        """Packets up to the request that brings the first with this in it."""
        told: list[str] = []
        async with asyncio.timeout(30):
            while not any(wanted in each for each in told):
                async with self._session.get(self._url) as answer:
                    assert answer.status == 200, await answer.text()
                    told += (await answer.text()).split("\x1e")
                if "2" in told:
                    await self.post(b"3")
        return told
