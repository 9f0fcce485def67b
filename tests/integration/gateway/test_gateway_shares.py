"""What one client of the gateway may take from the others, on real sockets: connections, memory, streams, time."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from raw_http import LAST_PAGE, PAGE, SPORTS, WATCH, post, reason, until

from betting.gateway.dispatch import BODY_BYTES_OF_ONE_MAX
from betting.gateway.protocols.encoding import decode_text, encode_frame
from betting.v1 import odds_pb2

# Connections, memory, streams.


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


# Time.


def _chunks(body: bytes) -> bytes:
    head = post(SPORTS, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked\r\nConnection: close")
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def _json(body: bytes) -> bytes:
    return post(WATCH, len(body) + 5, "Connection: close", content_type="application/connect+json") + encode_frame(body)


async def slowest_page_s(door: Any, asking: asyncio.Future[bytes]) -> float:
    """Processor time of this thread, in seconds, that passed for the slowest of the pages asked for meanwhile."""
    reader, writer = await door.opened()
    slowest_s = 0.0
    while not asking.done():
        began_s = time.thread_time()
        writer.write(PAGE)
        await reader.readuntil(b"}")
        slowest_s = max(slowest_s, time.thread_time() - began_s)
    writer.close()
    return slowest_s


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
        slowest_s = await slowest_page_s(door, asking)
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
        slowest_s = await slowest_page_s(door, asking)
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
