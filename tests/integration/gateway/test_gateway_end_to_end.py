"""HTTP to journal: real bet-service instances, wallet-service and odds-service behind the gateway."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import in_process
import pytest
from frames import split_frames
from google.protobuf import json_format
from owner_calls import PRICE, SHARDS, keep_publishing

from betting.bets.main import compose as compose_bets
from betting.bets.settings import BetSettings
from betting.clients.owners import open_router
from betting.gateway.protocols.encoding import encode_frame
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings
from betting.runtime import ids
from betting.v1 import bet_pb2, common_pb2
from betting.wallet.main import compose as compose_wallet
from betting.wallet.settings import WalletSettings

WEB = "application/grpc-web+proto"


def single(stake_minor: int = 100, market: int = 1) -> bet_pb2.PlaceBetRequest:
    """A bet at today's price."""
    price = common_pb2.Price(numerator=PRICE[0], denominator=PRICE[1])
    leg = bet_pb2.Leg(market_id=market, selection_id=1, price=price)
    return bet_pb2.PlaceBetRequest(
        request_key=str(ids.new_uuid7()), currency="GBP", stake_minor=stake_minor, legs=[leg]
    )


class Platform:
    """A gateway and what is behind it; bet-service instances come and go."""

    def __init__(self, gateway: Any, start_bets: Callable[[str], Any], dsn: str) -> None:
        self.gateway = gateway
        self.bet_service = start_bets
        self.dsn = dsn

    async def call(self, method: str, request: dict[str, Any], token: str) -> dict[str, Any]:
        """A call in JSON that must go well."""
        status, _, body = await self.gateway.post(method, json.dumps(request).encode(), token=token)
        assert status == 200, body
        reply: dict[str, Any] = json.loads(body)
        return reply

    async def bettor(self, cash_minor: int = 100_000) -> str:
        """The token of a new user with money."""
        token: str = self.gateway.world.token()
        deposit = {"requestKey": str(ids.new_uuid7()), "currency": "GBP", "amountMinor": str(cash_minor)}
        reply = await self.call("WalletService/Deposit", deposit, token)
        assert reply["balance"]["cashMinor"] == str(cash_minor)
        return token

    async def place(self, request: bet_pb2.PlaceBetRequest, token: str) -> bet_pb2.PlaceBetResponse:
        """Places a bet over gRPC-Web; it must be answered."""
        _, _, body = await self.gateway.post(
            "BetService/PlaceBet", encode_frame(request.SerializeToString()), WEB, token
        )
        frames, _ = split_frames(body)
        assert frames[-1][1] == b"grpc-status: 0\r\n", frames[-1][1]
        return bet_pb2.PlaceBetResponse.FromString(frames[0][1])


@pytest.fixture
async def platform(
    start_gateway: Any, database: Any, valkey: Any, unused_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[Platform]:
    """Everything but bet-service instances."""
    shared = {"postgres_dsn": database.dsn, "redis_url": valkey.url, "shard_count": SHARDS}
    async with AsyncExitStack() as stack:
        odds_settings = in_process.settings(OddsSettings, instance="odds-service", **shared)
        odds = await stack.enter_async_context(in_process.running(compose_odds, odds_settings, service="odds-service"))
        alive = asyncio.create_task(keep_publishing(odds))
        wallet_settings = in_process.settings(WalletSettings, instance="wallet-service", sandbox_money=True, **shared)
        wallet = await stack.enter_async_context(
            in_process.running(compose_wallet, wallet_settings, service="wallet-service")
        )

        @asynccontextmanager
        async def start_bets(name: str) -> AsyncIterator[str]:
            address = f"127.0.0.1:{unused_tcp_port_factory()}"
            settings = in_process.settings(
                BetSettings, instance=name, grpc_address=address, odds_service=odds, drain_timeout=5.0, **shared
            )
            in_process.install(settings.postgres_dsn, settings.shard_count)
            async with in_process.running(compose_bets, settings, service="bet-service"):
                yield address

        async with start_gateway(own_shards=False, wallet_service=wallet, odds_service=odds) as gateway:
            yield Platform(gateway, start_bets, database.dsn)
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)


async def test_money_in_bet_on_and_shown(platform: Platform) -> None:
    """Deposit, bet, repeat, look: all over HTTP, all the way to the journal and back."""
    async with platform.bet_service("bet-service-1"):
        token = await platform.bettor()
        asked = single(1_000)
        placed = await platform.place(asked, token)
        assert placed.bet.potential_payout_minor == 2_500
        assert (await platform.place(asked, token)).bet.bet_id == placed.bet.bet_id
        balance = (await platform.call("WalletService/GetBalance", {"currency": "GBP"}, token))["balance"]
        assert (balance["cashMinor"], balance["openStakesMinor"]) == ("99000", "1000")
        found = await platform.call("BetService/GetBet", {"betId": placed.bet.bet_id}, token)
        assert found["bet"]["stakeMinor"] == "1000"
        by_key = {"requestKey": asked.request_key, "currency": "GBP"}
        assert (await platform.call("BetService/GetBetByRequestKey", by_key, token))["bet"] == found["bet"] | {
            "requestKey": by_key["requestKey"]
        }
        stranger = platform.gateway.world.token()
        status, _, _ = await platform.gateway.post(
            "BetService/GetBet", json.dumps({"betId": placed.bet.bet_id}).encode(), token=stranger
        )
        assert status == 404


async def test_a_bet_is_followed_through_the_logs_by_its_correlation_id(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who names one finds it in the gateway's log and in the owner's; a bet nobody follows costs no line."""
    async with platform.bet_service("bet-service-1"):
        token = await platform.bettor()
        await platform.place(single(100), token)
        capsys.readouterr()
        body = json_format.MessageToJson(single(100)).encode()
        await platform.gateway.post("BetService/PlaceBet", body, token=token, x_correlation_id="follow-me")
        await platform.place(single(100), token)
        lines = [line for line in capsys.readouterr().out.splitlines() if "correlation_id" in line]
    assert all("follow-me" in line for line in lines)
    assert [line.split("]")[1].split()[0] for line in lines] == ["command", "call"]


async def test_bets_go_on_while_instances_change(platform: Platform) -> None:
    """An instance drains and its successor takes over: bettors wait, none is refused, nothing is lost or done twice."""
    async with AsyncExitStack() as first:
        await first.enter_async_context(platform.bet_service("bet-service-1"))
        tokens = [await platform.bettor() for _ in range(8)]
        accepted: dict[str, list[str]] = {token: [] for token in tokens}
        stop = asyncio.Event()

        async def keep_betting(token: str) -> None:
            while not stop.is_set():
                asked = single()
                reply = await platform.place(asked, token)
                assert reply.HasField("bet"), reply
                accepted[token].append(asked.request_key)

        betting = [asyncio.ensure_future(keep_betting(token)) for token in tokens]
        async with platform.bet_service("bet-service-2"):
            await asyncio.sleep(0.5)
            await first.aclose()
            after = sum(map(len, accepted.values()))
            async with asyncio.timeout(20):
                while sum(map(len, accepted.values())) < after + 80:  # noqa: ASYNC110 - bets go on by themselves
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.gather(*betting)
            for token, keys in accepted.items():
                balance = (await platform.call("WalletService/GetBalance", {"currency": "GBP"}, token))["balance"]
                assert int(balance["openStakesMinor"]) == 100 * len(keys)
                assert int(balance["cashMinor"]) == 100_000 - 100 * len(keys)


async def test_settled_bets_are_shown_newest_first(platform: Platform) -> None:
    """The router settles every shard, the read model catches up, and the pages show each settled bet once."""
    async with platform.bet_service("bet-service-1"):
        token = await platform.bettor()
        placed = [await platform.place(single(100 + n, market=2), token) for n in range(5)]
        async with in_process.service_context(
            in_process.settings(postgres_dsn=platform.dsn, shard_count=SHARDS)
        ) as context:
            router = await open_router(context)
            work = [asyncio.ensure_future(run()) for run in router.background]
            for shard in range(SHARDS):
                assert (await router.settle_market(shard, 2, 1, {1: 5, 2: 1, 3: 1}, timeout_s=10)).done
            await router.close()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        shown: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while len(shown) < 5:
                shown, page_token = [], ""
                while True:
                    request = {"currency": "GBP", "pageSize": 2, "pageToken": page_token}
                    page = await platform.call("BetService/ListSettledBets", request, token)
                    shown += page.get("bets", [])
                    page_token = page.get("nextPageToken", "")
                    if not page_token:
                        break
                await asyncio.sleep(0.05)
        assert {bet["betId"] for bet in shown} == {reply.bet.bet_id for reply in placed}
        assert all(bet["status"] == "BET_STATUS_SETTLED" for bet in shown)
        assert all(int(bet["payoutMinor"]) == int(bet["potentialPayoutMinor"]) for bet in shown)
        times = [int(bet["settledAtUs"]) for bet in shown]
        assert times == sorted(times, reverse=True)
        stranger = platform.gateway.world.token(uuid.uuid4())
        assert await platform.call("BetService/ListSettledBets", {"currency": "GBP"}, stranger) == {}
