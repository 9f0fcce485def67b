"""What broke off half-way comes right by itself, and what must not go on stops."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from owner_calls import Bettor, Owners, service_metadata, user_in

from betting.engine.outcomes import Outcome
from betting.engine.refusals import Refusal
from betting.internal.v1 import owner_pb2
from betting.journal import ownership as directory

HOME_WON = {1: Outcome.WON, 2: Outcome.LOST, 3: Outcome.LOST}
AWAY_WON = {1: Outcome.LOST, 2: Outcome.LOST, 3: Outcome.WON}
STILL_RELEASING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%UPDATE betting.shards%'
"""


async def funded(owners: Owners, shard: int = 0) -> Bettor:
    bettor = Bettor(user_in(shard))
    await owners.one(shard, bettor.deposit(10_000))
    return bettor


async def test_a_shard_that_is_ours_but_not_in_memory_is_loaded(bet_service: Any, owners: Owners) -> None:
    """The epoch went up and we never heard: memory is dropped, and taken up again instead of left with nobody."""
    async with bet_service():
        bettor = await funded(owners)
        await owners.connection.execute("UPDATE betting.shards SET epoch = epoch + 1 WHERE shard_id = 0")
        assert (await owners.one(0, bettor.bet(100))).placed.bet_id
        balance = (await owners.one(0, bettor.balance())).balance
        assert (balance.cash_minor, balance.open_stakes_minor) == (9_900, 100)


async def hand_over(owners: Owners, address: str, request: owner_pb2.HandOverRequest) -> grpc.StatusCode:
    """What comes of asking, and waiting for half a second."""
    try:
        await owners.stub(address).HandOver(request, timeout=0.5, metadata=service_metadata())
    except grpc.aio.AioRpcError as refused:
        return refused.code()
    return grpc.StatusCode.OK


async def test_a_hand_over_whose_caller_left_does_not_leave_the_shard_unserved(
    bet_service: Any, owners: Owners
) -> None:
    """It waits for a lock, the caller's deadline passes: the owner goes on serving."""
    async with bet_service("bet-service-1"), bet_service("bet-service-2"):
        await owners.all_served()
        bettor = await funded(owners)
        address, epoch = await owners.route(0)
        request = owner_pb2.HandOverRequest(shard_id=0, epoch=epoch)
        async with owners.connection.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM betting.shards WHERE shard_id = 0 FOR SHARE")
            async with asyncio.timeout(20):
                # The owner may be busy with the shard at that moment, and then says "ask again".
                while (code := await hand_over(owners, address or "", request)) is grpc.StatusCode.UNAVAILABLE:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                assert code is grpc.StatusCode.DEADLINE_EXCEEDED
                while await connection.fetchval(STILL_RELEASING):  # noqa: ASYNC110 - another process decides
                    await asyncio.sleep(0.05)
        assert (await owners.one(0, bettor.bet(100))).placed.bet_id


async def test_nothing_is_appended_behind_a_gap(bet_service: Any, owners: Owners) -> None:
    """A failover that lost an acknowledged commit: the shard freezes, its next bet is not acknowledged."""
    async with bet_service():
        await owners.all_served()
        bettor = await funded(owners)
        await owners.one(0, bettor.bet(100))
        await lose_the_last_entry(owners.connection)
        result = await owners.one(0, bettor.bet(200))
        assert result.refusal.code == Refusal.SHARD_FROZEN
        assert "acknowledged" in await reason_of_freeze(owners.connection)


async def test_a_frozen_shard_is_served_again_once_it_is_unfrozen(bet_service: Any, owners: Owners) -> None:
    """Callers are told to come back while its owner loads it again, also where that fails the first time."""
    async with bet_service():
        await owners.all_served()
        bettor = await funded(owners)
        await lose_the_last_entry(owners.connection)
        assert (await owners.one(0, bettor.deposit(200))).refusal.code == Refusal.SHARD_FROZEN
        await reason_of_freeze(owners.connection)
        async with owners.connection.acquire() as blocker, blocker.transaction():
            await blocker.execute("LOCK TABLE betting.snapshots IN ACCESS EXCLUSIVE MODE")  # no load gets past this
            async with owners.connection.acquire() as person:
                assert await directory.unfreeze(person, 0)
            loading = await loading_shard(owners.connection)
            address, epoch = await owners.route(0)
            request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch, commands=[bettor.deposit(200)])
            reply = await owners.stub(address or "").Execute(request, timeout=5)
            assert reply.results[0].refusal.code == Refusal.NOT_OWNER
            await owners.connection.execute("SELECT pg_terminate_backend($1)", loading)
        assert (await owners.one(0, bettor.deposit(200))).balance.cash_minor == 200


async def reason_of_freeze(pool: asyncpg.Pool) -> str:
    """Callers are told first, and the directory next."""
    async with asyncio.timeout(20):
        while True:
            row = await pool.fetchrow("SELECT state, reason FROM betting.shards WHERE shard_id = 0")
            if row["state"] == "frozen":
                return str(row["reason"])
            await asyncio.sleep(0.02)


async def loading_shard(pool: asyncpg.Pool) -> int:
    """The backend of Postgres that waits to read a snapshot."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE '%betting.snapshots%'"
    )
    async with asyncio.timeout(20):
        while not (pid := await pool.fetchval(query)):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)
    return int(pid)


async def lose_the_last_entry(pool: asyncpg.Pool) -> None:
    """As a standby promoted too early would: the commit is gone and every connection with it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "DELETE FROM betting.journal WHERE shard = 0 AND sequence = "
            "(SELECT max(sequence) FROM betting.journal WHERE shard = 0)"
        )
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'bet-service-1%'"
    )


async def test_corrections_that_wait_for_the_projector_do_not_starve_it(bet_service: Any, owners: Owners) -> None:
    """More of them than there are connections; and the projector goes on where another one was at it."""
    async with bet_service():
        bettor = await funded(owners)
        key = (bet := bettor.bet(1_000, 1, selection=1)).request_key
        await owners.one(0, bet)
        await owners.settle_shard(0, 1, 1, HOME_WON)
        async with owners.connection.acquire() as other, other.transaction():
            await other.execute("SELECT FROM betting.projector WHERE shard = 0 FOR UPDATE")
            corrections = [asyncio.ensure_future(owners.settle_shard(0, 1, 2, AWAY_WON)) for _ in range(8)]
            await asyncio.sleep(0.5)
            assert not any(one.done() for one in corrections)
            read = await owners.execute(0, bettor.get_bet(bytes(16)), bettor.by_key(key), timeout_s=3)
            # At once, not after waiting: commands of others are in the same call.
            assert [one.fault.reason for one in read] == ["READ_MODEL_BEHIND", "READ_MODEL_BEHIND"]
        answers = await asyncio.gather(*corrections, return_exceptions=True)
        assert any(isinstance(one, owner_pb2.SettleMarketResponse) and one.done for one in answers)
        assert (await owners.one(0, bettor.balance())).balance.cash_minor == 9_000


async def test_a_clock_that_is_off_hands_shards_on_but_never_to_nobody(
    bet_service: Any, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it keeps them; when somebody else comes they go there, all of them."""
    async with bet_service("bet-service-1") as first:
        bettor = await funded(owners)
        monkeypatch.setattr("betting.bets.clock.DatabaseClock.wall_error_us", lambda _clock: 3_000_000)
        await asyncio.sleep(1.5)
        assert (await owners.one(0, bettor.bet(100))).placed.bet_id
        async with bet_service("bet-service-2") as second:
            # Both clocks are off now, so it is the database's: the first by name keeps everything, whoever that is.
            async with asyncio.timeout(15):
                while await draining(owners) != 1:  # noqa: ASYNC110 - other processes decide
                    await asyncio.sleep(0.1)
            await owners.all_served()
            assert {(await owners.route(shard))[0] for shard in range(4)} <= {first, second}
            assert (await owners.one(0, bettor.bet(100))).placed.bet_id


async def draining(owners: Owners) -> int:
    return int(await owners.connection.fetchval("SELECT count(*) FROM betting.instances WHERE draining AND NOT exited"))
