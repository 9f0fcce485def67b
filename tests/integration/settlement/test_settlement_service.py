"""A result becomes one command per shard, is tracked, and goes on after any crash."""

from __future__ import annotations

from typing import Any

import grpc
import in_process
import pytest
from owner_calls import SHARDS, Bettor, Owners, user_in
from settlement_calls import EVENT, RESULT_MARKET, SERVICE, TOTAL_MARKET, until

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.errors import ServiceError
from betting.runtime.principal import Role
from betting.v1 import event_pb2, settlement_pb2

DONE = settlement_pb2.SETTLEMENT_STATUS_DONE
STOPPED = settlement_pb2.SETTLEMENT_STATUS_STOPPED
BAD_SCORE = settlement_pb2.SettleEventRequest(event_id=EVENT, home_goals=-1, version=1)
BAD_PAGE = settlement_pb2.ListPendingSettlementsRequest(page_size=10**6)


def result(home: int, draw: int, away: int, version: int = 1) -> settlement_pb2.SettleMarketRequest:
    """A result of the match result market."""
    outcomes = [
        settlement_pb2.SelectionOutcome(selection_id=i, outcome=settlement_pb2.Outcome.Name(o))
        for i, o in ((1, home), (2, draw), (3, away))
    ]
    return settlement_pb2.SettleMarketRequest(market_id=RESULT_MARKET, outcomes=outcomes, version=version)


async def funded(owners: Owners, shard: int) -> Bettor:
    """A bettor with money."""
    bettor = Bettor(user_in(shard))
    await owners.one(shard, bettor.deposit(10_000))
    return bettor


async def test_an_events_score_settles_all_its_markets_on_all_shards(
    bet_service: Any, settlement: Any, owners: Owners, events: Any
) -> None:
    """3–1: home won, over 2.5 won; every shard paid its own winners and the catalogue says so."""
    async with bet_service(), settlement() as calls:
        bettors = [await funded(owners, shard) for shard in range(SHARDS)]
        for bettor in bettors:
            await owners.one(bettor.shard, bettor.bet(1_000, RESULT_MARKET, selection=1))
            await owners.one(bettor.shard, bettor.bet(1_000, TOTAL_MARKET, selection=2))
        request = settlement_pb2.SettleEventRequest(event_id=EVENT, home_goals=3, away_goals=1, version=1)
        reply = await calls.call("SettleEvent", request)
        assert {one.market_id for one in reply.settlements} == {RESULT_MARKET, TOTAL_MARKET}
        won = await until(calls, RESULT_MARKET, DONE)
        lost = await until(calls, TOTAL_MARKET, DONE)
        assert (won.settled_bets, won.payout_minor, won.shards_done) == (SHARDS, 2_500 * SHARDS, SHARDS)
        assert (lost.settled_bets, lost.payout_minor) == (SHARDS, 0)
        for bettor in bettors:
            assert (await owners.one(bettor.shard, bettor.balance())).balance.cash_minor == 10_500
        assert (await events.market(RESULT_MARKET)).status == event_pb2.MARKET_STATUS_RESULTED
        again = await calls.call("SettleEvent", request)
        assert all(one.status == DONE for one in again.settlements)


async def test_a_voided_market_gives_stakes_back(
    bet_service: Any, settlement: Any, owners: Owners, events: Any
) -> None:
    """Every leg on it counts as price 1, and the catalogue shows it as void."""
    async with bet_service(), settlement() as calls:
        bettor = await funded(owners, 0)
        await owners.one(0, bettor.bet(1_000, RESULT_MARKET))
        await calls.call("VoidMarket", settlement_pb2.VoidMarketRequest(market_id=RESULT_MARKET, version=1))
        await until(calls, RESULT_MARKET, DONE)
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 10_000
        assert (await events.market(RESULT_MARKET)).status == event_pb2.MARKET_STATUS_VOID


async def test_a_corrected_result_is_the_next_version(bet_service: Any, settlement: Any, owners: Owners) -> None:
    """Home won, then it was the away side after all."""
    async with bet_service(), settlement() as calls:
        bettor = await funded(owners, 0)
        await owners.one(0, bettor.bet(1_000, RESULT_MARKET, selection=1))
        await calls.call("SettleMarket", result(5, 1, 1))
        await until(calls, RESULT_MARKET, DONE)
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 11_500
        await calls.call("SettleMarket", result(1, 1, 5, version=2))
        await until(calls, RESULT_MARKET, DONE, version=2)
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 9_000


async def test_a_settlement_recorded_before_a_crash_is_carried_through_by_the_next_process(
    bet_service: Any, settlement: Any, owners: Owners
) -> None:
    """No owner was there when the result came; the process ended; the next one finds it and finishes."""
    async with settlement() as calls:
        await calls.call("SettleMarket", result(5, 1, 1))
        pending = await calls.call("ListPendingSettlements", settlement_pb2.ListPendingSettlementsRequest())
        assert [one.market_id for one in pending.settlements] == [RESULT_MARKET]
    async with bet_service(), settlement() as calls:
        assert (await until(calls, RESULT_MARKET, DONE)).shards_done == SHARDS
        pending = await calls.call("ListPendingSettlements", settlement_pb2.ListPendingSettlementsRequest())
        assert not pending.settlements


async def test_what_an_owner_contradicts_stops_with_a_reason_and_can_be_resumed(
    bet_service: Any, settlement: Any, owners: Owners
) -> None:
    """A shard that knows another result is for a person to look into, never to be overruled."""
    async with bet_service(), settlement() as calls:
        await owners.all_served()
        await owners.settle_shard(2, RESULT_MARKET, 1, {1: 1, 2: 1, 3: 5})
        await calls.call("SettleMarket", result(5, 1, 1))
        stopped = await until(calls, RESULT_MARKET, STOPPED)
        assert "has another result" in stopped.problem
        request = settlement_pb2.ResumeSettlementRequest(market_id=RESULT_MARKET, version=1)
        await calls.call("ResumeSettlement", request)
        assert (await until(calls, RESULT_MARKET, STOPPED)).problem


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("SettleMarket", result(5, 1, 1, version=0), "INVALID_ARGUMENT", "VERSION"),
        ("SettleMarket", result(5, 1, 1, version=2), "FAILED_PRECONDITION", "VERSION_NOT_NEXT"),
        ("SettleMarket", result(0, 1, 1), "INVALID_ARGUMENT", "OUTCOME"),
        ("SettleMarket", result(5, 5, 5), "INVALID_ARGUMENT", "OUTCOMES_IMPOSSIBLE"),
        ("SettleMarket", settlement_pb2.SettleMarketRequest(market_id=99, version=1), "NOT_FOUND", ""),
        ("SettleMarket", settlement_pb2.SettleMarketRequest(market_id=-1, version=1), "INVALID_ARGUMENT", "MARKET_ID"),
        ("SettleEvent", BAD_SCORE, "INVALID_ARGUMENT", "SCORE"),
        ("VoidMarket", settlement_pb2.VoidMarketRequest(market_id=0, version=1), "INVALID_ARGUMENT", "MARKET_ID"),
        ("GetSettlement", settlement_pb2.GetSettlementRequest(market_id=1), "NOT_FOUND", "SETTLEMENT_NOT_FOUND"),
        ("ListPendingSettlements", BAD_PAGE, "INVALID_ARGUMENT", ""),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused_and_nothing_is_recorded(
    settlement: Any, owners: Owners, method: str, request_: Any, code: str, reason: str
) -> None:
    """Each with its own code and reason."""
    async with settlement() as calls:
        with pytest.raises(ServiceError) as problem:
            await calls.call(method, request_)
        assert problem.value.code is grpc.StatusCode[code]
        assert reason in problem.value.reason
        assert await owners.connection.fetchval("SELECT count(*) FROM settlement.settlements") == 0


async def test_an_incomplete_result_names_the_selection(settlement: Any) -> None:
    """A result says something of every selection, each once."""
    async with settlement() as calls:
        request = result(5, 1, 1)
        del request.outcomes[1]
        with pytest.raises(ServiceError, match="selection 2 has no outcome"):
            await calls.call("SettleMarket", request)


async def test_an_event_whose_start_is_ahead_has_no_result_but_can_be_voided(
    settlement: Any, owners: Owners, events: Any
) -> None:
    """Whoever gives it, a score or outcomes: nothing is recorded; stakes may be returned at any time."""
    await events.starts_at(in_process.FAR_FUTURE_US)
    score = settlement_pb2.SettleEventRequest(event_id=EVENT, home_goals=9, away_goals=9, version=1)
    operator = in_process.user_token(bytes(16), role=Role.OPERATOR)
    async with settlement() as calls:
        for principal in (operator, SERVICE):
            for method, request in (("SettleEvent", score), ("SettleMarket", result(5, 1, 1))):
                with pytest.raises(ServiceError, match="starts at 2100-01-01 00:00:00 UTC") as problem:
                    await calls.call(method, request, principal)
                assert problem.value.code is grpc.StatusCode.FAILED_PRECONDITION
                assert problem.value.reason == "NOT_STARTED"
        assert await owners.connection.fetchval("SELECT count(*) FROM settlement.settlements") == 0
        void = settlement_pb2.VoidMarketRequest(market_id=TOTAL_MARKET, version=1)
        assert (await calls.call("VoidMarket", void, operator)).settlement.version == 1
        assert (await calls.call("SettleMarket", result(3, 3, 3), operator)).settlement.version == 1


async def test_a_match_that_its_feed_has_started_is_settled_whatever_the_clock_says(
    settlement: Any, events: Any
) -> None:
    """The clocks of a feed and of settlement may differ; the feed has started and finished it."""
    await events.starts_at(in_process.FAR_FUTURE_US)
    feed = events.target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
    request = feed_pb2.SetEventStatusRequest(event_id=EVENT, status=event_pb2.EVENT_STATUS_STARTED)
    await events.target.call(feed.SetEventStatus, request, idempotent=True, principal=SERVICE)
    async with settlement() as calls:
        score = settlement_pb2.SettleEventRequest(event_id=EVENT, home_goals=1, away_goals=0, version=1)
        assert len((await calls.call("SettleEvent", score)).settlements) == 2


async def test_bettors_cannot_settle(settlement: Any) -> None:
    """Operators and services only."""
    async with settlement() as calls:
        with pytest.raises(ServiceError) as problem:
            await calls.call("SettleMarket", result(5, 1, 1), principal=in_process.user_token(bytes(16)))
        assert problem.value.code is grpc.StatusCode.PERMISSION_DENIED
