"""Bet-services replaced one by one under load, and stopped in the middle of it: no bet is lost, none refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bet_processes import BetProcess, running
from cutting_proxy import CuttingProxy
from load import load
from owner_calls import SHARDS, Bettor, Owners, user_in

pytestmark = pytest.mark.slow

# On a starved machine heartbeats come late: nobody is taken for dead who is not.
PATIENT = {"orphaned_after": "20"}

_NOTE_STATEMENTS = """
CREATE TABLE public.said (query text);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.said VALUES (current_query());
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER UPDATE ON betting.shards FOR EACH STATEMENT EXECUTE FUNCTION public.note();
"""


async def owned(owners: Owners) -> dict[str, int]:
    """How many shards each address owns."""
    rows = await owners.connection.fetch(
        "SELECT address, count(*) FROM betting.shards WHERE owner IS NOT NULL GROUP BY 1"
    )
    return dict(rows)


async def until_owned(owners: Owners, *shares: tuple[BetProcess, int]) -> None:
    """Returns once these own exactly so many, and nobody else any."""
    wanted = {process.address: count for process, count in shares if count}
    async with asyncio.timeout(30):
        while await owned(owners) != wanted:  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.02)


async def epochs(owners: Owners) -> list[int]:
    """How often each shard was taken, in the order of the shards."""
    rows = await owners.connection.fetch("SELECT epoch FROM betting.shards ORDER BY shard_id")
    return [row["epoch"] for row in rows]


async def test_a_rolling_update_moves_every_shard_once(bet_process: Any, owners: Owners) -> None:
    """To the new generation; one comes before one goes, as a deployment with one surge pod does it."""
    old = [bet_process(f"old-{number}", generation="1", **PATIENT) for number in (1, 2)]
    new = [bet_process(f"new-{number}", generation="2", **PATIENT) for number in (1, 2)]
    async with running(*old):
        await until_owned(owners, (old[0], 2), (old[1], 2))
        async with load(owners) as bettors:
            before = await epochs(owners)
            async with running(new[0]):
                await old[0].stop()
                await until_owned(owners, (old[1], 2), (new[0], 2))
                async with running(new[1]):
                    await old[1].stop()
                    await until_owned(owners, (new[0], 2), (new[1], 2))
                    await bettors.until_accepted_on_every_shard(time.monotonic())
                    after = await epochs(owners)
                    await bettors.stop()
                    await bettors.verify()
        assert [b - a for a, b in zip(before, after, strict=True)] == [1] * SHARDS
        assert not bettors.refused


async def test_scaling_out_and_in_moves_a_share(bet_process: Any, owners: Owners) -> None:
    """One instance more, and away again: what the others keep is not touched."""
    first, second, third = (bet_process(f"bet-service-{number}", **PATIENT) for number in (1, 2, 3))
    async with running(first, second):
        await until_owned(owners, (first, 2), (second, 2))
        async with load(owners) as bettors:
            before = await epochs(owners)
            async with running(third):
                async with asyncio.timeout(30):
                    while (await owned(owners)).get(third.address) != 1:  # noqa: ASYNC110 - other processes decide
                        await asyncio.sleep(0.02)
                await third.stop()
                await until_owned(owners, (first, 2), (second, 2))
            assert sum(await epochs(owners)) == sum(before) + 2
            await bettors.until_accepted_on_every_shard(time.monotonic())
        assert not bettors.refused
        await bettors.verify()


async def test_what_was_handed_over_is_not_asked_for_again(bet_process: Any, owners: Owners) -> None:
    """Each try would be a statement, and the next group waits for them. (By statement: they changed no row.)"""
    giver, newcomer = (bet_process(f"bet-service-{number}", **PATIENT) for number in (1, 2))
    async with running(giver):
        await until_owned(owners, (giver, SHARDS))
        await owners.connection.execute(_NOTE_STATEMENTS)
        async with running(newcomer):
            await until_owned(owners, (giver, 2), (newcomer, 2))
            await giver.stop()
            await until_owned(owners, (newcomer, SHARDS))
    said = [row[0] for row in await owners.connection.fetch("SELECT query FROM public.said")]
    assert [query for query in said if "SKIP LOCKED" in query]
    assert not [query for query in said if "s.epoch >= $4" in query]


async def test_the_last_one_serves_until_it_has_to_go(bet_process: Any, owners: Owners) -> None:
    """Nobody can take its shards: who asks for them is served; then they are free for whoever comes."""
    alone, next_one = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(alone):
        await owners.all_served()
        async with load(owners) as bettors:
            alone.terminate()
            draining_at = time.monotonic()
            await bettors.until_accepted_on_every_shard(draining_at + 1.0)
            async with running(next_one):
                await until_owned(owners, (next_one, SHARDS))
                await alone.ended()
                await bettors.until_accepted_on_every_shard(time.monotonic())
                await bettors.stop()
                await bettors.verify()
        assert not bettors.refused


async def test_the_last_one_that_nobody_asks_leaves_at_once(bet_process: Any, owners: Owners) -> None:
    """A platform that is shut down does not wait, and leaves free shards behind."""
    alone = bet_process("bet-service-1", drain_timeout="15")
    async with running(alone):
        await owners.all_served()
        began = time.monotonic()
        await alone.stop()
        assert time.monotonic() - began < 10
        assert await owned(owners) == {}


async def test_the_last_one_serves_also_who_asks_only_now_and_then(bet_process: Any, owners: Owners) -> None:
    """A few bets a second are enough for it to stay as long as it may."""
    alone = bet_process("bet-service-1", drain_timeout="30")
    async with running(alone):
        await owners.all_served()
        bettor = Bettor(user_in(0))
        await owners.one(0, bettor.deposit(1_000))
        alone.terminate()
        for _ in range(10):
            assert (await owners.one(0, bettor.bet(1))).placed.bet_id
            await asyncio.sleep(0.3)
        assert await owned(owners) == {alone.address: SHARDS}


async def test_a_snapshot_that_does_not_end_holds_no_shard_back(bet_process: Any, owners: Owners) -> None:
    """Not even the last seconds of an instance are for it: its shards are free when it ends."""
    alone = bet_process("bet-service-1", drain_timeout="8")
    async with running(alone):
        await owners.all_served()
        for shard in range(SHARDS):
            bettor = Bettor(user_in(shard))
            for _ in range(5):
                await owners.execute(shard, *(bettor.deposit(1) for _ in range(500)))
        async with no_loading(owners):
            await alone.stop()
        assert await owned(owners) == {}


async def test_a_new_instance_does_not_wait_for_prices_for_ever(bet_process: Any, owners: Owners) -> None:
    """It is not ready before it has any; where there are none it takes its shards all the same: for what is no bet."""
    alone = bet_process("bet-service-1", odds_service="127.0.0.1:9")
    async with running(alone):
        assert "no prices yet" in alone.log_text()
        await until_owned(owners, (alone, SHARDS))


@asynccontextmanager
async def no_loading(owners: Owners) -> AsyncIterator[None]:
    """Whoever takes a shard meanwhile cannot load it."""
    async with owners.connection.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE betting.snapshots IN ACCESS EXCLUSIVE MODE")
        yield


async def test_a_receiver_killed_before_it_has_loaded_what_it_took(bet_process: Any, owners: Owners) -> None:
    """Released by one, taken by the other, served by nobody: the others find out, and its successor too."""
    giver, receiver, other = (bet_process(f"bet-service-{number}") for number in (1, 2, 3))
    async with running(giver, receiver):
        await until_owned(owners, (giver, 2), (receiver, 2))
        async with load(owners) as bettors:
            async with no_loading(owners):
                giver.terminate()
                await until_owned(owners, (receiver, SHARDS))
                receiver.kill()
            await giver.ended()
            async with running(other):
                await bettors.until_accepted_on_every_shard(time.monotonic())
                await until_owned(owners, (other, SHARDS))
                await bettors.stop()
                await bettors.verify()
        assert not bettors.refused


async def test_a_receiver_stopped_while_it_loads_what_it_took(bet_process: Any, owners: Owners) -> None:
    """Others have loaded it all when it goes on: it loads no more of it, and counts as no death of any shard."""
    stopped, other = bet_process("bet-service-1"), bet_process("bet-service-2")
    try:
        async with no_loading(owners), asyncio.timeout(20):
            stopped.start()
            while not await owners.connection.fetchval("SELECT count(*) FROM betting.replays"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            stopped.freeze()
        async with running(other):
            await until_owned(owners, (other, SHARDS))
            await owners.all_served()
            stopped.resume()
            async with asyncio.timeout(20):
                while stopped.log_text().count("it is not ours at epoch 1 any more") < SHARDS - 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not await owners.connection.fetch(
                "SELECT * FROM betting.replays WHERE loading_by LIKE 'bet-service-1%'"
            )
    finally:
        stopped.kill()


async def test_who_cannot_read_what_it_took_together_is_named_as_loading(bet_process: Any, owners: Owners) -> None:
    """Soon, and long before a statement is given up: a shard that ends its owners is known by that name."""
    alone = bet_process("bet-service-1")
    async with no_loading(owners), asyncio.timeout(20):
        alone.start()
        try:
            while not await owners.connection.fetchval("SELECT count(*) FROM betting.replays"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        finally:
            alone.kill()


async def test_a_giver_killed_when_half_a_group_is_released(bet_process: Any, owners: Owners) -> None:
    """What it gave is served by the receiver, what it could not give is taken from it."""
    giver, receiver = bet_process("bet-service-1"), bet_process("bet-service-2")
    async with running(giver):
        await until_owned(owners, (giver, SHARDS))
        async with running(receiver):
            await until_owned(owners, (giver, 2), (receiver, 2))
            async with load(owners) as bettors:
                mine = [s for s in range(SHARDS) if (await owners.route(s))[0] == giver.address]
                async with owners.connection.acquire() as blocker, blocker.transaction():
                    await blocker.execute("SELECT FROM betting.shards WHERE shard_id = $1 FOR SHARE", mine[0])
                    giver.terminate()
                    await until_owned(owners, (giver, 1), (receiver, 3))
                    giver.kill()
                await until_owned(owners, (receiver, SHARDS))
                await bettors.until_accepted_on_every_shard(time.monotonic())
            assert not bettors.refused
            await bettors.verify()


async def test_a_receiver_stopped_when_it_was_given_a_group(bet_process: Any, owners: Owners) -> None:
    """It takes nothing, and what was meant for it goes to another; when it goes on it claims none of that back."""
    giver, receiver, other = (bet_process(f"bet-service-{number}") for number in (1, 2, 3))
    async with running(giver, receiver, other):
        async with asyncio.timeout(30):
            while len(await owned(owners)) < 3:  # noqa: ASYNC110 - other processes decide
                await asyncio.sleep(0.02)
        async with load(owners) as bettors:
            receiver.freeze()
            giver.terminate()
            await giver.ended()
            await until_owned(owners, (other, SHARDS))
            await bettors.until_accepted_on_every_shard(time.monotonic())
            receiver.resume()
            await until_owned(owners, (other, 2), (receiver, 2))
            await bettors.until_accepted_on_every_shard(time.monotonic())
        assert not bettors.refused
        await bettors.verify()


async def test_connections_cut_in_the_middle_of_a_hand_over(bet_process: Any, owners: Owners, database: Any) -> None:
    """A release whose answer never came happened or not: the fence says so, and the shard ends with one owner."""
    async with CuttingProxy(database.dsn) as proxy:
        pair = [bet_process(f"bet-service-{number}", dsn=proxy.dsn) for number in (1, 2)]
        async with running(*pair):
            await until_owned(owners, (pair[0], 2), (pair[1], 2))
            async with load(owners) as bettors:
                for turn in range(4):
                    leaving = pair[turn % 2]
                    leaving.terminate()
                    for _ in range(5):
                        await asyncio.sleep(random.uniform(0.0, 0.1))
                        proxy.cut()
                    await leaving.ended()
                    await until_owned(owners, (pair[1 - turn % 2], SHARDS))
                    leaving.start()
                    await leaving.ready()
                await until_owned(owners, (pair[0], 2), (pair[1], 2))
                await bettors.until_accepted_on_every_shard(time.monotonic())
            assert not bettors.refused
            await bettors.verify()
