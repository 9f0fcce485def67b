"""Results become money: once, exactly, also when the owner dies half-way or the result was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import in_process
import pytest
from bet_processes import BetProcess, environment, running
from owner_calls import SHARDS, Bettor, Owners, user_in

from betting.engine.outcomes import Outcome

HOME_WON = {1: Outcome.WON, 2: Outcome.LOST, 3: Outcome.LOST}
AWAY_WON = {1: Outcome.LOST, 2: Outcome.LOST, 3: Outcome.WON}
VOID = dict.fromkeys((1, 2, 3), Outcome.VOID)


async def funded(owners: Owners, shard: int = 0, amount: int = 10_000) -> Bettor:
    """A bettor with money."""
    bettor = Bettor(user_in(shard))
    await owners.one(shard, bettor.deposit(amount))
    return bettor


async def cash(owners: Owners, bettor: Bettor) -> tuple[int, int, int]:
    """Cash, open stakes, what is owed."""
    balance = (await owners.one(bettor.shard, bettor.balance())).balance
    return balance.cash_minor, balance.open_stakes_minor, balance.receivable_minor


async def test_winners_are_paid_losers_are_not_and_totals_are_told(bet_service: Any, owners: Owners) -> None:
    """A single at 3/2 pays two and a half times its stake."""
    async with bet_service():
        winner, loser = await funded(owners), await funded(owners)
        await owners.one(0, winner.bet(1_000, 1, selection=1))
        await owners.one(0, loser.bet(1_000, 1, selection=3))
        done = await owners.settle_shard(0, 1, 1, HOME_WON)
        assert (done.done, done.settled_bets, done.payout_minor) == (True, 2, 2_500)
        assert await cash(owners, winner) == (11_500, 0, 0)
        assert await cash(owners, loser) == (9_000, 0, 0)
        again = await owners.settle_shard(0, 1, 1, HOME_WON)
        assert (again.settled_bets, again.payout_minor) == (2, 2_500)
        assert await cash(owners, winner) == (11_500, 0, 0)


async def test_an_accumulator_waits_for_its_last_leg_and_is_lost_with_its_first(
    bet_service: Any, owners: Owners
) -> None:
    """Open until certain, never longer."""
    async with bet_service():
        waits, lost = await funded(owners), await funded(owners)
        await owners.one(0, waits.bet(1_000, 1, 2, selection=1))
        await owners.one(0, lost.bet(1_000, 1, 2, selection=3))
        first = await owners.settle_shard(0, 1, 1, HOME_WON)
        assert first.settled_bets == 1
        assert await cash(owners, waits) == (9_000, 1_000, 0)
        assert await cash(owners, lost) == (9_000, 0, 0)
        second = await owners.settle_shard(0, 2, 1, VOID)
        assert (second.settled_bets, second.payout_minor) == (1, 2_500)
        assert await cash(owners, waits) == (11_500, 0, 0)


async def test_no_bet_on_a_market_that_has_its_result(bet_service: Any, owners: Owners) -> None:
    """Whatever the price book still says."""
    async with bet_service():
        bettor = await funded(owners)
        await owners.settle_shard(0, 1, 1, HOME_WON)
        assert (await owners.one(0, bettor.bet(100, 1))).refusal.code == 18


async def test_another_result_under_the_same_version_is_refused(bet_service: Any, owners: Owners) -> None:
    """A correction is a new version; skipping one is refused too."""
    async with bet_service():
        await owners.all_served()
        await owners.settle_shard(0, 1, 1, HOME_WON)
        for version, outcomes in ((1, AWAY_WON), (3, AWAY_WON)):
            with pytest.raises(grpc.aio.AioRpcError) as problem:
                await owners.settle_shard(0, 1, version, outcomes)
            assert problem.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_correction_takes_back_what_is_there_and_the_rest_is_owed(bet_service: Any, owners: Owners) -> None:
    """The winner withdrew: the receivable is shown, blocks withdrawal, and is repaid first."""
    async with bet_service():
        winner, other = await funded(owners, amount=1_000), await funded(owners, amount=1_000)
        await owners.one(0, winner.bet(1_000, 1, selection=1))
        await owners.one(0, other.bet(1_000, 1, selection=3))
        await owners.settle_shard(0, 1, 1, HOME_WON)
        assert (await owners.one(0, winner.withdraw(2_000))).balance.cash_minor == 500
        done = await owners.settle_shard(0, 1, 2, AWAY_WON)
        assert (done.done, done.settled_bets, done.payout_minor) == (True, 2, 2_500)
        assert await cash(owners, winner) == (0, 0, 2_000)
        assert await cash(owners, other) == (2_500, 0, 0)
        assert (await owners.one(0, winner.withdraw(1))).refusal.code == 23
        assert (await owners.one(0, winner.deposit(2_300))).balance.cash_minor == 300
        assert await cash(owners, winner) == (300, 0, 0)


async def test_a_correction_opens_a_lost_accumulator_again(bet_service: Any, owners: Owners) -> None:
    """Its other leg has no result yet: stake back to open, then settled by that leg."""
    async with bet_service():
        bettor = await funded(owners, amount=1_000)
        bet = (await owners.one(0, bettor.bet(1_000, 1, 2, selection=1))).placed.bet_id
        await owners.settle_shard(0, 1, 1, AWAY_WON)
        assert await cash(owners, bettor) == (0, 0, 0)
        await owners.settle_shard(0, 1, 2, HOME_WON)
        assert await cash(owners, bettor) == (0, 1_000, 0)
        assert not (await owners.one(0, bettor.get_bet(bet))).bet.settled
        await owners.settle_shard(0, 2, 1, HOME_WON)
        assert await cash(owners, bettor) == (6_250, 0, 0)


async def test_a_settled_bet_is_read_from_the_read_model(bet_service: Any, owners: Owners) -> None:
    """Settled is cold: not in the owner's memory, still the bettor's to see."""
    async with bet_service():
        bettor = await funded(owners)
        bet = (await owners.one(0, bettor.bet(1_000, 1))).placed.bet_id
        await owners.settle_shard(0, 1, 1, HOME_WON)
        async with asyncio.timeout(20):
            while True:
                result = await owners.one(0, bettor.get_bet(bet))
                if result.fault.reason != "READ_MODEL_BEHIND":  # never "settled, paying nothing"
                    break
                await asyncio.sleep(0.05)
        assert result.bet.settled
        assert result.bet.payout_minor == 2_500


async def _some_settled(owners: Owners) -> None:
    async with asyncio.timeout(20):
        while True:
            if await owners.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = 21"):
                return
            await asyncio.sleep(0.002)


async def test_settlement_goes_on_after_the_owner_died_half_way(
    database: Any,
    valkey: Any,
    odds: str,
    owners: Owners,
    unused_tcp_port_factory: Callable[[], int],
    tmp_path: Path,
) -> None:
    """Killed between chunks: asked again, the next owner settles the rest and nothing twice."""

    def process(name: str) -> BetProcess:
        address = f"127.0.0.1:{unused_tcp_port_factory()}"
        more = {"orphaned_after": "1", "max_open_bets": "5000"}
        in_process.install(database.dsn, SHARDS)
        settings = environment(name, address, database.dsn, valkey.url, odds, **more)
        return BetProcess(name, address, settings, tmp_path / f"{name}.log")

    first, second = process("bet-service-1"), process("bet-service-2")
    bets = 4_000
    async with running(first):
        await owners.all_served()
        bettor = await funded(owners, amount=bets)
        for _ in range(bets // 500):
            await owners.execute(0, *(bettor.bet(1, 1, selection=1) for _ in range(500)))
        settling = asyncio.ensure_future(owners.settle_shard(0, 1, 1, HOME_WON))
        await _some_settled(owners)
        first.kill()
        await asyncio.gather(settling, return_exceptions=True)
        half_way = await owners.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = 21")
        async with running(second):
            await owners.all_served()
            done = await owners.settle_shard(0, 1, 1, HOME_WON)
            assert (done.done, done.settled_bets, done.payout_minor) == (True, bets, 2 * bets)
            assert await cash(owners, bettor) == (2 * bets, 0, 0)
    settled = await owners.connection.fetchrow(
        "SELECT count(*) AS entries, count(DISTINCT bet) AS bets FROM betting.journal WHERE kind = 21"
    )
    assert (settled["entries"], settled["bets"]) == (bets, bets)
    assert 0 < half_way < bets, f"it was killed at {half_way}: not half-way"
