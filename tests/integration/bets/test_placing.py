"""Placing and reading bets through a real bet-service, Postgres, Valkey and odds-service."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from owner_calls import Bettor, Owners, new_key, user_in

from betting.internal.v1 import owner_pb2
from betting.v1 import common_pb2


async def funded(owners: Owners, shard: int = 0, amount: int = 10_000) -> Bettor:
    """A bettor with money."""
    bettor = Bettor(user_in(shard))
    result = await owners.one(shard, bettor.deposit(amount))
    assert result.balance.cash_minor == amount
    return bettor


async def settled_reason(owners: Owners, command: owner_pb2.Command) -> str:
    """Why there is no such bet, once the read model has caught up."""
    async with asyncio.timeout(20):
        while True:
            reason: str = (await owners.one(0, command)).fault.reason
            if reason != "READ_MODEL_BEHIND":
                return reason
            await asyncio.sleep(0.05)


async def test_a_bet_moves_cash_to_open_stakes_and_is_listed(bet_service: Any, owners: Owners) -> None:
    """The first thing a bettor does."""
    async with bet_service():
        bettor = await funded(owners)
        placed = await owners.one(0, bettor.bet(1_000, 1, 2))
        assert placed.placed.potential_payout_minor == 6_250  # 10.00 x 2.5 x 2.5
        balance = (await owners.one(0, bettor.balance())).balance
        assert (balance.cash_minor, balance.open_stakes_minor) == (9_000, 1_000)
        [listed] = (await owners.one(0, bettor.open_bets())).bets.bets
        assert listed.bet_id == placed.placed.bet_id
        assert [leg.market_id for leg in listed.legs] == [1, 2]


async def test_a_repeat_gets_the_first_answer_and_moves_nothing(bet_service: Any, owners: Owners) -> None:
    """A client that did not hear the answer asks again with the same key."""
    async with bet_service():
        bettor = await funded(owners)
        key = new_key()
        first = await owners.one(0, bettor.bet(1_000, key=key))
        again = await owners.one(0, bettor.bet(1_000, key=key))
        assert again.repeated
        assert not first.repeated
        assert again.placed.bet_id == first.placed.bet_id
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 9_000


async def test_a_reused_key_names_the_field_that_differs(bet_service: Any, owners: Owners) -> None:
    """Same key, other content: never the first answer, never a second bet."""
    async with bet_service():
        bettor = await funded(owners)
        key = new_key()
        await owners.one(0, bettor.bet(1_000, key=key))
        other_stake = await owners.one(0, bettor.bet(1_001, key=key))
        other_legs = await owners.one(0, bettor.bet(1_000, 2, key=key))
        other_method = await owners.one(0, bettor.deposit(1_000, key=key))
        assert [r.refusal.code for r in (other_stake, other_legs, other_method)] == [62, 62, 62]
        assert "stake_minor differs" in other_stake.refusal.message
        assert "legs differs" in other_legs.refusal.message
        assert "method differs" in other_method.refusal.message


async def test_an_old_key_is_found_in_the_database_also_after_a_restart(bet_service: Any, owners: Owners) -> None:
    """Keys older than memory's window are looked up before deciding."""
    old = new_key(age_ms=3 * 3600 * 1000)
    async with bet_service():
        bettor = await funded(owners)
        first = await owners.one(0, bettor.bet(1_000, key=old))
    async with bet_service("bet-service-2"):
        again = await owners.one(0, bettor.bet(1_000, key=old))
        assert again.repeated
        assert again.placed.bet_id == first.placed.bet_id


async def test_the_same_old_key_many_times_at_once_makes_one_bet(bet_service: Any, owners: Owners) -> None:
    """Concurrent look-ups that all find nothing must not all place."""
    async with bet_service():
        bettor = await funded(owners)
        old = new_key(age_ms=3 * 3600 * 1000)
        results = await asyncio.gather(*(owners.one(0, bettor.bet(1_000, key=old)) for _ in range(20)))
        assert len({result.placed.bet_id for result in results}) == 1
        assert sum(1 for result in results if not result.repeated) == 1
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 9_000


@pytest.mark.parametrize("age_ms", [0, 3 * 3600 * 1000], ids=["from memory", "from the database"])
async def test_a_key_belongs_to_its_user(bet_service: Any, owners: Owners, age_ms: int) -> None:
    """Users of one shard use one key at once: each request is its own and is found again, also after a restart."""
    key = new_key(age_ms)
    async with bet_service():
        bettors = [await funded(owners) for _ in range(3)]
        placed = await owners.execute(0, *(bettor.bet(1_000, key=key) for bettor in bettors))
        bets = [result.placed.bet_id for result in placed]
        assert len(set(bets)) == len(bettors)
        assert not any(result.repeated for result in placed)
        nobody = Bettor(user_in(0))
        assert (await owners.one(0, nobody.by_key(key))).fault.reason == "REQUEST_NOT_FOUND"
    async with bet_service("bet-service-2"):
        for bettor, bet in zip(bettors, bets, strict=True):
            again = await owners.one(0, bettor.bet(1_000, key=key))
            assert (again.repeated, again.placed.bet_id) == (True, bet)
            assert (await owners.one(0, bettor.by_key(key))).bet.bet_id == bet
            assert "stake_minor differs" in (await owners.one(0, bettor.bet(1_001, key=key))).refusal.message
            assert (await owners.one(0, bettor.balance())).balance.cash_minor == 9_000


@pytest.mark.parametrize(("age_ms", "code"), [(31 * 24 * 3600 * 1000, 60), (-6 * 60 * 1000, 61)])
async def test_keys_out_of_time_are_turned_away(bet_service: Any, owners: Owners, age_ms: int, code: int) -> None:
    """Over 30 days old, or over 5 minutes ahead."""
    async with bet_service():
        bettor = await funded(owners)
        result = await owners.one(0, bettor.bet(1_000, key=new_key(age_ms)))
        assert result.refusal.code == code
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 10_000


async def test_a_refusal_is_recorded_and_repeated(bet_service: Any, owners: Owners) -> None:
    """Too little money now stays the answer of this key, also after a deposit."""
    async with bet_service():
        bettor = await funded(owners, amount=500)
        key = new_key()
        first = await owners.one(0, bettor.bet(1_000, key=key))
        await owners.one(0, bettor.deposit(10_000))
        again = await owners.one(0, bettor.bet(1_000, key=key))
        assert first.refusal.code == again.refusal.code == 11
        assert again.repeated
        fetched = await owners.one(0, bettor.by_key(key))
        assert fetched.refusal.code == 11


async def test_refusals_are_limited_per_account(bet_service: Any, owners: Owners) -> None:
    """A refused bet costs a journal entry, so a hammering client is turned away before `decide`; others are not."""
    async with bet_service():
        bettor = await funded(owners, amount=1)
        results = [await owners.one(0, bettor.bet(1_000)) for _ in range(30)]
        codes = [result.refusal.code for result in results]
        assert codes[0] == 11
        assert 43 in codes
        other = await funded(owners)
        assert (await owners.one(0, other.bet(1_000))).placed.bet_id


async def test_one_bad_command_refuses_itself_only(bet_service: Any, owners: Owners) -> None:
    """A coalesced call carries many bettors; what one of them got wrong is between it and us."""
    async with bet_service():
        good, forged = await funded(owners), Bettor(user_in(0))
        forged.token = forged.token[:-1] + bytes([forged.token[-1] ^ 1])
        elsewhere = Bettor(user_in(1))
        results = await owners.execute(
            0,
            good.bet(100),
            forged.bet(100),
            good.bet(-5),
            elsewhere.bet(100),
            good.bet(100, *range(1, 22)),
            good.bet(100, 1, 1),
            good.bet(100, 999),
            good.bet(2**63 - 1),
            good.bet(100, key=b"\x01" * 16),
            good.bet(100, price=(0, 1)),
            owner_pb2.Command(principal=good.token, currency="GBP"),
            good.bet(200),
        )
        assert results[0].placed.bet_id
        assert results[1].fault.reason == "PRINCIPAL_FORGED"
        assert results[2].fault.reason == "STAKE_NOT_POSITIVE"
        assert results[3].fault.reason == "WRONG_SHARD"
        assert results[4].fault.reason == "LEG_COUNT"
        assert (results[5].fault.code, results[5].fault.reason) == (3, "LEGS_SHARE_EVENT")
        assert (results[6].fault.code, results[6].fault.reason) == (3, "UNKNOWN_SELECTION")
        assert results[7].refusal.code == 13  # above the maximum stake
        assert results[8].fault.reason == "REQUEST_KEY_NOT_UUID7"
        assert results[9].fault.reason == "PRICE"
        assert results[10].fault.reason == "NO_COMMAND"
        assert results[11].placed.bet_id
        assert (await owners.one(0, good.balance())).balance.cash_minor == 9_700


async def test_nobody_sees_another_users_bets(bet_service: Any, owners: Owners) -> None:
    """Not by bet id, not by request key, not in a list."""
    async with bet_service():
        owner, stranger = await funded(owners), await funded(owners)
        key = new_key()
        bet = (await owners.one(0, owner.bet(100, key=key))).placed.bet_id
        assert (await owners.one(0, owner.get_bet(bet))).bet.stake_minor == 100
        assert (await owners.one(0, owner.by_key(key))).bet.bet_id == bet
        assert await settled_reason(owners, stranger.get_bet(bet)) == "BET_NOT_FOUND"
        assert (await owners.one(0, stranger.by_key(key))).fault.reason == "REQUEST_NOT_FOUND"
        assert not (await owners.one(0, stranger.open_bets())).bets.bets


async def test_open_bets_are_paged(bet_service: Any, owners: Owners) -> None:
    """Every bet once, whatever the page size; an unusable page size is refused."""
    async with bet_service():
        bettor = await funded(owners)
        await owners.execute(0, *(bettor.bet(10) for _ in range(7)))
        seen: list[bytes] = []
        more = True
        while more:
            page = (await owners.one(0, bettor.open_bets(3, seen[-1] if seen else b""))).bets
            seen += [bet.bet_id for bet in page.bets]
            more = page.more
        assert len(seen) == len(set(seen)) == 7
        assert (await owners.one(0, bettor.open_bets(501))).fault.reason == "PAGE_SIZE"


async def test_a_restart_replays_to_the_same_balances(bet_service: Any, owners: Owners) -> None:
    """Everything an owner knows is in the journal."""
    async with bet_service():
        bettor = await funded(owners)
        bet = (await owners.one(0, bettor.bet(1_000))).placed.bet_id
        before = (await owners.one(0, bettor.balance())).balance
    async with bet_service("bet-service-2"):
        assert (await owners.one(0, bettor.balance())).balance == before
        assert (await owners.one(0, bettor.get_bet(bet))).bet.stake_minor == 1_000


async def test_a_call_with_too_many_commands_is_refused_whole(bet_service: Any, owners: Owners) -> None:
    """Bounds have names; exceeding one writes nothing."""
    async with bet_service() as address:
        bettor = await funded(owners)
        _address, epoch = await owners.route(0)
        commands = [bettor.bet(1) for _ in range(501)]
        request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch, commands=commands)
        with pytest.raises(grpc.aio.AioRpcError) as problem:
            await owners.stub(address).Execute(request, timeout=5)
        assert problem.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 10_000


async def test_a_market_that_is_long_over_is_not_taken_for_a_mistake(bet_service: Any, owners: Owners) -> None:
    """It is in no snapshot any more, and this owner has just begun: refused for the market, with the key used up.

    A market that never was stays an error, and nothing is recorded for it.
    """
    await owners.connection.execute(
        "INSERT INTO odds.current SELECT 4711, 471, 4, 9, 1, '[]', 1, 'test', false"  # resulted, long ago
    )
    async with bet_service():
        bettor = await funded(owners)
        over, never = await owners.execute(0, bettor.bet(1_000, 4711), bettor.bet(1_000, 4712))
        assert over.refusal.code == common_pb2.REFUSAL_CODE_MARKET_NOT_OPEN
        assert (never.fault.code, never.fault.reason) == (3, "UNKNOWN_SELECTION")
        recorded = await owners.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = 11")
        assert recorded == 1


async def test_bets_are_refused_as_stale_when_the_price_feed_is_silent(bet_service: Any, owners: Owners) -> None:
    """Stale prices are not bettable; the request key stays free."""
    async with bet_service(odds_service="127.0.0.1:1") as address:
        bettor = await funded(owners)
        _address, epoch = await owners.route(0)
        request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch, commands=[bettor.bet(100)])
        reply = await owners.stub(address).Execute(request, timeout=5)
        assert reply.results[0].refusal.code == 40
        rows = await owners.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind IN (10, 11)")
        assert rows == 0
