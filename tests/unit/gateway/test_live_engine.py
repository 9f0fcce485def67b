"""What the gateway leans on inside python-engineio, python-socketio and aiohttp, pinned."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import engineio
import pytest
import socketio
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler
from engineio.async_drivers import aiohttp as driver
from engineio.async_socket import AsyncSocket
from engineio.packet import Packet
from in_process import settings

from betting.gateway.live.engine import Engine
from betting.gateway.settings import GatewaySettings

# The code that engine.py replaces, or whose way of calling it counts on, by the hash of its source.
READ_AND_UNDERSTOOD: dict[Callable[..., Any], str] = {
    AsyncSocket.handle_post_request: "82dca119a261a959",
    AsyncSocket.handle_get_request: "05eaae9f0a60d9be",
    AsyncSocket._upgrade_websocket: "820b83efe96adb98",
    AsyncSocket._websocket_handler: "27f120df4d717a24",
    AsyncSocket.poll: "826f58a9f3606db2",
    AsyncSocket.receive: "a91ae36ec2fb5340",
    AsyncSocket.close: "faa2e93902543244",
    engineio.AsyncServer.handle_request: "1a8c878e35166cfe",
    engineio.AsyncServer._handle_connect: "5bd7edc1d1ae115a",
    engineio.AsyncServer.disconnect: "8bb6448caae41ca6",
    socketio.AsyncServer._handle_eio_connect: "76704886d944a7e6",
    socketio.AsyncServer._handle_eio_message: "bef50fc0e1635921",
    socketio.AsyncServer._handle_eio_disconnect: "9344593148b66fd9",
    socketio.AsyncServer._handle_connect: "c97c480cf777de36",
    driver.translate_request: "20aa782740060790",
    driver.WebSocket: "96fbcb0d1f45694a",
}


@pytest.mark.parametrize("code", READ_AND_UNDERSTOOD, ids=lambda code: code.__qualname__)
def test_the_code_that_is_patched_is_the_code_that_was_read(code: Callable[..., Any]) -> None:
    """A new version that changed it has to be read before it is used."""
    found = hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:16]
    versions = f"python-engineio {version('python-engineio')}, python-socketio {version('python-socketio')}"
    assert found == READ_AND_UNDERSTOOD[code], (
        f"{code.__module__}.{code.__qualname__} is not as gateway/live/engine.py knows it ({versions}): read what has"
        f" changed, see whether engine.py still fits, then write {found!r} here"
    )


async def test_what_is_replaced_is_there() -> None:
    """The driver's table, the two handlers, the manager's look-up."""
    server = socketio.AsyncServer(async_mode="aiohttp")
    assert set(server.eio._async) >= {"websocket", "translate_request", "make_response"}
    assert {"connect", "disconnect", "message"} <= set(server.eio.handlers)
    assert callable(server.manager.eio_sid_from_sid)
    ours = Engine(settings(GatewaySettings))
    assert ours._eio._async["websocket"] == ours._websocket
    assert driver._async["websocket"] is driver.WebSocket  # that of others in this process is left alone
    assert (ours._eio.handlers["connect"], ours._eio.handlers["disconnect"]) == (ours._opened, ours._closed)


async def test_what_is_read_of_a_session_is_there() -> None:
    """Its queue and its states."""
    session = AsyncSocket(engineio.AsyncServer(async_mode="aiohttp"), "sid")
    assert session.sid == "sid"
    assert (session.queue.qsize(), session.upgraded, session.closed) == (0, False, False)
    assert Packet(encoded_packet='42["x"]').data == '2["x"]'


def test_what_is_read_of_aiohttp_is_there() -> None:
    """Whether it holds up its peer: connections.py must not let go of a transport that it holds."""
    assert issubclass(RequestHandler, BaseProtocol)
    assert {"_reading_paused", "_buffer_paused"} <= set(BaseProtocol.__slots__)
