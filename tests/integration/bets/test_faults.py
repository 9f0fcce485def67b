"""Owners killed, frozen, cut off and replaced under load: nothing acknowledged is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
import uuid
from typing import Any

import grpc
import pytest
import redis.asyncio
from bet_processes import ORPHANED_AFTER_S, running
from cutting_proxy import CuttingProxy
from load import load
from owner_calls import SHARDS, Bettor, Owners, new_key, service_metadata, user_in

from betting.audit import audit
from betting.internal.v1 import owner_pb2

pytestmark = pytest.mark.slow


async def test_a_killed_owner_loses_nothing(bet_process: Any, owners: Owners) -> None:
    """Killed at any moment, again and again: before, during and after its appends."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first, second):
        await owners.all_served()
        async with load(owners) as bettors:
            for victim in (first, second, first):
                await asyncio.sleep(random.uniform(0.3, 0.6))
                killed_at = time.monotonic()
                victim.kill()
                await bettors.until_accepted_on_every_shard(killed_at)
                victim.start()
                await victim.ready()
        assert len(bettors.acknowledged) > 100
        await bettors.verify()


class Append:
    """One bet whose append can be met at a chosen moment."""

    def __init__(self, owners: Owners) -> None:
        self.owners = owners
        self.bettor = Bettor(user_in(0))
        self.key = new_key()
        self.bet = self.bettor.bet(100, key=self.key)
        self.sent: asyncio.Future[Any]

    async def send(self) -> None:
        """To the owner; nobody waits for the answer."""
        address, epoch = await self.owners.route(0)
        request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch, commands=[self.bet])
        self.sent = asyncio.ensure_future(self.owners.stub(address or "").Execute(request, timeout=20))

    async def blocked(self) -> list[int]:
        """The database's processes that wait for the shard's row, once there are any."""
        waiting = (
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%betting.journal%' "
            "AND datname = current_database()"
        )
        async with asyncio.timeout(20):
            while not (rows := await self.owners.connection.fetch(waiting)):  # noqa: ASYNC110 - Postgres decides
                await asyncio.sleep(0.01)
        return [row["pid"] for row in rows]

    async def times_in_journal(self) -> int:
        """How often the bet was recorded."""
        found = await self.owners.connection.fetchval(
            "SELECT count(*) FROM betting.journal WHERE request_key = $1", uuid.UUID(bytes=self.key)
        )
        return int(found)

    async def has_one_true_answer(self) -> None:
        """From whoever owns the shard now: placed, once, and the money has moved once."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.sent
        [result] = await self.owners.execute(0, self.bet, timeout_s=30)
        assert result.placed.bet_id
        assert await self.times_in_journal() == 1
        balance = (await self.owners.one(0, self.bettor.balance())).balance
        assert (balance.cash_minor, balance.open_stakes_minor) == (900, 100)
        assert (await audit(self.owners.dsn, None)).holds


async def test_killed_before_the_append_the_bet_is_placed_by_the_next_owner(bet_process: Any, owners: Owners) -> None:
    """The statement was waiting and never ran: nothing is in the journal, and the caller's retry places it."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first):
        append = Append(owners)
        await owners.one(0, append.bettor.deposit(1_000))
        async with owners.connection.acquire() as other, other.transaction():
            await other.execute("SELECT FROM betting.shards WHERE shard_id = 0 FOR UPDATE")
            await append.send()
            pids = await append.blocked()
            first.kill()
            for pid in pids:
                await other.execute("SELECT pg_terminate_backend($1)", pid)
        assert await append.times_in_journal() == 0
        async with running(second):
            await append.has_one_true_answer()


async def test_killed_during_the_append_the_bet_counts_once(bet_process: Any, owners: Owners) -> None:
    """The statement runs on after its owner is gone: the next owner finds it done and answers the retry with it."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first):
        append = Append(owners)
        await owners.one(0, append.bettor.deposit(1_000))
        async with owners.connection.acquire() as other, other.transaction():
            await other.execute("SELECT FROM betting.shards WHERE shard_id = 0 FOR UPDATE")
            await append.send()
            await append.blocked()
            first.kill()
        async with asyncio.timeout(20):
            while not await append.times_in_journal():  # noqa: ASYNC110 - Postgres decides
                await asyncio.sleep(0.01)
        async with running(second):
            await append.has_one_true_answer()


async def test_killed_after_the_append_the_bet_is_answered_by_the_next_owner(
    bet_process: Any, owners: Owners, database: Any
) -> None:
    """Durable, and nobody was told: the answer was still on its way to the owner."""
    async with CuttingProxy(database.dsn) as proxy:
        first, second = bet_process("bet-service-1", dsn=proxy.dsn), bet_process("bet-service-2")
        async with running(first):
            append = Append(owners)
            await owners.one(0, append.bettor.deposit(1_000))
            async with owners.connection.acquire() as other, other.transaction():
                await other.execute("SELECT FROM betting.shards WHERE shard_id = 0 FOR UPDATE")
                await append.send()
                await append.blocked()
                proxy.answers.clear()  # the append is with Postgres: no answer to anything before holds it up
            async with asyncio.timeout(20):
                while not await append.times_in_journal():  # noqa: ASYNC110 - Postgres decides
                    await asyncio.sleep(0.01)
            assert not append.sent.done()
            first.kill()
            proxy.answers.set()
            async with running(second):
                await append.has_one_true_answer()


async def test_an_owner_frozen_at_random_twenty_times_loses_nothing(bet_process: Any, owners: Owners) -> None:
    """Frozen anywhere, also inside an append and holding its locks; what it wakes up to is not its shard any more."""
    pair = [bet_process("bet-service-1"), bet_process("bet-service-2")]
    stolen_after = []
    async with running(*pair):
        await owners.all_served()
        async with load(owners) as bettors:
            for turn in range(20):
                victim = pair[turn % 2]
                await asyncio.sleep(random.uniform(0.05, 0.3))
                frozen_at = time.monotonic()
                victim.freeze()
                stolen_after.append(await bettors.until_accepted_on_every_shard(frozen_at))
                victim.resume()
        await bettors.verify()
    # The rule's patience, one look at the directory, jitter, and up to 15 tries of 200 ms at a held lock.
    assert max(stolen_after) < ORPHANED_AFTER_S + 5.0


async def test_callers_of_a_frozen_owner_get_one_true_answer(bet_process: Any, owners: Owners) -> None:
    """A call that was with the stale owner when its shard was stolen is not answered with what never happened."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first):
        await owners.all_served()
        bettor = Bettor(user_in(0))
        await owners.one(0, bettor.deposit(1_000))
        address, epoch = await owners.route(0)
        first.freeze()
        key = new_key()
        request = owner_pb2.ExecuteRequest(shard_id=0, epoch=epoch, commands=[bettor.bet(100, key=key)])
        stale = asyncio.ensure_future(owners.stub(address or "").Execute(request, timeout=20))
        async with running(second):
            there = await owners.execute(0, bettor.bet(100, key=key), timeout_s=15)
            first.resume()
            reply = await stale
            told_by_stale = reply.results[0]
            assert told_by_stale.refusal.code == 42 or told_by_stale.placed.bet_id == there[0].placed.bet_id
            balance = (await owners.one(0, bettor.balance())).balance
            assert (balance.cash_minor, balance.open_stakes_minor) == (900, 100)


async def test_connections_cut_at_random_make_no_second_bet(bet_process: Any, owners: Owners, database: Any) -> None:
    """The statement was sent, the answer never came: the shard is taken again and its head tells the truth."""
    async with CuttingProxy(database.dsn) as proxy:
        process = bet_process("bet-service-1", dsn=proxy.dsn)
        async with running(process):
            await owners.all_served()
            async with load(owners) as bettors:
                for _ in range(15):
                    await asyncio.sleep(random.uniform(0.02, 0.15))
                    proxy.cut()
                last_cut = time.monotonic()
                await bettors.until_accepted_on_every_shard(last_cut)
            await bettors.verify()
            assert proxy.cuts >= 15


async def test_hand_over_under_load_delays_bets_but_fails_none(bet_process: Any, owners: Owners) -> None:
    """Planned moves: callers wait, nobody is refused, and the shard is served where it was sent."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first, second):
        await owners.all_served()
        async with load(owners) as bettors:
            for shard in range(SHARDS):
                await hand_over(owners, shard, {first.address, second.address})
            await bettors.until_accepted_on_every_shard(time.monotonic())
        assert not bettors.refused
        await bettors.verify()


async def hand_over(owners: Owners, shard: int, addresses: set[str]) -> None:
    """To the other of two instances, which serves it from then on.

    On a starved machine an instance may miss a beat and have the shard taken back by the orphan rule: then once more.
    """
    for _ in range(3):
        if await handed_over(owners, shard, addresses):
            return
    raise AssertionError(f"shard {shard} was given back three times")


async def handed_over(owners: Owners, shard: int, addresses: set[str]) -> bool:
    """Whether the other of two instances has it two looks later."""
    async with asyncio.timeout(30):
        while True:
            address, epoch = await owners.route(shard)
            if address is None:
                await asyncio.sleep(0.02)
                continue
            [other] = addresses - {address}
            request = owner_pb2.HandOverRequest(shard_id=shard, epoch=epoch)
            try:
                await owners.stub(address).HandOver(request, timeout=10, metadata=service_metadata())
                break
            except grpc.aio.AioRpcError:  # it was moving by itself
                await asyncio.sleep(0.02)
        while (await owners.route(shard))[0] != other:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.2)  # two looks at the directory: who has too many hands on, but not this one
    return bool((await owners.route(shard))[0] == other)


async def test_sigterm_hands_every_shard_on(bet_process: Any, owners: Owners) -> None:
    """A rolling update: bets are delayed, none is lost or refused."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first, second):
        await owners.all_served()
        async with load(owners) as bettors:
            await asyncio.sleep(0.3)
            await first.stop()
            await bettors.until_accepted_on_every_shard(time.monotonic())
            for shard in range(SHARDS):
                assert (await owners.route(shard))[0] == second.address
        assert not bettors.refused
        await bettors.verify()


async def test_redis_wiped_under_load_does_not_stop_a_bet(bet_process: Any, owners: Owners, valkey: Any) -> None:
    """Everything in Redis can be rebuilt: the streams come back from the journal."""
    async with running(bet_process("bet-service-1")):
        await owners.all_served()
        async with load(owners) as bettors, redis.asyncio.Redis.from_url(valkey.url) as client:
            for _ in range(5):
                await asyncio.sleep(0.2)
                await client.flushall()
            await bettors.until_accepted_on_every_shard(time.monotonic())
            end = time.monotonic() + 15
            while await client.exists(*(f"betting:shard:{shard}" for shard in range(SHARDS))) < SHARDS:
                assert time.monotonic() < end, "the streams did not come back"
                await asyncio.sleep(0.1)
        assert not bettors.refused
        await bettors.verify()


async def test_a_poisoned_shard_freezes_alone(bet_process: Any, owners: Owners) -> None:
    """An entry that cannot be applied stops its shard, not the process, and not the other shards."""
    first = bet_process("bet-service-1")
    async with running(first):
        await owners.all_served()
        first.kill()
        await owners.connection.execute(
            "INSERT INTO betting.journal SELECT 0, coalesce(max(sequence), 0) + 1, 10, 1, 1, gen_random_uuid(), "
            "gen_random_uuid(), NULL, NULL, -5, 5, 0, 0, 0, '\\x00' FROM betting.journal WHERE shard = 0"
        )
        first.start()
        await first.ready()
        bettor = Bettor(user_in(1))
        await owners.one(1, bettor.deposit(1_000))
        assert (await owners.one(1, bettor.bet(100))).placed.bet_id
        state = await owners.connection.fetchrow("SELECT state, reason FROM betting.shards WHERE shard_id = 0")
        assert state["state"] == "frozen"
        assert "entry" in state["reason"]


async def test_a_shard_that_cannot_be_read_keeps_no_other_waiting(bet_process: Any, owners: Owners) -> None:
    """All were taken together; it is served too, once it can be read, and nobody's end is blamed on the others."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first):
        await owners.all_served()
        first.kill()
    # Whatever asks for snapshots of shard 1 gets an error from Postgres, as from a damaged page.
    await owners.connection.execute(
        "INSERT INTO betting.snapshots (shard, sequence, epoch, format, parts, size_bytes, sha256) "
        "SELECT shard, 1, 0, 1, 0, 0, sha256('') FROM generate_series(0, 1) AS shard"
    )
    await owners.connection.execute("ALTER TABLE betting.snapshots RENAME TO kept_snapshots")
    await owners.connection.execute(
        "CREATE VIEW betting.snapshots AS SELECT shard, sequence / (CASE shard WHEN 1 THEN 0 ELSE 1 END) AS sequence, "
        "epoch, format, parts, size_bytes, sha256, written_at FROM betting.kept_snapshots"
    )
    async with running(second):
        for shard in (0, 2, 3):
            await owners.execute(shard, Bettor(user_in(shard)).balance())
        with pytest.raises(TimeoutError):
            await owners.execute(1, Bettor(user_in(1)).balance(), timeout_s=1.0)
        async with asyncio.timeout(10):
            while await owners.connection.fetchval("SELECT count(*) FROM betting.replays WHERE shard <> 1"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await owners.connection.execute("DROP VIEW betting.snapshots")
        await owners.connection.execute("ALTER TABLE betting.kept_snapshots RENAME TO snapshots")
        await owners.all_served()


async def test_a_shard_whose_replay_ended_its_owner_is_loaded_last(bet_process: Any, owners: Owners) -> None:
    """Should it end the next one too, the others of the group were served meanwhile."""
    first, second = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(first):
        await owners.all_served()
        first.kill()
    await owners.connection.execute(
        "INSERT INTO betting.replays (shard, loading_by, epoch) "
        "SELECT shard_id, owner, epoch FROM betting.shards WHERE shard_id = 1"
    )
    async with running(second):
        await owners.all_served()
        serving = [line for line in second.log_text().splitlines() if "shard serving" in line]
        assert [int(re.findall(r"\bshard\W+(\d+)", line)[-1]) for line in serving] == [0, 2, 3, 1]
