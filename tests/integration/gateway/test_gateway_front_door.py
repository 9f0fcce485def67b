"""The gateway's connections on real sockets: expectations, other protocols, places, deadlines."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from betting.gateway.dispatch import BODY_BYTES_OF_ONE_MAX
from betting.gateway.protocols.encoding import decode_text, encode_frame
from betting.gateway.protocols.wires import PLAIN_GRPC
from betting.v1 import bet_pb2, bet_pb2_grpc, event_pb2, event_pb2_grpc, odds_pb2, odds_pb2_grpc

PAGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_PAGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SPORTS = "/betting.v1.EventService/ListSports"
WATCH = "/betting.v1.OddsService/WatchPrices"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def post(path: str, length: int, *more: str, content_type: str = "application/json") -> bytes:
    """The head of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def until(reached: Callable[[], bool]) -> None:
    """Waits for something that happens in the gateway's own time."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def reason(answer: bytes) -> str:
    """The reason in the JSON of a refusal."""
    error = json.loads(answer.rpartition(b"\r\n\r\n")[2])
    return str(error["details"][0]["debug"]["reason"])


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


# Places.


async def test_idle_connections_keep_nobody_out(front_door: Any) -> None:
    """With all places of an address held by connections that say nothing, the oldest make room."""
    async with front_door(connections_per_address_max=20) as door:
        held = [await door.opened() for _ in range(100)]
        for _ in range(30):
            assert (await door.raw(LAST_PAGE)).startswith(b"HTTP/1.1 200 ")
        assert len(door.gateway.connections) <= 20
        assert await held[0][0].read() == b""
        for _, writer in held:
            writer.close()


async def test_who_makes_room_is_gone_also_with_an_answer_unread(front_door: Any) -> None:
    """Else one client could leave behind as many open sockets as it likes, beyond all limits."""
    page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with front_door(connections_per_address_max=1) as door, asyncio.timeout(60):
        _, writer = await door.opened()
        writer.transport.pause_reading()
        (held,) = door.gateway.connections._accepted
        while not held._transport.get_write_buffer_size():  # more than the system takes, less than holds it up
            writer.write(page)
            await asyncio.sleep(0.001)
        await until(lambda: held.is_idle)
        assert (await door.raw(LAST_PAGE)).startswith(b"HTTP/1.1 200 ")
        assert held not in door.gateway.connections._accepted
        await until(lambda: held._transport is None)
        writer.transport.abort()


async def test_a_connection_at_work_is_not_ended_for_another(front_door: Any) -> None:
    """The newcomer is told 503 and when to come back; probes are answered all the same; then there is room again."""
    async with front_door(connections_max=2) as door:
        busy = [await door.opened() for _ in range(2)]
        body = encode_frame(odds_pb2.WatchPricesRequest(event_ids=[2]).SerializeToString())
        for reader, writer in busy:
            writer.write(post(WATCH, len(body), content_type="application/grpc-web") + body)
            await reader.readuntil(b"\r\n\r\n")
        answer = await door.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert reason(answer) == "TOO_MANY_CONNECTIONS"
        assert b'"alive"' in await door.raw(PAGE)
        busy[0][1].close()
        await until(lambda: len(door.gateway.connections) == 1)
        assert (await door.raw(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
        busy[1][1].close()


async def test_behind_a_proxy_connections_are_not_shared_out_by_address(front_door: Any) -> None:
    """All of them come from it."""
    async with front_door(connections_per_address_max=1, trusted_proxies=1) as door:
        held = [await door.opened() for _ in range(5)]
        for _, writer in held:
            writer.write(PAGE)
        for reader, writer in held:
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_slow_bodies_of_one_address_leave_places_for_others(front_door: Any, bet: Any) -> None:
    """Anonymous ones have their share; a signed-in user at the same address is served, as is another address."""
    async with front_door(requests_per_address_max=5, receive_timeout=30, trusted_proxies=1) as door:
        begun = [await door.opened() for _ in range(8)]
        for port, (_, writer) in enumerate(begun, 1_024):
            writer.write(post(SPORTS, 50, f"X-Forwarded-For: 192.0.2.1:{port}") + b"{")
        await until(lambda: len(door.gateway.dispatcher.requests) == 5)
        refused = await door.raw(post(SPORTS, 2, "X-Forwarded-For: 192.0.2.1", "Connection: close") + b"{}")
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert (reason(refused), b"\r\nRetry-After: 1\r\n" in refused) == ("TOO_MANY_AT_ONCE", True)
        other = await door.raw(post(SPORTS, 2, "X-Forwarded-For: 192.0.2.2", "Connection: close") + b"{}")
        assert other.startswith(b"HTTP/1.1 200 ")
        body = encode_frame(bet().SerializeToString())
        token = f"Authorization: Bearer {door.world.token()}"
        placing = post(
            "/betting.v1.BetService/PlaceBet", len(body), token, "X-Forwarded-For: 192.0.2.1", "Connection: close",
            content_type="application/grpc-web",
        )  # fmt: skip
        assert b"grpc-status: 0" in await door.raw(placing + body)
        for _, writer in begun:
            writer.close()
        await until(lambda: not len(door.gateway.dispatcher.requests))


async def test_large_bodies_of_one_address_leave_memory_for_others(front_door: Any, bet: Any) -> None:
    """Hundreds of places, each with a body that is nearly as large as one may be, would fill it."""
    async with front_door(receive_timeout=60) as door, asyncio.timeout(60):
        length = 1 << 20
        shares = BODY_BYTES_OF_ONE_MAX // length
        begun = [await door.opened() for _ in range(shares + 4)]
        for _, writer in begun:
            writer.write(post(SPORTS, length) + b" " * (length - 1))
        answers = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader, _ in begun]
        await until(lambda: sum(answer.done() for answer in answers) >= 4)
        assert len(door.gateway.dispatcher.bodies) <= BODY_BYTES_OF_ONE_MAX
        assert all(answer.result().startswith(b"HTTP/1.1 429 ") for answer in answers if answer.done())
        body = encode_frame(bet().SerializeToString())
        token = f"Authorization: Bearer {door.world.token()}"
        placing = post(
            "/betting.v1.BetService/PlaceBet", len(body), token, "Connection: close",
            content_type="application/grpc-web",
        )  # fmt: skip
        assert b"grpc-status: 0" in await door.raw(placing + body)
        for answer, (_, writer) in zip(answers, begun, strict=True):
            answer.cancel()
            writer.close()
        await until(lambda: not len(door.gateway.dispatcher.bodies))


async def test_streams_are_shared_out(front_door: Any) -> None:
    """By address where nobody is signed in, and in all; with a reason in the caller's protocol."""
    body = encode_frame(odds_pb2.WatchPricesRequest(event_ids=[2]).SerializeToString())

    def watch(address: str) -> bytes:
        return post(WATCH, len(body), f"X-Forwarded-For: {address}", content_type="application/grpc-web") + body

    async with front_door(streams_per_address_max=2, streams_max=3, trusted_proxies=1) as door:
        opened = []
        for address, place in (
            ("192.0.2.1", "0"), ("192.0.2.1", "0"), ("192.0.2.1", "8"), ("192.0.2.2", "0"), ("192.0.2.3", "14")
        ):  # fmt: skip
            reader, writer = await door.opened()
            opened.append(writer)
            writer.write(watch(address))
            await reader.readuntil(b"\r\n\r\n")
            got = await reader.read(60)
            assert (f"grpc-status: {place}".encode() in got) == (place != "0")
        for writer in opened:
            writer.close()
        await until(lambda: not len(door.gateway.dispatcher.streams))


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


# What costs nobody else.


def _chunks(body: bytes) -> bytes:
    head = post(SPORTS, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked\r\nConnection: close")
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def _json(body: bytes) -> bytes:
    return post(WATCH, len(body) + 5, "Connection: close", content_type="application/connect+json") + encode_frame(body)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (_chunks(b"{" + b" " * 150_000 + b"}"), b"HTTP/1.1 200 "),
        (PAGE * 12_000 + LAST_PAGE, b"HTTP/1.1 200 "),
        (_json(b'{"eventIds":[' + b"1," * 500_000 + b"1]}"), b"JSON_TOO_LARGE"),
        (_json(b'{"eventIds":[' + b"1," * 90_000 + b"1]}"), b"JSON_TOO_LARGE"),
        (_json(b'{"eventIds":[' + b"3," * 4_900 + b"3]}"), b'"sequence"'),
        (_json(b'{"x":' + b"[" * 500_000), b"JSON_TOO_LARGE"),
        (_json(b'{"x":' + b"[" * 50_000), b"invalid_argument"),
        (_json(b'{"x":' + b"9" * 900_000 + b"}"), b"invalid_argument"),
        (
            post(SPORTS, 1 << 20, "Connection: close", content_type="application/grpc-web-text") + b"AAA=" * (1 << 18),
            b"grpc-status: 3",
        ),
    ],
    ids=["chunks", "pipelined", "values", "many values", "some values", "nested", "deep", "digits", "segments"],
)
async def test_what_is_dear_to_read_keeps_nobody_waiting(front_door: Any, data: bytes, wanted: bytes) -> None:
    """Others are answered between the pieces: none of them waits for long, or for much of it on a slow machine."""
    async with front_door() as door:
        all_began_s = time.thread_time()
        asking = asyncio.ensure_future(door.raw(data))
        reader, writer = await door.opened()
        slowest_s = 0.0
        while not asking.done():
            began_s = time.thread_time()
            writer.write(PAGE)
            await reader.readuntil(b"}")
            slowest_s = max(slowest_s, time.thread_time() - began_s)
        writer.close()
        all_s = time.thread_time() - all_began_s
        head, _, body = (await asking).partition(b"\r\n\r\n")
    assert wanted in (decode_text(body) if b"grpc-web-text" in head else head + body)
    assert slowest_s < max(0.15, all_s / 5)


async def test_a_large_request_of_a_user_keeps_nobody_waiting(front_door: Any) -> None:
    """It is read beside the loop, also where it is refused afterwards."""
    body = b'{"bets":[' + b"{}," * 49_000 + b"{}]}"
    async with front_door() as door:
        token = f"Authorization: Bearer {door.world.token()}"
        head = post("/betting.v1.BetService/PlaceBets", len(body), token, "Connection: close")
        asking = asyncio.ensure_future(door.raw(head + body))
        reader, writer = await door.opened()
        slowest_s = 0.0
        while not asking.done():
            began_s = time.thread_time()
            writer.write(PAGE)
            await reader.readuntil(b"}")
            slowest_s = max(slowest_s, time.thread_time() - began_s)
        writer.close()
        answer = await asking
    assert b"BET_COUNT" in answer or b"RATE_LIMITED" in answer
    assert slowest_s < 0.15


async def test_many_large_requests_of_a_user_are_waited_for_by_that_user_only(front_door: Any) -> None:
    """All are converted in one thread: somebody else's turn comes after one of them, not after all."""
    large, less = b'{"bets":[' + b"{}," * 49_000 + b"{}]}", b'{"bets":[' + b"{}," * 600 + b"{}]}"

    def place(user: uuid.UUID, body: bytes) -> bytes:
        token = f"Authorization: Bearer {door.world.token(user)}"
        return post("/betting.v1.BetService/PlaceBets", len(body), token, "Connection: close") + body

    async with front_door() as door, asyncio.timeout(60):
        greedy, other = uuid.uuid4(), uuid.uuid4()
        asking = [asyncio.ensure_future(door.raw(place(greedy, large))) for _ in range(20)]
        await until(lambda: len(door.gateway.dispatcher.requests) >= 15)
        answered_before = sum(each.done() for each in asking)
        await door.raw(place(other, less))
        assert sum(each.done() for each in asking) - answered_before < 6
        await asyncio.gather(*asking)
