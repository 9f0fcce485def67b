"""Every refusal of the public contract, provoked by a real request: its message names value, limit and next step."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import in_process
import pytest
from owner_calls import FAR_US, PRICE, Bettor, Owners, market_prices, new_key, service_metadata, user_in

from betting.bets import execution, shard
from betting.engine.outcomes import Outcome
from betting.internal.v1 import feed_pb2, feed_pb2_grpc, owner_pb2
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings
from betting.v1 import common_pb2, event_pb2, odds_pb2

DAY_MS = 24 * 3600 * 1000
LIMITS = {"min_stake_minor": 10, "max_stake_minor": 5_000, "max_payout_minor": 10_000, "max_open_bets": 3}
SUSPENDED, CLOSING = 5, 6
HOME_WON = {1: Outcome.WON, 2: Outcome.LOST, 3: Outcome.LOST}
AWAY_WON = {1: Outcome.LOST, 2: Outcome.LOST, 3: Outcome.WON}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

# What the message of each code must match, from its first character to its last.
WANTED = {
    "STAKE_BELOW_MINIMUM": r"stake_minor is 9, the minimum is 10 \(minor units of GBP\): raise the stake",
    "STAKE_ABOVE_MAXIMUM": r"stake_minor is 5001, the maximum is 5000 \(minor units of GBP\): lower the stake",
    "PAYOUT_ABOVE_MAXIMUM": r"stake_minor is 5000 and could pay 12500; the most a bet may pay is 10000 "
    r"\(minor units of GBP\): lower the stake to at most 4000",
    "TOO_MANY_OPEN_BETS": r"the account has 3 open bets, the most there may be: wait until some are settled",
    "INSUFFICIENT_FUNDS": r"stake_minor is 3000, the balance is 1234 \(minor units of GBP\): "
    r"deposit at least 1766 or lower the stake",
    "PRICE_MOVED": r"legs\[1\]: market 3 selection 1 was at 7/2 and is at 3/2 now: bet again with the price 3/2, "
    r"or with a price_change_policy that accepts it",
    "MARKET_NOT_OPEN": r"legs\[0\]: market 5 is suspended: no bets are taken, wait until it opens again",
    "MARKET_CLOSED": rf"legs\[0\]: market 6 closed at {TIME}: no bets are taken any more, choose another market",
    "MARKET_RESULTED": r"legs\[0\]: market 1 has its result: no bets are taken any more, choose another market",
    "BALANCE_ABOVE_MAXIMUM": r"amount_minor is 1000000000000000 and would raise the balance above its maximum; "
    r"the maximum is 1000000000000000 \(minor units of GBP\): deposit less",
    "OWES_RECEIVABLE": r"amount_minor is 7, but the account owes 2500 \(minor units of GBP\) after a corrected result: "
    r"deposit what is owed before withdrawing",
    "ACCOUNT_NOT_FOUND": r"currency is GBP: you have no account in it, a first deposit opens one",
    "UNKNOWN_SELECTION": r"legs\[1\]: market 2 has no selection 9 on offer: ask OddsService for what is offered",
    "LEGS_SHARE_EVENT": r"legs\[1\] and legs\[2\] are both of event 3: an accumulator takes one leg per event, "
    r"leave one out",
    "BOOK_STALE": r"there are no prices yet, bets are taken on prices up to 3000 ms old: nothing was done, "
    r"try again in a second with the same request_key",
    "OVERLOADED": r"0 changes of shard 0 wait to be stored, -1 is the limit: nothing was done, "
    r"try again in a second with the same request_key",
    "NOT_OWNER": r"this instance does not own shard 0: send the same request to its owner",
    "RATE_LIMITED": r"this account had over 20 requests refused, 2 more are allowed each second: nothing was done, "
    r"try again in 1 s with the same request_key",
    "SHARD_FROZEN": r"shard 0 is closed for checks: nothing was done, try again later with the same request_key",
    "DEADLINE_PASSED": r"the 50 ms given were over before the request's turn came: nothing was done, "
    r"try again with the same request_key and more time",
    "KEY_EXPIRED": rf"request_key was made at {TIME}, over 30 days ago: make a new one",
    "KEY_IN_FUTURE": rf"request_key is of {TIME}, over 5 minutes ahead of {TIME}: "
    r"set the clock right and make a new one",
    "KEY_REUSED": r"request_key was used for another request \(stake_minor differs: 100 then, 101 now\): "
    r"make a new one for every request",
}


class Said(dict[str, str]):
    """The messages heard, by code; each also matches what is wanted."""

    def hear(self, result: Any, code: str) -> None:
        """Checks one answer."""
        fault = result.fault.reason
        told = fault or common_pb2.RefusalCode.Name(result.refusal.code).removeprefix("REFUSAL_CODE_")
        assert told == code
        message = result.fault.message if fault else result.refusal.message
        assert re.fullmatch(WANTED[code], message), message
        self[code] = message


@pytest.fixture
async def quiet_odds(database: Any, valkey: Any) -> AsyncIterator[Any]:
    """An odds-service that closes no market by itself for an hour, and a function that publishes changes."""
    settings = in_process.settings(
        OddsSettings,
        instance="odds-service",
        postgres_dsn=database.dsn,
        redis_url=valkey.url,
    ).model_copy(update={"tick": timedelta(hours=1)})  # longer than a real one may be
    async with (
        in_process.running(compose_odds, settings, service="odds-service") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = feed_pb2_grpc.PriceFeedServiceStub(channel)

        async def publish(changes: list[odds_pb2.MarketPrices], *, snapshot: bool = False) -> None:
            request = feed_pb2.PublishPricesRequest(
                producer_id="test", producer_name="test", changes=changes, snapshot=snapshot
            )
            await stub.PublishPrices(request, metadata=service_metadata())

        await publish(market_prices(), snapshot=True)
        yield address, publish


async def funded(owners: Owners, amount: int = 10_000) -> Bettor:
    """A bettor of shard 0 with money."""
    bettor = Bettor(user_in(0))
    await owners.one(0, bettor.deposit(amount))
    return bettor


async def at_once(owners: Owners, command: owner_pb2.Command, *, epoch_off: int = 0, budget_ms: int = 0) -> Any:
    """The owner's own answer, also a transient one."""
    address, epoch = await owners.route(0)
    assert address is not None
    request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch + epoch_off, commands=[command], budget_ms=budget_ms)
    reply = await owners.stub(address).Execute(request, timeout=10)
    return reply.results[0]


async def test_every_code_has_a_message_with_its_figures(
    bet_service: Any, quiet_odds: Any, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table: what provokes each code of betting.v1.RefusalCode, and what is said."""
    said = Said()
    address, publish = quiet_odds
    async with bet_service(odds_service=address, **LIMITS):
        await owners.all_served()
        await limits(said, owners)
        await meaningless(said, owners)
        await keys(said, owners)
        await results(said, owners)
        await markets(said, owners, publish)
        await transient(said, owners, monkeypatch)
        await frozen(said, owners)
    async with bet_service("bet-service-2", odds_service="127.0.0.1:1"):
        bettor = Bettor(user_in(1))
        await owners.one(1, bettor.balance())  # returns once the shard is owned
        route = await owners.route(1)
        request = owner_pb2.ExecuteRequest(shard_id=1, epoch=route[1], commands=[bettor.bet(100)])
        said.hear((await owners.stub(route[0] or "").Execute(request, timeout=10)).results[0], "BOOK_STALE")
    assert set(said) == {
        name.removeprefix("REFUSAL_CODE_") for name, number in common_pb2.RefusalCode.items() if number
    }


async def limits(said: Said, owners: Owners) -> None:
    """Stakes, payouts, balances."""
    bettor = await funded(owners)
    said.hear(await owners.one(0, bettor.bet(9)), "STAKE_BELOW_MINIMUM")
    said.hear(await owners.one(0, bettor.bet(5_001)), "STAKE_ABOVE_MAXIMUM")
    said.hear(await owners.one(0, bettor.bet(5_000)), "PAYOUT_ABOVE_MAXIMUM")
    assert (await owners.one(0, bettor.bet(4_000))).placed.bet_id, "the stake that the message names is accepted"
    said.hear(await owners.one(0, bettor.deposit(10**15)), "BALANCE_ABOVE_MAXIMUM")
    for market in (2, 3):
        await owners.one(0, bettor.bet(10, market))
    said.hear(await owners.one(0, bettor.bet(10)), "TOO_MANY_OPEN_BETS")
    poor, key = await funded(owners, 1_234), new_key()
    said.hear(await owners.one(0, poor.bet(3_000, key=key)), "INSUFFICIENT_FUNDS")
    await owners.one(0, poor.deposit(766))
    again = await owners.one(0, poor.bet(3_000, key=key))
    assert again.repeated
    said.hear(again, "INSUFFICIENT_FUNDS")  # the balance there was
    withdrawal = await owners.one(0, poor.withdraw(3_000))
    assert withdrawal.refusal.message == (
        "amount_minor is 3000, the balance is 2000 (minor units of GBP): withdraw at most 2000"
    )
    said.hear(await owners.one(0, bettor_at(poor, 2, 3, price=(7, 2))), "PRICE_MOVED")


def bettor_at(bettor: Bettor, *markets: int, price: tuple[int, int]) -> owner_pb2.Command:
    """A bet whose last leg was seen at this price."""
    command = bettor.bet(100, *markets)
    command.place_bet.legs[-1].numerator, command.place_bet.legs[-1].denominator = price
    return command


async def meaningless(said: Said, owners: Owners) -> None:
    """What no bet can be."""
    bettor = await funded(owners)
    said.hear(await owners.one(0, Bettor(user_in(0)).bet(100)), "ACCOUNT_NOT_FOUND")
    command = bettor.bet(100, 1, 2)
    command.place_bet.legs[1].selection_id = 9
    said.hear(await owners.one(0, command), "UNKNOWN_SELECTION")
    said.hear(await owners.one(0, bettor.bet(100, 2, 3, 3)), "LEGS_SHARE_EVENT")


async def keys(said: Said, owners: Owners) -> None:
    """Too old, too new, used for something else."""
    bettor, key = await funded(owners), new_key()
    said.hear(await owners.one(0, bettor.bet(100, key=new_key(31 * DAY_MS))), "KEY_EXPIRED")
    said.hear(await owners.one(0, bettor.bet(100, key=new_key(-6 * 60 * 1000))), "KEY_IN_FUTURE")
    await owners.one(0, bettor.bet(100, key=key))
    said.hear(await owners.one(0, bettor.bet(101, key=key)), "KEY_REUSED")
    stranger = await funded(owners)
    other = (await owners.one(0, stranger.bet(999, key=key))).refusal.message
    assert "100" not in other, "nobody learns what another's key was used for"


async def results(said: Said, owners: Owners) -> None:
    """A market with a result, and a correction that leaves a debt."""
    bettor = await funded(owners, 1_000)
    await owners.one(0, bettor.bet(1_000))
    await owners.settle(1, 1, HOME_WON)
    assert (await owners.one(0, bettor.withdraw(2_500))).balance.cash_minor == 0
    await owners.settle(1, 2, AWAY_WON)
    said.hear(await owners.one(0, bettor.withdraw(7)), "OWES_RECEIVABLE")
    said.hear(await owners.one(0, bettor.bet(100)), "MARKET_RESULTED")


async def markets(said: Said, owners: Owners, publish: Any) -> None:
    """Suspended by the feed; over by the clock."""
    suspended, closing = market_prices()[4], market_prices()[5]
    suspended.status = event_pb2.MARKET_STATUS_SUSPENDED
    closing.closes_at_us = time.time_ns() // 1000 + 1_500_000
    assert (suspended.market_id, closing.market_id, closing.status) == (SUSPENDED, CLOSING, 1)
    await publish([suspended, closing])
    said.hear(await once_refused(owners, SUSPENDED), "MARKET_NOT_OPEN")
    refused = await once_refused(owners, CLOSING)
    said.hear(refused, "MARKET_CLOSED")
    closed = datetime.fromtimestamp(closing.closes_at_us // 1000 / 1000, UTC).isoformat(timespec="milliseconds")
    assert closed.replace("+00:00", "Z") in refused.refusal.message


async def once_refused(owners: Owners, market: int) -> Any:
    """The first refusal of a bet on this market, each by a new bettor."""
    async with asyncio.timeout(20):
        while True:
            bettor = await funded(owners)
            result = await owners.one(0, bettor.bet(10, market))
            if not result.placed.bet_id:
                return result
            await asyncio.sleep(0.02)


async def transient(said: Said, owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was done, the key stays free."""
    bettor = await funded(owners, 100)
    said.hear(await at_once(owners, bettor.bet(100), epoch_off=1), "NOT_OWNER")
    with monkeypatch.context() as patched:
        patched.setattr(shard, "MAX_PENDING_ENTRIES", -1)
        patched.setattr(execution, "MAX_PENDING_ENTRIES", -1)
        said.hear(await at_once(owners, bettor.bet(100)), "OVERLOADED")
    async with owners.connection.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE betting.requests IN ACCESS EXCLUSIVE MODE")
        old = bettor.bet(100, key=new_key(DAY_MS))
        said.hear(await at_once(owners, old, budget_ms=50), "DEADLINE_PASSED")
    refused = await owners.execute(0, *(bettor.bet(1_000) for _ in range(30)))
    said.hear(refused[-1], "RATE_LIMITED")


async def frozen(said: Said, owners: Owners) -> None:
    """An owner that finds its journal shorter than what it acknowledged."""
    bettor = await funded(owners)
    async with owners.connection.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "DELETE FROM betting.journal WHERE shard = 0 AND sequence = "
            "(SELECT max(sequence) FROM betting.journal WHERE shard = 0)"
        )
    await owners.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'bet-service-1%'"
    )
    said.hear(await owners.one(0, bettor.bet(100, 2)), "SHARD_FROZEN")


async def test_what_was_not_carried_out_is_logged_with_the_callers_id(
    bet_service: Any, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, malformed, turned down with its whole call: each leaves a line with its id; a placed bet does not."""
    lines: list[dict[str, Any]] = []

    class Log:
        """Keeps what is logged."""

        def __getattr__(self, level: str) -> Any:
            return lambda event, **fields: lines.append({"event": event, **fields})

    monkeypatch.setattr(execution, "_log", Log())
    async with bet_service():
        bettor = await funded(owners, 500)
        refused, malformed, unknown, placed, whole = (uuid.uuid4().hex.encode() for _ in range(5))
        await owners.one(0, with_id(bettor.bet(1_000), refused))
        await owners.one(0, with_id(bettor.bet(-1), malformed))
        await owners.one(0, with_id(bettor.by_key(new_key()), unknown))
        await owners.one(0, with_id(bettor.bet(100, price=PRICE), placed))
        monkeypatch.setattr(shard, "MAX_PENDING_ENTRIES", -1)
        await at_once(owners, with_id(bettor.bet(100), whole))
    reasons = {line.get("correlation_id"): line["reason"] for line in lines if "reason" in line}
    assert reasons[refused.decode()] == "INSUFFICIENT_FUNDS"
    assert reasons[malformed.decode()] == "STAKE_NOT_POSITIVE"
    assert reasons[unknown.decode()] == "REQUEST_NOT_FOUND"
    assert placed.decode() not in reasons
    assert [line["correlation_ids"] for line in lines if line["event"] == "commands refused"] == [[whole.decode()]]


def with_id(command: owner_pb2.Command, correlation: bytes) -> owner_pb2.Command:
    """The command as sent by a gateway whose caller named no id: nobody follows it."""
    command.correlation_id = correlation
    return command


def test_the_markets_of_the_table_stay_open() -> None:
    """The table's own premise."""
    assert all(market.closes_at_us == FAR_US for market in market_prices())
