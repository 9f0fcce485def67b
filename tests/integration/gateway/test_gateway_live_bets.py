"""Bets over Socket.IO, from a real owner's journal: nothing missed, nothing twice, nobody else's."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from cutting_proxy import CuttingProxy
from live_client import RawClient, live_client
from owner_calls import Bettor, Owners, user_in
from platform_fixtures import bet_service, odds, owners

from betting.gateway.live import engine, server, writer

__all__ = ["bet_service", "odds", "owners"]

HOME_WON = {1: 5, 2: 1, 3: 1}
AWAY_WON = {1: 1, 2: 1, 3: 5}


@pytest.fixture
async def served(bet_service: Any, owners: Owners) -> AsyncIterator[Owners]:
    """Every shard has its owner."""
    async with bet_service():
        await owners.all_served()
        yield owners


async def placed(owners: Owners, bettor: Bettor, count: int = 1) -> list[str]:
    """New bets on market 1, paid for."""
    await owners.one(bettor.shard, bettor.deposit(100_000))
    results = await owners.execute(bettor.shard, *(bettor.bet(100) for _ in range(count)))
    return [str(uuid.UUID(bytes=result.placed.bet_id)) for result in results]


def token(gateway: Any, bettor: Bettor) -> str:
    """The bettor's."""
    made: str = gateway.world.token(uuid.UUID(bytes=bettor.user))
    return made


def place_of(told: Any) -> dict[str, Any]:
    """Where a message stands: what a client sends back."""
    return {"shard": told["shard"], "sequence": told["sequence"]}


def payouts(client: Any) -> list[int]:
    """What each settlement paid, in order."""
    return [int(each["payoutMinor"]) for each in client.all("bet:settled")]


async def test_what_becomes_of_a_bet_is_told_once_and_told_again_to_who_was_away(
    start_gateway: Any, served: Owners
) -> None:
    """Placed, settled and corrected; whoever resumes at another gateway gets what is missing, and nothing twice."""
    bettor = Bettor(user_in(1))
    [bet] = await placed(served, bettor)
    async with AsyncExitStack() as first:
        gateway = await first.enter_async_context(start_gateway(own_shards=False))
        async with live_client(gateway.address, token(gateway, bettor)) as client:
            assert await client.call("subscribe:bet", {"betId": bet}) == {"ok": True, "shard": 1}
            [told] = await client.told("bet:placed")
            assert (told["betId"], told["stakeMinor"], told["shard"]) == (bet, "100", 1)
            await served.settle_shard(1, 1, 1, HOME_WON)
            [settled] = await client.told("bet:settled")
            assert (settled["settlement"], settled["payoutMinor"]) == (1, told["potentialPayoutMinor"])
        async with start_gateway(own_shards=False, instance="gateway-2") as other:
            await first.aclose()
            await served.settle_shard(1, 1, 2, AWAY_WON)
            async with live_client(other.address, token(other, bettor)) as client:
                await client.call("subscribe:bet", {"betId": bet, "after": place_of(settled)})
                [corrected] = await client.told("bet:settled")
                assert (corrected["settlement"], corrected["payoutMinor"]) == (2, "0")
                assert corrected["correctedPayoutMinor"] == settled["payoutMinor"]
                await served.settle_shard(1, 1, 3, HOME_WON)
                await client.told("bet:settled", 2)
                assert client.all("bet:placed") == []
                sequences = [int(each["sequence"]) for each in client.all("bet:settled")]
                assert int(settled["sequence"]) < sequences[0] < sequences[1]
                assert len(sequences) == 2
            async with live_client(other.address, token(other, bettor)) as client:
                await client.call("subscribe:bet", {"betId": bet})
                await client.told("bet:settled", 3)
                assert [name for name, _ in client.heard] == ["bet:placed", *["bet:settled"] * 3]


async def test_a_bet_subscribed_twice_at_once_is_told_once(start_gateway: Any, served: Owners) -> None:
    """Whichever of the two reads the past first."""
    bettor = Bettor(user_in(1))
    bets = await placed(served, bettor, 20)
    async with (
        start_gateway(own_shards=False) as gateway,
        live_client(gateway.address, token(gateway, bettor)) as client,
    ):
        twice = [client.call("subscribe:bet", {"betId": bet}) for bet in bets for _ in range(2)]
        assert all(answer["ok"] for answer in await asyncio.gather(*twice))
        await served.settle_shard(1, 1, 1, HOME_WON)
        await client.told("bet:settled", len(bets))
        assert sorted(each["betId"] for each in client.all("bet:placed")) == sorted(bets)
        assert sorted(each["betId"] for each in client.all("bet:settled")) == sorted(bets)


async def test_nobody_follows_anothers_bet(start_gateway: Any, served: Owners) -> None:
    """The answer is that of a bet there is not, to the letter."""
    bettor = Bettor(user_in(2))
    [bet] = await placed(served, bettor)
    async with start_gateway(own_shards=False) as gateway:
        for shard in (2, 3):
            stranger = Bettor(user_in(shard))
            async with live_client(gateway.address, token(gateway, stranger)) as client:
                none = str(uuid.uuid4())
                answers = [await client.call("subscribe:bet", {"betId": each}) for each in (bet, none)]
                said = [
                    answer["error"]["message"].replace(each, "X")
                    for answer, each in zip(answers, (bet, none), strict=True)
                ]
                assert said[0] == said[1]
                assert [answer["error"]["code"] for answer in answers] == ["BET_NOT_FOUND"] * 2
                await served.settle_shard(2, 1, shard - 1, HOME_WON if shard == 2 else AWAY_WON)
                await client.call("subscribe:odds", {})
                assert client.all("bet:placed") + client.all("bet:settled") == []
        async with live_client(gateway.address, token(gateway, bettor)) as client:
            wrong = await client.call("subscribe:bet", {"betId": bet, "after": {"shard": 3, "sequence": 1}})
            assert wrong["error"]["code"] == "SHARD"


async def test_without_redis_bets_come_from_the_journal(start_gateway: Any, served: Owners, valkey: Any) -> None:
    """While Redis is away, and when it is back: everything in order, once."""
    bettor = Bettor(user_in(0))
    [bet] = await placed(served, bettor)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(CuttingProxy(valkey.url))
        gateway = await stack.enter_async_context(start_gateway(own_shards=False, redis_url=proxy.dsn))
        client = await stack.enter_async_context(live_client(gateway.address, token(gateway, bettor)))
        await client.call("subscribe:bet", {"betId": bet})
        await served.settle_shard(0, 1, 1, HOME_WON)
        await client.told("bet:settled")
        proxy.answers.clear()
        proxy.cut()
        await served.settle_shard(0, 1, 2, AWAY_WON)
        await client.told("bet:settled", 2)
        proxy.answers.set()
        proxy.cut()
        for version in range(3, 7):
            await served.settle_shard(0, 1, version, HOME_WON if version % 2 else AWAY_WON)
        await client.told("bet:settled", 6)
        assert payouts(client) == [250, 0, 250, 0, 250, 0]
        assert [each["settlement"] for each in client.all("bet:settled")] == [1, 2, 3, 4, 5, 6]


async def test_a_bettor_who_is_too_slow_is_sent_away_and_resumes(
    start_gateway: Any, served: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to come back; with what it had seen, and what it then gets, nothing is missing and nothing double."""
    monkeypatch.setattr(writer, "UNREAD_BYTES_MAX", 8_192)
    monkeypatch.setattr(engine, "SYSTEM_BYTES", 4_096)
    bettor = Bettor(user_in(1))
    bets = await placed(served, bettor, 40)
    async with start_gateway(own_shards=False) as gateway:
        slow = await RawClient.connected(gateway.address, token(gateway, bettor), receive_bytes=4_096)
        await follow(slow, bets)
        slow.stand_still()
        await settle_often(served, 10)
        slow.read_on()
        told = await slow.until('42["closing"')
        why = json.loads(told[-1][2:])[1]
        assert (why["code"], why["reconnect"]) == ("SLOW_READER", True)
        await slow.close()
        seen = [json.loads(each[2:])[1] for each in told if each.startswith('42["bet:settled"')]
        last = {each["betId"]: place_of(each) for each in seen}
        async with live_client(gateway.address, token(gateway, bettor)) as client:
            for bet in bets:
                after = {"after": last[bet]} if bet in last else {}
                assert (await client.call("subscribe:bet", {"betId": bet} | after))["ok"]
            await client.told("bet:settled", 40 * 10 - len(seen))
        everything = [(each["betId"], each["settlement"]) for each in [*seen, *client.all("bet:settled")]]
        assert sorted(everything) == sorted((bet, number) for bet in bets for number in range(1, 11))


async def test_a_bettor_who_reads_nothing_at_all_is_let_go(
    start_gateway: Any, served: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not even read why costs no memory for long."""
    monkeypatch.setattr(writer, "UNREAD_BYTES_MAX", 8_192)
    monkeypatch.setattr(engine, "SYSTEM_BYTES", 4_096)
    monkeypatch.setattr(server, "LINGER_S", 0.2)
    bettor = Bettor(user_in(1))
    bets = await placed(served, bettor, 40)
    async with start_gateway(own_shards=False) as gateway:
        dead = await RawClient.connected(gateway.address, token(gateway, bettor), receive_bytes=4_096)
        await follow(dead, bets)
        dead.stand_still()
        port, http_port = dead.port, int(gateway.address.rpartition(":")[2])
        assert is_open(http_port, port)
        await settle_often(served, 10)
        async with asyncio.timeout(20):
            while is_open(http_port, port):  # noqa: ASYNC110 - the system's table
                await asyncio.sleep(0.05)
        dead.read_on()
        await dead.close()


async def follow(client: RawClient, bets: list[str]) -> None:
    """Subscribes to all of them; returns when the last is answered."""
    for number, bet in enumerate(bets):
        await client.send(f'42{number}["subscribe:bet",{{"betId":"{bet}"}}]')
        await client.until(f"43{number}[")


async def settle_often(owners: Owners, times: int) -> None:
    """Settles, and corrects."""
    for version in range(1, times + 1):
        await owners.settle_shard(1, 1, version, HOME_WON if version % 2 else AWAY_WON)


def is_open(port: int, peer: int) -> bool:
    """Whether the gateway's end of a connection is there."""
    return any(
        each.laddr.port == port and each.raddr and each.raddr.port == peer and each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process().net_connections("tcp")
    )
