"""The gateway's connections on real sockets: expectations, headers, other protocols, deadlines."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from raw_http import LAST_PAGE, PAGE, SPORTS, WATCH, post, reason

from betting.gateway.protocols.encoding import encode_frame
from betting.gateway.protocols.wires import PLAIN_GRPC
from betting.v1 import bet_pb2, bet_pb2_grpc, event_pb2, event_pb2_grpc, odds_pb2, odds_pb2_grpc

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# Expect.


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(front_door: Any) -> None:
    """The head alone gets 100 Continue at once; the answer follows the body, on a connection that goes on."""
    async with front_door() as door, asyncio.timeout(20):
        reader, writer = await door.opened()
        for _ in range(2):
            writer.write(post(SPORTS, 2, "Expect: 100-Continue"))
            assert await reader.readexactly(len(CONTINUE)) == CONTINUE
            writer.write(b"{}")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"}]}")
        writer.write(post(SPORTS, 2, "Expect: 100-continue", "Connection: close") + b"{}")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")  # the body was there: nobody waits
        writer.close()


@pytest.mark.parametrize(
    ("head", "status", "why"),
    [
        (post(SPORTS, 2, "Expect: 200-ok"), 417, "EXPECTATION"),
        (post(SPORTS, 2, "Expect: 200-ok", content_type="application/grpc-web"), 417, "EXPECTATION"),
        (post("/socket.io/?EIO=4&transport=polling", 2, "Expect: 200-ok"), 417, "EXPECTATION"),
        (post(SPORTS, 5_000_000, "Expect: 100-continue"), 413, "BODY_TOO_LARGE"),
        (post("/betting.v1.BetService/PlaceBet", 2, "Expect: 100-continue"), 401, "TOKEN_MISSING"),
        (post("/betting.v1.BetService/Nothing", 2, "Expect: 100-continue"), 404, "METHOD_UNKNOWN"),
        (post(SPORTS, 2, "Expect: 100-continue", content_type="text/html"), 415, "CONTENT_TYPE"),
    ],
)
async def test_what_can_be_refused_before_its_body_is(front_door: Any, head: bytes, status: int, why: str) -> None:
    """A final answer to the head alone, and the end of the connection: the body is not wanted any more."""
    async with front_door() as door:
        answer = await door.raw(head)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert reason(answer) == why


async def test_a_body_to_socket_io_is_asked_for_too(front_door: Any) -> None:
    """Long-polling goes the same way."""
    async with front_door() as door, asyncio.timeout(20):
        reader, writer = await door.opened()
        writer.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
        sid = json.loads((await reader.readuntil(b"}")).partition(b"\r\n\r\n0")[2])["sid"]
        writer.write(post(f"/socket.io/?EIO=4&transport=polling&sid={sid}", 1, "Expect: 100-continue"))
        assert await reader.readexactly(len(CONTINUE)) == CONTINUE
        writer.write(b"3")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_client_of_http_1_0_is_not_asked_for_its_body(front_door: Any) -> None:
    """It does not know 100 Continue, which it would take for the answer (RFC 9110, 10.1.1)."""
    async with front_door() as door, asyncio.timeout(20):
        reader, writer = await door.opened()
        writer.write(post(SPORTS, 2, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
        await writer.drain()
        await door.raw(LAST_PAGE)  # so the first head was read before its body came
        writer.write(b"{}")
        assert (await reader.read()).startswith(b"HTTP/1.0 200 ")
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        LAST_PAGE,
        b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
    ],
    ids=["page", "live", "live, refused", "unreadable"],
)
async def test_every_answer_has_the_same_server_header(front_door: Any, request_bytes: bytes) -> None:
    """Versions of Python and libraries are nobody's business."""
    async with front_door() as door:
        head = (await door.raw(request_bytes)).partition(b"\r\n\r\n")[0].decode()
    assert [line for line in head.split("\r\n") if line.lower().startswith("server:")] == ["Server: betting"]


async def test_a_handshake_has_the_same_server_header(front_door: Any) -> None:
    """That of a WebSocket too."""
    key = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        + "A" * 22
        + "=="
    )
    async with front_door() as door, asyncio.timeout(20):
        reader, writer = await door.opened()
        writer.write(f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nServer: betting\r\n" in head
        writer.close()


async def test_a_preflight_may_ask_for_the_headers_of_tracers(front_door: Any) -> None:
    """As browsers ask, and as the setting adds."""
    asked = b"Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"
    wanted = b"authorization,baggage,content-type,sentry-trace,traceparent,tracestate,x-request-id"
    head = b"OPTIONS " + SPORTS.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + asked
    async with front_door(cors_headers="X-Request-Id") as door:
        answer = (await door.raw(head + b"Access-Control-Request-Headers: " + wanted + b"\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 204 ")
    [allowed] = [line for line in answer.split("\r\n") if line.startswith("Access-Control-Allow-Headers: ")]
    assert set(wanted.decode().split(",")) <= set(allowed.partition(": ")[2].split(", "))


# Plain gRPC.


@pytest.mark.parametrize("calls", [1, 3])
async def test_plain_grpc_is_told_what_to_speak(front_door: Any, calls: int) -> None:
    """A status of gRPC's own for each call, with one reply or a stream of them, and at once."""
    async with front_door() as door, grpc.aio.insecure_channel(door.address) as channel, asyncio.timeout(20):
        for _ in range(calls):
            with pytest.raises(grpc.aio.AioRpcError) as unary:
                await event_pb2_grpc.EventServiceStub(channel).ListSports(event_pb2.ListSportsRequest())
            assert (unary.value.code(), unary.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, PLAIN_GRPC)
        replies = odds_pb2_grpc.OddsServiceStub(channel).WatchPrices(odds_pb2.WatchPricesRequest())
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await replies.read()
        assert stream.value.code() is grpc.StatusCode.UNIMPLEMENTED
        large = bet_pb2.PlaceBetsRequest(bets=[bet_pb2.PlaceBetRequest(currency="x" * 100)] * 500)
        with pytest.raises(grpc.aio.AioRpcError) as sent:
            await bet_pb2_grpc.BetServiceStub(channel).PlaceBets(large)
        assert sent.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x09\x00\x00\x00\x00\x01" * 40_000,
    ],
    ids=["preface", "frame size", "endless"],
)
async def test_broken_http2_ends_with_goaway(front_door: Any, data: bytes) -> None:
    """And with nothing but frames."""
    async with front_door() as door:
        try:
            answer = await door.raw(data)
        except ConnectionError:  # it sent on
            return
    assert b"\x07\x00\x00\x00\x00\x00" in answer
    assert not answer.startswith(b"HTTP")


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"]
)
@pytest.mark.parametrize("path", [SPORTS, WATCH])
async def test_grpc_over_http_1_1_is_answered_in_its_own_terms(front_door: Any, content_type: str, path: str) -> None:
    """Trailers-Only: 200, the status in the head, no body."""
    async with front_door() as door:
        body = encode_frame(b"")
        answer = await door.raw(post(path, len(body), "Connection: close", content_type=content_type) + body)
    head = answer.decode().lower()
    assert head.startswith("http/1.1 200 ")
    assert "\r\ncontent-type: application/grpc\r\n" in head
    assert "\r\ngrpc-status: 12\r\n" in head
    assert "connect" in head.partition("grpc-message: ")[2]
    assert head.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "given", "taken", "not_taken"),
    [
        (WATCH, "application/json", "application/connect+json", "application/json"),
        (WATCH, "application/proto", "application/grpc-web+proto", "application/proto"),
        (SPORTS, "application/connect+json", "application/json", "application/connect+json"),
        (SPORTS, "text/html", "application/grpc-web", "application/connect+proto"),
    ],
)
async def test_a_wrong_type_is_answered_with_the_right_ones(
    front_door: Any, path: str, given: str, taken: str, not_taken: str
) -> None:
    """Those that the method takes, and not the one that was refused."""
    async with front_door() as door:
        answer = await door.raw(post(path, 2, "Connection: close", content_type=given) + b"{}")
    assert answer.startswith(b"HTTP/1.1 415 ")
    message = json.loads(answer.rpartition(b"\r\n\r\n")[2])["message"]
    named = message.partition("use one of ")[2].split(", ")
    assert given in message.partition("use one of ")[0]
    assert taken in named
    assert not_taken not in named
    assert f"Accept-Post: {', '.join(named)}\r\n".encode() in answer


# Deadlines.


async def test_a_connection_that_asks_for_nothing_is_ended_soon(front_door: Any) -> None:
    """One that never asked has as long as a head has; one that did may wait for the next request."""
    async with front_door(receive_timeout=0.3, keepalive_timeout=60) as door, asyncio.timeout(20):
        used_reader, used = await door.opened()
        used.write(PAGE)
        await used_reader.readuntil(b"}")
        assert await door.raw(b"") == b""
        used.write(LAST_PAGE)
        assert b"HTTP/1.1 200 " in await used_reader.read()
        used.close()


async def test_a_poll_of_socket_io_leaves_an_idle_connection_behind(front_door: Any) -> None:
    """Which ends like any other."""
    async with front_door(receive_timeout=10, keepalive_timeout=0.3) as door:
        answer = await door.raw(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_who_asks_and_does_not_read_is_let_go(front_door: Any) -> None:
    """A place is not held by leaving an answer unread."""
    async with front_door(send_timeout=0.3, receive_timeout=1) as door:
        reader, writer = await door.opened()
        writer.transport.pause_reading()
        page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        async with asyncio.timeout(30):
            while not writer.transport.is_closing() and len(door.gateway.connections):
                writer.write(page * 500)
                await asyncio.sleep(0.02)
        assert len(door.gateway.connections) == 0
        writer.transport.abort()
        del reader


async def test_a_head_without_end_is_refused(front_door: Any) -> None:
    """By its size, before anything parses all of it."""
    async with front_door() as door:
        many = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 100) for number in range(1_000))
        try:
            answer = await door.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + many)
        except ConnectionError:  # it sent on
            return
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_gateway_that_will_stop_says_so_with_the_last_answer(front_door: Any, bet: Any) -> None:
    """Each connection, old, idle or new, ends with an answer that says so, on the fast path and beside it: nobody's
    request meets a connection that is being closed."""
    async with front_door() as door:
        body = json_format.MessageToJson(bet()).encode()
        head = "Authorization: Bearer " + door.world.token()
        request = post("/betting.v1.BetService/PlaceBet", len(body), head) + body
        known, idle = await door.opened(), await door.opened()
        for reader, writer in (known, known, idle):  # the second time on the fast path
            assert b"connection: close" not in (await _answered(reader, writer, request)).lower()
        await door.gateway.listener.refuse()
        for reader, writer in (known, idle, await door.opened()):
            assert b"\r\nconnection: close\r\n" in (await _answered(reader, writer, request)).lower()
            assert await reader.read() == b""
            writer.close()
        assert len(door.world.seen) == 6


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The head of the answer; its body is read."""
    writer.write(request)
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
    assert head.startswith(b"HTTP/1.1 200 "), head
    return head
