"""Socket.IO behind a real gateway: who is let in, prices by room, garbage, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import in_process
import pytest
import redis.asyncio
from live_client import HANDSHAKE, PolledClient, RawClient, live_client, refusal
from owner_calls import keep_publishing, market_prices, service_metadata

from betting.gateway.live import engine, writer
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings
from betting.v1 import odds_pb2

pytestmark = pytest.mark.slow

SHARDS = 4


@asynccontextmanager
async def odds_service(database: Any, valkey: Any, address: str) -> AsyncIterator[str]:
    """A real odds-service with prices of events 1 to 8."""
    settings = in_process.settings(
        OddsSettings, instance="odds-service", grpc_address=address, postgres_dsn=database.dsn, redis_url=valkey.url
    )
    async with in_process.running(compose_odds, settings, service="odds-service") as served:
        alive = asyncio.create_task(keep_publishing(served))
        try:
            yield served
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)


@pytest.fixture
async def odds(database: Any, valkey: Any, unused_tcp_port: int) -> AsyncIterator[str]:
    """It, for the length of a test."""
    async with odds_service(database, valkey, f"127.0.0.1:{unused_tcp_port}") as address:
        yield address


async def publish(address: str, numerators: range, event: int = 1) -> None:
    """Changes an event's prices, once for each numerator."""
    [market] = [each for each in market_prices() if each.event_id == event]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = feed_pb2_grpc.PriceFeedServiceStub(channel)
        for numerator in numerators:
            changed = odds_pb2.MarketPrices()
            changed.CopyFrom(market)
            for price in changed.prices:
                price.price.numerator = numerator
            request = feed_pb2.PublishPricesRequest(producer_id="test", producer_name="test", changes=[changed])
            await stub.PublishPrices(request, metadata=service_metadata())


async def subscribed(client: Any, event: int = 1) -> None:
    """Subscribes, also while the feed's first prices are on their way."""
    async with asyncio.timeout(20):
        while (await client.call("subscribe:odds", {"eventId": str(event)})) != {"ok": True}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def numerator(update: Any) -> int:
    """The price that an update shows."""
    return int(update["markets"][0]["prices"][0]["price"]["numerator"])


async def test_only_who_has_a_good_token_is_let_in(gateway: Any) -> None:
    """Everything else is a connect_error with a code."""
    world, codes = gateway.world, []
    for auth in (None, {}, {"token": 7}, {"token": "x.y.z"}, {"token": world.token(exp=int(time.time()) - 1)}):
        codes.append((await refusal(gateway.address, auth))["data"]["code"])
    assert codes == ["TOKEN_MISSING", "TOKEN_MISSING", "TOKEN_MISSING", "TOKEN_MALFORMED", "TOKEN_EXPIRED"]
    async with live_client(gateway.address, world.token()) as client:
        assert (await client.call("subscribe:odds", {"eventId": "nonsense"}))["error"]["code"] == "EVENT_ID"


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_snapshot_then_every_change_in_sequence(start_gateway: Any, odds: str, transport: str) -> None:
    """The sequence has no hole, and the last price arrives; after leaving the room nothing does."""
    async with (
        start_gateway(odds_service=odds) as gateway,
        live_client(gateway.address, gateway.world.token(), transport=transport) as client,
    ):
        await subscribed(client)
        [first] = await client.told("odds:update")
        assert (first["kind"], first["eventId"], first["stale"]) == ("snapshot", "1", False)
        await publish(odds, range(10, 20))
        await client.until(lambda: numerator(client.all("odds:update")[-1]) == 19)
        updates = client.all("odds:update")
        assert [each["kind"] for each in updates[1:]] == ["delta"] * (len(updates) - 1)
        sequences = [each["sequence"] for each in updates]
        assert sequences == list(range(sequences[0], sequences[0] + len(updates)))
        assert await client.call("unsubscribe:odds", {"eventId": 1}) == {"ok": True}
        await subscribed(client, 2)
        await publish(odds, range(20, 21))
        await publish(odds, range(30, 31), event=2)
        await client.until(lambda: numerator(client.all("odds:update")[-1]) == 30)
        assert {each["eventId"] for each in client.all("odds:update")[len(updates) :]} == {"2"}
        unknown = await client.call("subscribe:odds", {"eventId": "4711"})
        assert unknown["error"]["code"] == "NOT_FOUND"


async def test_prices_are_marked_stale_while_odds_service_is_away(
    start_gateway: Any, database: Any, valkey: Any, unused_tcp_port: int
) -> None:
    """And come back by themselves, whole and fresh."""
    address = f"127.0.0.1:{unused_tcp_port}"
    async with (
        start_gateway(odds_service=address) as gateway,
        live_client(gateway.address, gateway.world.token()) as client,
    ):
        assert (await client.call("subscribe:odds", {"eventId": "1"}))["error"]["code"] == "UNAVAILABLE"
        async with odds_service(database, valkey, address):
            await subscribed(client)
            await client.told("odds:update")
        await client.until(lambda: client.all("odds:update")[-1]["stale"])
        async with odds_service(database, valkey, address):
            await client.until(lambda: not client.all("odds:update")[-1]["stale"])
        back = client.all("odds:update")
        assert any(each["kind"] == "snapshot" for each in back[1:])
        assert [each["sequence"] for each in back] == list(range(len(back)))


async def test_who_reads_slowly_gets_the_newest_prices_and_no_backlog(
    start_gateway: Any, odds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stood still sees a gap, then a snapshot with the last price."""
    monkeypatch.setattr(writer, "CONFLATE_BYTES", 0)
    monkeypatch.setattr(engine, "SYSTEM_BYTES", 4_096)
    changes = 600
    async with start_gateway(odds_service=odds) as gateway:
        slow = await RawClient.connected(gateway.address, gateway.world.token(), receive_bytes=4_096)
        async with live_client(gateway.address, gateway.world.token()) as quick:
            await subscribed(quick)
            await slow.send('420["subscribe:odds",{"eventId":"1"}]')
            await slow.until("430")
            slow.stand_still()
            await publish(odds, range(100, 100 + changes))
            await quick.until(lambda: numerator(quick.all("odds:update")[-1]) == 99 + changes)
        slow.read_on()
        told = await slow.until(f'"numerator":{99 + changes}')
        await slow.close()
    assert sum("odds:update" in each for each in told) < changes
    assert '"kind":"snapshot"' in told[-1]


GARBAGE: tuple[tuple[str | bytes, str], ...] = (
    ("nonsense", "NOT_ENGINE_IO"),
    ("", "NOT_ENGINE_IO"),
    ("4", "NOT_SOCKET_IO"),
    ("49", "NOT_SOCKET_IO"),
    (b"\x00\xff" * 100, "BINARY"),
    ("42", "MALFORMED"),
    ("42{", "MALFORMED"),
    ("42[7]", "MALFORMED"),
    ("42" + "[" * 5_000, "MALFORMED"),
    ("451-" + '["subscribe:odds",{"_placeholder":true,"num":0}]', "NOT_SOCKET_IO"),
    ("42" + '["subscribe:odds","' + "x" * 20_000 + '"]', "TOO_LARGE"),
    ('42["no:such:event",{}]', "UNKNOWN_EVENT"),
    ('42["subscribe:odds"]', "NOT_AN_OBJECT"),
    ('42["subscribe:odds",[1]]', "NOT_AN_OBJECT"),
    ('42["subscribe:odds",{}]', "EVENT_ID"),
    ('42["subscribe:odds",{"eventId":true}]', "EVENT_ID"),
    ('42["subscribe:odds",{"eventId":1e400}]', "EVENT_ID"),
    ('42["subscribe:odds",{"eventId":-1}]', "EVENT_ID"),
    ('42["subscribe:bet",{"betId":7}]', "BET_ID"),
    ('42["subscribe:bet",{"betId":"\\ud800"}]', "BET_ID"),
    ('42["subscribe:bet",{"betId":"00000000-0000-7000-8000-000000000000","after":5}]', "AFTER"),
    ('42["subscribe:bet",{"betId":"00000000-0000-7000-8000-000000000000","after":{"shard":"x"}}]', "AFTER"),
    ('42["authenticate",{"token":"nonsense"}]', "TOKEN_MALFORMED"),
)


async def test_garbage_gets_a_code_and_the_socket_lives(gateway: Any) -> None:
    """Each piece in turn on one connection, which then still works."""
    client = await RawClient.connected(gateway.address, gateway.world.token())
    try:
        for piece, code in GARBAGE:
            await client.send(piece)
            told = await client.until('42["error"')
            assert f'"code":"{code}"' in told[-1], (piece[:60], told)
        await client.send('427["authenticate",{}]')
        await client.until("437")
    finally:
        await client.close()


POLLED_GARBAGE = (
    (b"\xff\xfe", "MALFORMED"),
    (b"4" * 5_000, "NOT_SOCKET_IO"),
    (b"6", "NOT_ENGINE_IO"),
    (b"2", "NOT_ENGINE_IO"),
    (b"bAAAA", "NOT_ENGINE_IO"),
    (b'd=42["authenticate",{}]', "NOT_ENGINE_IO"),
    (b'451-["subscribe:odds",{"_placeholder":true,"num":0}]', "NOT_SOCKET_IO"),
    (b'42["subscribe:odds"', "MALFORMED"),
    (b'42["nothing",{}]', "UNKNOWN_EVENT"),
)


async def test_garbage_by_long_polling_gets_a_code_and_the_session_lives(gateway: Any) -> None:
    """Each piece in turn, with a message behind it that must not be lost; many in one request; too many."""
    async with PolledClient.connected(gateway.address, gateway.world.token()) as client:
        for number, (piece, code) in enumerate(POLLED_GARBAGE):
            await client.post(piece)
            told = await client.until('42["error"')
            assert f'"code":"{code}"' in told[-1], (piece[:60], told)
            await client.post(f'42{number}["authenticate",{{}}]'.encode())
            await client.until(f"43{number}[")
        await asyncio.sleep(2)  # the rate
        await client.post(b"\x1e".join(f'42{number}["authenticate",{{}}]'.encode() for number in range(100, 120)))
        assert len([each for each in await client.until("43119[") if each.startswith("43")]) == 20
        await client.post(b"\x1e".join([b'42["authenticate",{}]'] * 400))
        await client.until('"code":"RATE_LIMITED"')


async def test_broken_frames_end_only_their_own_connection(gateway: Any) -> None:
    """Text that is not UTF-8; meanwhile another bettor is served."""
    host, port = gateway.address.split(":")
    async with live_client(gateway.address, gateway.world.token()) as other:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET {HANDSHAKE}websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\x84\x00\x00\x00\x00\xff\xfe\xfd\xfc")
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        url = f"http://{gateway.address}{HANDSHAKE}polling&sid="
        async with gateway.session.post(url + "nobody", data=b"40") as answer:
            assert answer.status == 400
        assert "error" in await other.call("subscribe:odds", {})


async def test_too_much_is_refused_with_a_code(gateway: Any) -> None:
    """More messages than one may send, and more connections than a user may have."""
    client = await RawClient.connected(gateway.address, gateway.world.token())
    for _ in range(400):
        await client.send('42["authenticate",{}]')
    await client.until('"code":"RATE_LIMITED"')
    await client.close()
    token = gateway.world.token()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(live_client(gateway.address, token))
        assert (await refusal(gateway.address, {"token": token}))["data"]["code"] == "TOO_MANY_CONNECTIONS"
    async with live_client(gateway.address, token):
        pass


async def test_who_asks_and_never_reads_is_let_go(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks on and on and reads no answer is sent away."""
    monkeypatch.setattr(engine, "SYSTEM_BYTES", 4_096)
    monkeypatch.setattr(writer, "UNREAD_BYTES_MAX", 2_048)
    asking = await RawClient.connected(gateway.address, gateway.world.token(), receive_bytes=4_096)
    asking.stand_still()
    for _ in range(200):
        await asking.send('42["nothing",{}]')
        await asyncio.sleep(0.02)
    asking.read_on()
    [why] = [each for each in await asking.until('42["closing"') if each.startswith('42["closing"')]
    assert '"SLOW_READER"' in why
    await asking.close()


async def test_a_token_that_ends_ends_the_connection_unless_renewed(gateway: Any) -> None:
    """The end is announced; who authenticates again stays, who does not is told why and not to come back."""
    user, now_s = uuid.uuid4(), int(time.time())
    token = gateway.world.token(user, exp=now_s + 5)
    async with (
        live_client(gateway.address, token) as renewed,
        live_client(gateway.address, token) as ended,
    ):
        [expiring] = await renewed.told("token:expiring")
        assert expiring == {"expiresAtUs": str((now_s + 5) * 1_000_000)}
        strangers = await renewed.call("authenticate", {"token": gateway.world.token()})
        assert strangers["error"]["code"] == "OTHER_USER"
        fresh = gateway.world.token(user, exp=now_s + 600)
        assert await renewed.call("authenticate", {"token": fresh}) == {
            "ok": True,
            "expiresAtUs": str((now_s + 600) * 1_000_000),
        }
        [why] = await ended.told("closing")
        assert (why["code"], why["reconnect"]) == ("TOKEN_EXPIRED", False)
        async with asyncio.timeout(10):
            await ended.gone.wait()
        assert "error" in await renewed.call("subscribe:odds", {})
        assert renewed.all("closing") == []


async def test_a_session_that_ends_ends_the_connection(gateway: Any, valkey: Any) -> None:
    """user-service revokes it; other sessions go on."""
    session = str(uuid.uuid4())
    async with (
        live_client(gateway.address, gateway.world.token(sid=session)) as revoked,
        live_client(gateway.address, gateway.world.token()) as other,
    ):
        async with redis.asyncio.Redis.from_url(valkey.url) as client:
            await client.xadd("revoked-sessions", {"sid": session, "exp_us": str((int(time.time()) + 600) * 1_000_000)})
        [why] = await revoked.told("closing")
        assert (why["code"], why["reconnect"]) == ("SESSION_ENDED", False)
        assert "error" in await other.call("subscribe:odds", {})


async def test_a_gateway_that_stops_sends_its_clients_elsewhere(start_gateway: Any) -> None:
    """Told to reconnect before the connection ends."""
    async with contextlib.AsyncExitStack() as stack:
        async with start_gateway() as gateway:
            client = await stack.enter_async_context(live_client(gateway.address, gateway.world.token()))
        [why] = await client.told("closing")
        assert (why["code"], why["reconnect"]) == ("DRAINING", True)
        async with asyncio.timeout(10):
            await client.gone.wait()
