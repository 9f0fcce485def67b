"""Live: what one client sends, or leaves unsent, costs its sender the connection and everybody else nothing."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from live_client import HANDSHAKE, PolledClient, RawClient, live_client

from betting.gateway.live import engine
from betting.gateway.settings import Rate

RECORD = b"\x1e"
# What an attack may cost this process. What it was: seconds.
LOOP_CPU_MAX_S = 0.7


@asynccontextmanager
async def cheap() -> AsyncIterator[None]:
    """What the loop's thread computes meanwhile, client and gateway together, stays small whatever else runs here."""
    before_s = time.thread_time()
    yield
    assert time.thread_time() - before_s < LOOP_CPU_MAX_S


def masked(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A frame as clients send it, with a mask of zeros."""
    head = bytes((opcode | (0x80 if final else 0),))
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xff" + struct.pack(">Q", len(payload))
    return head + length + bytes(4) + payload


async def handshake(session: aiohttp.ClientSession, door: Any) -> str:
    """An anonymous session's URL."""
    url = f"http://{door.address}{HANDSHAKE}polling"
    async with session.get(url) as answer:
        assert answer.status == 200
        return f"{url}&sid={json.loads((await answer.text())[1:])['sid']}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (RECORD * ((1 << 17) - 1), 413),  # a packet for each byte
        (RECORD * (1 << 20), 413),
        (RECORD.join([b"2"] * 60_000), 413),
        (RECORD.join([b'42["x"]'] * 10_000), 413),
        (b"4" * (1 << 20), 413),
        (b"42" + b"[" * 100_000, 200),  # one packet, refused by an event
        (b"42[" + b"1," * 50_000 + b"1]", 200),
        (b"42" + b"9" * 100_000 + b"-[]", 200),
        (b"451" + b"0" * 100_000 + b'-["x",{"_placeholder":true,"num":0}]', 200),
        (RECORD.join([b"\xff"] * 900), 200),
    ],
)
async def test_one_bad_body_costs_nobody_else_anything(front_door: Any, body: bytes, status: int) -> None:
    """Packets are counted before they are split. A body over the limits ends its session; others are served."""
    async with (
        front_door() as door,
        live_client(door.address, door.world.token()) as other,
        aiohttp.ClientSession() as session,
    ):
        url = await handshake(session, door)
        async with cheap(), session.post(url, data=body) as answer:
            assert answer.status == status
        async with session.post(url, data=b"3") as again:
            assert again.status == (400 if status == 413 else 200)
        assert "error" in await other.call("subscribe:odds", {})


async def test_a_body_of_many_packets_is_taken_up_to_the_rate(front_door: Any) -> None:
    """What socket.io's client sends after a pause in one request arrives; what is beyond the rate is told once."""
    async with front_door() as door, PolledClient.connected(door.address, door.world.token()) as client:
        await client.post(RECORD.join(f'42{number}["authenticate",{{}}]'.encode() for number in range(300)))
        told = await client.until('"code":"RATE_LIMITED"')
        answered = [each for each in told if each.startswith("43")]
        while len(answered) < 190:
            answered += [each for each in await client.until("43") if each.startswith("43")]
        assert sum("RATE_LIMITED" in each for each in told) == 1


@pytest.mark.parametrize(
    "frame", [masked(1), masked(1, b"2"), masked(2), masked(9), masked(10), masked(1, b'42["x"]')], ids=str
)
async def test_a_flood_of_small_frames_ends_its_own_connection(front_door: Any, frame: bytes) -> None:
    """200,000 at once are not answered one by one, and another bettor is served meanwhile."""
    async with front_door() as door, live_client(door.address, door.world.token()) as other:
        reader, writer = await door.opened()
        writer.write(
            f"GET {HANDSHAKE}websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        async with cheap():
            writer.write(frame * 200_000)
            slowest_s = 0.0
            for _ in range(10):
                asked_s = time.thread_time()
                assert "error" in await other.call("subscribe:odds", {})
                slowest_s = max(slowest_s, time.thread_time() - asked_s)
            async with asyncio.timeout(20):
                try:
                    told = await reader.read()
                except ConnectionError:  # what it still sends is not read any more
                    told = b""
        assert slowest_s < 0.3
        assert b"TOO_MANY_MESSAGES" in told or not told
        writer.close()


def refused(connection: engine.Connection) -> float:
    """How many messages of whatever connection have been refused."""
    samples = (sample for family in connection._refused.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def test_errors_that_nobody_reads_are_left_out(front_door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would only cost memory; who reads again goes on."""
    monkeypatch.setattr(engine, "SYSTEM_BYTES", 4_096)
    monkeypatch.setattr(engine, "UNREAD_ERRORS_MAX", 100)
    monkeypatch.setattr(engine, "REFUSED", Rate(per_s=50.0, burst=20_000.0))
    async with front_door() as door:
        garbage = await RawClient.connected(door.address, door.world.token(), receive_bytes=4_096)
        [connection] = door.live._engine._connections.values()
        garbage.stand_still()
        before = refused(connection)
        for _ in range(10_000):
            await garbage.send("garbage")
        async with asyncio.timeout(20):
            while refused(connection) - before < 10_000:  # noqa: ASYNC110 - all of them were refused
                await asyncio.sleep(0.01)
        garbage.read_on()
        async with asyncio.timeout(20):
            while connection._messages.tokens < 10:  # the rate lets it through again
                await asyncio.sleep(0.05)
                connection._messages.take(0, asyncio.get_running_loop().time())
        await garbage.send('427["authenticate",{}]')
        told = await garbage.until("437")
        assert len([each for each in told if each.startswith('42["error"')]) < 5_000
        await garbage.close()


@pytest.mark.parametrize(
    "data",
    [
        masked(1, b"4" * 200_000),
        masked(1, b"4" * 50_000, final=False) + masked(0, b"4" * 50_000, final=False) * 3,
        b"\x81\xff" + struct.pack(">Q", 1 << 62) + bytes(4),
    ],
    ids=["frame", "fragments", "announced"],
)
async def test_a_message_without_end_ends_its_own_connection(front_door: Any, data: bytes) -> None:
    """What is over the limit is not kept, in one piece or in many."""
    async with front_door() as door:
        client = await RawClient.connected(door.address, door.world.token())
        client.write(data)
        with pytest.raises(ConnectionError, match="CLOSE"):
            await client.until("never")
        await client.close()


async def test_a_slow_body_has_a_deadline(front_door: Any) -> None:
    """And ends its session: a place is not held by sending a byte now and then."""
    async with front_door(receive_timeout=0.5) as door, aiohttp.ClientSession() as session:
        url = (await handshake(session, door)).partition(door.address)[2]
        head = f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4"
        answer = await door.raw(head.encode())
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"REQUEST_SLOW" in answer


async def test_slow_bodies_have_the_places_of_requests(front_door: Any) -> None:
    """So many of one address, and then 429: they do not use up its connections."""
    async with front_door(requests_per_address_max=2) as door, aiohttp.ClientSession() as session:
        url = await handshake(session, door)
        begun = []
        for _ in range(2):
            _, writer = await door.opened()
            writer.write(f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4".encode())
            begun.append(writer)
        async with asyncio.timeout(20):
            while len(door.gateway.dispatcher.requests) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with session.post(url, data=b"3") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        for writer in begun:
            writer.close()


async def test_a_session_is_polled_once_at_a_time(front_door: Any) -> None:
    """A second poll is refused, and the first goes on to its answer."""
    async with front_door() as door, PolledClient.connected(door.address, door.world.token()) as client:
        polls = [asyncio.ensure_future(client.poll()) for _ in range(3)]
        async with asyncio.timeout(20):
            done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 2:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert {each.result()[0] for each in done} == {400}
            await client.post(b'427["authenticate",{}]')
            [last] = waiting
            status, body = await last
            assert status == 200
            assert "437[" in body or '42["error"' in body


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_who_does_not_sign_in_is_let_go(front_door: Any, transport: str) -> None:
    """Anonymous sessions end after the time to send a request; those who signed in stay."""
    async with (
        front_door(receive_timeout=0.5) as door,
        live_client(door.address, door.world.token()) as other,
        aiohttp.ClientSession() as session,
    ):
        if transport == "polling":
            url = await handshake(session, door)
            async with asyncio.timeout(20), session.get(url) as poll:
                assert poll.status == 200
                await poll.read()
            async with session.get(url) as again:
                assert again.status == 400
        else:
            async with asyncio.timeout(20), session.ws_connect(f"http://{door.address}{HANDSHAKE}websocket") as socket:
                assert [message.type async for message in socket if message.type is not aiohttp.WSMsgType.TEXT] == []
        assert "error" in await other.call("subscribe:odds", {})
        assert len(door.live) == 1


async def test_sessions_are_shared_out_by_address_and_by_user(front_door: Any) -> None:
    """Who has not signed in counts for the address, who has for the user: neither keeps the others out."""
    shares = {"live_connections_per_address_max": 3, "live_connections_per_user_max": 2}
    async with front_door(**shares) as door, aiohttp.ClientSession() as session:
        token = door.world.token()
        async with live_client(door.address, token), live_client(door.address, token):
            for _ in range(3):
                await handshake(session, door)
            async with session.get(f"http://{door.address}{HANDSHAKE}polling") as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
                assert (await refused.json())["details"][0]["debug"]["reason"] == "TOO_MANY_AT_ONCE"


async def test_a_full_gateway_says_when_to_come_back(front_door: Any) -> None:
    """503 with Retry-After; a place that was given back is taken again."""
    async with front_door(live_connections_max=1) as door, aiohttp.ClientSession() as session:
        url = f"http://{door.address}{HANDSHAKE}polling"
        async with live_client(door.address, door.world.token()), session.get(url) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        async with asyncio.timeout(20):
            while True:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.01)


async def test_requests_to_socket_io_count_against_the_address(front_door: Any) -> None:
    """As all requests do."""
    async with front_door(requests_per_address_s=1.0, requests_per_address_burst=3.0) as door:
        async with aiohttp.ClientSession() as session:
            statuses = []
            for _ in range(5):
                async with session.get(f"http://{door.address}{HANDSHAKE}polling") as answer:
                    statuses.append(answer.status)
        assert statuses == [200, 200, 200, 429, 429]


async def test_limits_that_are_told_are_those_that_hold(front_door: Any) -> None:
    """The handshake names the largest body: socket.io's client keeps to it."""
    async with (
        front_door() as door,
        aiohttp.ClientSession() as session,
        session.get(f"http://{door.address}{HANDSHAKE}polling") as answer,
    ):
        assert json.loads((await answer.text())[1:])["maxPayload"] == engine.BODY_BYTES_MAX
