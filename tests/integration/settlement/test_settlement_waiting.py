"""What cannot be settled without a person waits, is shown, and holds up nothing else."""

from __future__ import annotations

from typing import Any

import grpc
import in_process
import pytest
from owner_calls import Bettor, Owners, user_in
from settlement_calls import EVENT, RESULT_MARKET, SERVICE, TOTAL_MARKET, until
from structlog.testing import capture_logs

from betting.health.main import compose as compose_health
from betting.health.settings import HealthSettings
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.errors import ServiceError
from betting.runtime.principal import Role
from betting.v1 import event_pb2, health_pb2, health_pb2_grpc, settlement_pb2

DONE = settlement_pb2.SETTLEMENT_STATUS_DONE
OPERATOR = in_process.user_token(bytes(16), role=Role.OPERATOR)
HOME_WON, AWAY_WON = (5, 1, 1), (1, 1, 5)


def score(home: int = 3, away: int = 1, version: int = 1) -> settlement_pb2.SettleEventRequest:
    """A result of the event."""
    return settlement_pb2.SettleEventRequest(event_id=EVENT, home_goals=home, away_goals=away, version=version)


def result(outcomes: tuple[int, int, int], version: int = 1) -> settlement_pb2.SettleMarketRequest:
    """A result of the match result market."""
    return settlement_pb2.SettleMarketRequest(
        market_id=RESULT_MARKET,
        version=version,
        outcomes=[
            settlement_pb2.SelectionOutcome(selection_id=i, outcome=settlement_pb2.Outcome.Name(outcome))
            for i, outcome in enumerate(outcomes, 1)
        ],
    )


async def waiting(calls: Any) -> list[settlement_pb2.WaitingMarket]:
    """The markets that wait for a person, as an operator sees them."""
    reply = await calls.call("ListPendingSettlements", settlement_pb2.ListPendingSettlementsRequest(), OPERATOR)
    return list(reply.waiting)


async def test_a_market_voided_before_stays_void_and_the_others_settle(
    bet_service: Any, settlement: Any, owners: Owners, events: Any
) -> None:
    """An operator voids one market before kick-off; the feed's score comes after the match, and again."""
    async with bet_service(), settlement() as calls:
        bettor = Bettor(user_in(0))
        await owners.one(0, bettor.deposit(10_000))
        await owners.one(0, bettor.bet(1_000, RESULT_MARKET, selection=1))
        await owners.one(0, bettor.bet(1_000, TOTAL_MARKET, selection=1))
        void = settlement_pb2.VoidMarketRequest(market_id=RESULT_MARKET, version=1)
        await calls.call("VoidMarket", void, OPERATOR)
        await until(calls, RESULT_MARKET, DONE)
        for _ in range(2):
            reply = await calls.call("SettleEvent", score())
            assert {one.market_id for one in reply.settlements} == {RESULT_MARKET, TOTAL_MARKET}
            assert not reply.waiting
        await until(calls, TOTAL_MARKET, DONE)
        assert (await events.market(RESULT_MARKET)).status == event_pb2.MARKET_STATUS_VOID
        assert (await events.market(TOTAL_MARKET)).status == event_pb2.MARKET_STATUS_RESULTED
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 10_000 - 1_000 + 2_500
        assert not await waiting(calls)


async def test_a_score_that_contradicts_a_persons_result_waits_for_that_person(
    bet_service: Any, settlement: Any, owners: Owners
) -> None:
    """The other market settles; the contradiction is shown and said once, however often the feed repeats itself."""
    async with bet_service(), settlement() as calls:
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        with capture_logs() as logged:
            for _ in range(3):
                reply = await calls.call("SettleEvent", score())
        assert [one["event"] for one in logged].count("settlement waits for a person") == 1
        assert [one.market_id for one in reply.settlements] == [TOTAL_MARKET]
        await until(calls, TOTAL_MARKET, DONE)
        [shown] = await waiting(calls)
        assert (shown.market_id, shown.event_id, shown.version) == (RESULT_MARKET, EVENT, 1)
        assert [one.outcome for one in shown.outcomes] == list(HOME_WON)
        assert "correct it with version 2" in shown.problem
        assert list(reply.waiting) == [shown]

        await until(calls, RESULT_MARKET, DONE)
        await calls.call("SettleMarket", result(HOME_WON, version=2), OPERATOR)
        assert not await waiting(calls)
        again = await calls.call("SettleEvent", score())  # the same as what is in force by now
        assert {one.market_id for one in again.settlements} == {RESULT_MARKET, TOTAL_MARKET}


async def test_a_feed_is_told_what_waits_however_much_else_does(settlement: Any, owners: Owners) -> None:
    """Hundreds have waited for longer: a market that is left out of the answer would be priced as resulted."""
    await owners.connection.execute(
        """INSERT INTO settlement.refused_results (market_id, event_id, version, outcomes, problem, since_us)
           SELECT 1000 + n, 1000 + n, 1, '{}', 'for a test', n FROM generate_series(1, 600) n"""
    )
    async with settlement() as calls:
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        reply = await calls.call("SettleEvent", score())
        assert [one.market_id for one in reply.waiting] == [RESULT_MARKET]


async def test_a_result_that_is_confirmed_does_not_come_up_again(settlement: Any) -> None:
    """The person's result was right: sent again it is confirmed; another score of the feed is news again."""
    async with settlement() as calls:
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        await calls.call("SettleEvent", score(3, 1))
        assert len(await waiting(calls)) == 1
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        await calls.call("SettleEvent", score(3, 1))
        assert not await waiting(calls)
        await calls.call("SettleEvent", score(0, 0))
        assert {one.market_id for one in await waiting(calls)} == {RESULT_MARKET, TOTAL_MARKET}


async def test_an_operators_result_that_settles_nothing_is_an_error_and_waits_for_nobody(settlement: Any) -> None:
    """Who is there is told at once; where a part was taken over the reply names the rest."""
    async with settlement() as calls:
        with pytest.raises(ServiceError) as problem:
            await calls.call("SettleEvent", score(version=2), OPERATOR)
        assert (problem.value.code, problem.value.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "VERSION_NOT_NEXT",
        )
        assert not await waiting(calls)
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        reply = await calls.call("SettleEvent", score(), OPERATOR)
        assert [one.market_id for one in reply.settlements] == [TOTAL_MARKET]
        assert [one.market_id for one in reply.waiting] == [RESULT_MARKET]


async def test_markets_of_an_abandoned_event_wait_to_be_voided(settlement: Any, events: Any, owners: Owners) -> None:
    """A score does not settle what a person has broken off; what is settled already stands."""
    stub = events.target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
    request = feed_pb2.SetEventStatusRequest(event_id=EVENT, status=event_pb2.EVENT_STATUS_ABANDONED)
    await events.target.call(stub.SetEventStatus, request, idempotent=True, principal=SERVICE)
    async with settlement() as calls:
        await calls.call("VoidMarket", settlement_pb2.VoidMarketRequest(market_id=TOTAL_MARKET, version=1))
        reply = await calls.call("SettleEvent", score())
        assert [one.market_id for one in reply.settlements] == [TOTAL_MARKET]
        [shown] = await waiting(calls)
        assert "abandoned" in shown.problem
        await calls.call("VoidMarket", settlement_pb2.VoidMarketRequest(market_id=RESULT_MARKET, version=1))
        assert not await waiting(calls)


async def test_a_market_that_is_gone_from_the_catalogue_stops_and_waits(
    bet_service: Any, settlement: Any, owners: Owners
) -> None:
    """Trying again would not bring it back; the event's other market is settled meanwhile."""
    async with settlement() as calls:  # without owners nothing can be finished yet
        await calls.call("SettleEvent", score())
    await owners.connection.execute("DELETE FROM events.markets WHERE market_id = $1", RESULT_MARKET)
    async with bet_service(), settlement() as calls:
        await until(calls, RESULT_MARKET, settlement_pb2.SETTLEMENT_STATUS_STOPPED)
        await until(calls, TOTAL_MARKET, DONE)
        [shown] = await waiting(calls)
        assert (shown.market_id, "no market" in shown.problem) == (RESULT_MARKET, True)


async def test_one_shard_that_stands_still_holds_up_itself_only(
    bet_service: Any, settlement: Any, owners: Owners
) -> None:
    """Every other shard is paid; the settlement goes on when the shard is served again."""
    async with bet_service(), settlement() as calls:
        await owners.all_served()
        await owners.connection.execute(
            "UPDATE betting.shards SET state = 'quarantined', owner = NULL, address = NULL WHERE shard_id = 1"
        )
        await calls.call("SettleEvent", score())
        for market in (RESULT_MARKET, TOTAL_MARKET):
            await until(calls, market, settlement_pb2.SETTLEMENT_STATUS_RUNNING, shards_done=3)
        assert not await waiting(calls)
        await owners.connection.execute("UPDATE betting.shards SET state = 'free' WHERE shard_id = 1")
        for market in (RESULT_MARKET, TOTAL_MARKET):
            await until(calls, market, DONE)


async def test_the_platforms_status_names_what_waits(settlement: Any, database: Any) -> None:
    """Where `betting status` and the metrics of the whole platform come from."""
    async with settlement() as calls:
        await calls.call("SettleMarket", result(AWAY_WON), OPERATOR)
        await calls.call("SettleEvent", score())
        settings = in_process.settings(HealthSettings, postgres_dsn=database.dsn)
        async with (
            in_process.running(compose_health, settings, service="health-monitor") as address,
            in_process.calling(address) as target,
        ):
            stub = target.stub(health_pb2_grpc.HealthMonitorServiceStub)
            while True:
                request = health_pb2.GetPlatformStatusRequest()
                reply = await target.call(stub.GetPlatformStatus, request, idempotent=True, principal=OPERATOR)
                if reply.settlements_waiting:
                    break
        [shown] = reply.settlements_waiting
        assert (shown.market_id, shown.event_id) == (RESULT_MARKET, EVENT)
        assert "another result" in shown.problem
