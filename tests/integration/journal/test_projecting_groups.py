"""Read models of many shards taken further together: the same tables, nobody waits for a shard that is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from scribe import DERIVED, Scribe, busy, dump, own, settle

from betting.bets import followers
from betting.bets.followers import Followers
from betting.bets.shard import OwnedShard
from betting.journal import projector
from betting.journal.connection import prepare
from betting.journal.projector import Projected
from betting.runtime.clock import now_us
from betting.streams.outbox import Outbox

SHARDS = (0, 1, 2, 3)


async def written(connection: asyncpg.Connection, sizes: Sequence[int]) -> list[Scribe]:
    """Shards with about so many bets each, of which some are settled and corrected."""
    await own(connection, SHARDS)
    scribes = [Scribe(shard, now_us()) for shard in SHARDS]
    for scribe, bets in zip(scribes, sizes, strict=True):
        busy(scribe, seed=scribe.state.shard, bets=bets)
        settle(scribe, 1, 1, winner=1)
        settle(scribe, 2, 1, winner=2)
        await scribe.commit(connection)
    return scribes


async def forget(connection: asyncpg.Connection) -> None:
    tables = ", ".join(f"betting.{table}" for table in DERIVED)
    await connection.execute(f"TRUNCATE {tables}")
    await connection.execute("UPDATE betting.projector SET sequence = 0")


async def remove_entry(connection: asyncpg.Connection, shard: int, sequence: int) -> asyncpg.Record:
    """What no code of ours can do; returns the row."""
    await connection.execute("ALTER TABLE betting.journal DISABLE TRIGGER append_only")
    row = await connection.fetchrow(
        "DELETE FROM betting.journal WHERE shard = $1 AND sequence = $2 RETURNING *", shard, sequence
    )
    assert row is not None
    return row


async def restore_entry(connection: asyncpg.Connection, row: asyncpg.Record) -> None:
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO betting.journal VALUES ({places})", *row)


@pytest.mark.parametrize("step", [1, 13, 5_000])
async def test_a_group_is_projected_as_its_shards_one_by_one(connection: asyncpg.Connection, step: int) -> None:
    """Accounts, balances, bets, settlements, legs, totals: row by row the same tables."""
    scribes = await written(connection, (40, 10, 25, 0))
    for shard in SHARDS:
        assert await projector.project(connection, shard) is not None
    alone = await dump(connection)
    assert all(alone.values())
    await forget(connection)

    left = sum(scribe.state.head for scribe in scribes)
    while left:
        done = await projector.project_group(connection, SHARDS, step)
        assert set(done) == set(SHARDS)
        taken = sum(one.to_sequence - one.from_sequence for one in done.values())
        assert taken == min(step, left)
        left -= taken
        assert left == sum(one.lag_entries for one in done.values())
    assert await dump(connection) == alone


async def test_a_long_journal_leaves_the_others_their_share(connection: asyncpg.Connection) -> None:
    """Short ones are taken whole, the rest of the limit goes to the long ones in equal parts."""
    scribes = await written(connection, (300, 0, 300, 0))
    heads = [scribe.state.head for scribe in scribes]
    short = heads[1] + heads[3]
    done = await projector.project_group(connection, SHARDS, short + 100)
    assert [done[shard].to_sequence for shard in SHARDS] == [50, heads[1], 50, heads[3]]
    assert done[0] == Projected(0, 50, heads[0] - 50)


async def test_what_another_projector_has_is_left_out(connecting: Any) -> None:
    """The others of the group are taken meanwhile, and each entry once."""
    first, second = await connecting(), await connecting("second")
    scribes = await written(first, (20, 20, 20, 20))
    async with first.transaction():
        assert set(await projector.project_group(first, [1, 2])) == {1, 2}
        assert set(await projector.project_group(second, SHARDS)) == {0, 3}
    assert await projector.lags(first) == dict.fromkeys(SHARDS, 0)
    bets = sum(scribe.state.bets_accepted for scribe in scribes)
    assert await first.fetchval("SELECT count(*) FROM betting.bets") == bets


async def test_its_commit_does_not_wait_for_the_disk(connection: asyncpg.Connection) -> None:
    """What it writes can be derived again. The setting has to last until the commit, and no longer."""
    await written(connection, (1, 1, 1, 1))
    await connection.execute("SET synchronous_commit = on")
    async with connection.transaction():
        await projector.project_group(connection, SHARDS)
        assert await connection.fetchval("SHOW synchronous_commit") == "off"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_entries_that_cannot_be_projected_are_told_from_a_database_that_fails(
    connection: asyncpg.Connection,
) -> None:
    """A gap is the shard's own; the whole group changes nothing. A missing table concerns every shard."""
    await written(connection, (5, 5, 5, 5))
    await remove_entry(connection, 2, 4)
    with pytest.raises(asyncpg.RaiseError, match=r"shard 2 has .* the journal has a gap") as gap:
        await projector.project_group(connection, SHARDS)
    assert projector.caused_by_entries(gap.value)
    assert await connection.fetchval("SELECT max(sequence) FROM betting.projector") == 0
    assert not await connection.fetchval("SELECT count(*) FROM betting.bets")
    await connection.execute("ALTER TABLE betting.ledger RENAME TO elsewhere")
    with pytest.raises(asyncpg.UndefinedTableError) as missing:
        await projector.project_group(connection, [0])
    assert not projector.caused_by_entries(missing.value)


@pytest.fixture
async def following(installed: str) -> AsyncIterator[Followers]:
    """Followers whose projector runs; nothing is published."""
    async with asyncpg.create_pool(installed, init=prepare, min_size=1, max_size=3) as pool:
        made = Followers(pool, Outbox(redis.asyncio.Redis(), pool))
        running = asyncio.create_task(made.run_projector())
        yield made
        running.cancel()
        await asyncio.wait([running])


async def until_lags(connection: asyncpg.Connection, expected: dict[int, int]) -> None:
    async with asyncio.timeout(60):
        while await projector.lags(connection) != expected:  # noqa: ASYNC110 - the projector decides
            await asyncio.sleep(0.02)


async def test_a_shard_that_is_stuck_stops_no_other(
    connection: asyncpg.Connection, following: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside, tried again by itself, and goes on once its entries can be projected."""
    monkeypatch.setattr(followers, "STUCK_RETRY_S", 0.05)
    monkeypatch.setattr(followers, "RETRY_S", 0.05)
    monkeypatch.setattr(followers, "GATHER_S", 0.0)
    scribes = await written(connection, (10, 10, 10, 10))
    lost = await remove_entry(connection, 1, 7)
    for scribe in scribes:
        following.follow(OwnedShard(scribe.state, 1, 0))
    waiting = {shard: scribes[1].state.head if shard == 1 else 0 for shard in SHARDS}
    await until_lags(connection, waiting)

    busy(scribes[3], seed=99, bets=5)
    owned = OwnedShard(scribes[3].state, 1, 0)
    following.committed(owned, await scribes[3].commit(connection))
    stuck = OwnedShard(scribes[1].state, 1, 0)
    following.committed(stuck, await scribes[1].commit(connection))
    await until_lags(connection, waiting)

    await restore_entry(connection, lost)
    await until_lags(connection, dict.fromkeys(SHARDS, 0))
    bets = sum(scribe.state.bets_accepted for scribe in scribes)
    assert await connection.fetchval("SELECT count(*) FROM betting.bets") == bets


@asynccontextmanager
async def commits_all_the_time(following: Followers, owned: OwnedShard) -> AsyncIterator[None]:
    """Another commit to this shard is announced before any statement of the projector can end."""

    async def announce() -> None:
        while True:
            following.committed(owned, [])
            await asyncio.sleep(0)

    load = asyncio.create_task(announce())
    try:
        yield
    finally:
        load.cancel()
        await asyncio.wait([load])


async def test_a_shard_that_is_stuck_is_tried_again_under_load(
    connection: asyncpg.Connection, following: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits to other shards, however many, do not keep it from going on once its entries can be projected."""
    monkeypatch.setattr(followers, "STUCK_RETRY_S", 0.05)
    monkeypatch.setattr(followers, "GATHER_S", 0.01)
    scribes = await written(connection, (5, 5, 5, 5))
    lost = await remove_entry(connection, 1, 7)
    owned = [OwnedShard(scribe.state, 1, 0) for scribe in scribes]
    async with commits_all_the_time(following, owned[0]):
        for one in owned:
            following.follow(one)
        await until_lags(connection, {shard: scribes[1].state.head if shard == 1 else 0 for shard in SHARDS})
        await restore_entry(connection, lost)
        await until_lags(connection, dict.fromkeys(SHARDS, 0))


async def test_a_shard_that_another_projector_was_at_is_tried_again_under_load(
    connecting: Any, following: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handed over and idle since: what its last owner's projector left is taken while other shards are committed to."""
    monkeypatch.setattr(followers, "GATHER_S", 0.01)
    connection, other = await connecting(), await connecting("other")
    scribes = await written(connection, (5, 5, 5, 5))
    owned = [OwnedShard(scribe.state, 1, 0) for scribe in scribes]
    async with commits_all_the_time(following, owned[0]):
        async with other.transaction():
            await other.execute("SELECT FROM betting.projector WHERE shard = 2 FOR UPDATE")
            for one in owned:
                following.follow(one)
            await until_lags(connection, {shard: scribes[2].state.head if shard == 2 else 0 for shard in SHARDS})
        await until_lags(connection, dict.fromkeys(SHARDS, 0))


async def test_entries_gather_under_load(
    connection: asyncpg.Connection, following: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of commits are no reason for a second statement before the pause is over."""
    monkeypatch.setattr(followers, "GATHER_S", 3_600.0)
    statements: list[Collection[int]] = []
    project_group = projector.project_group

    async def counted(using: asyncpg.Connection, shards: Collection[int]) -> dict[int, Projected]:
        statements.append(shards)
        return await project_group(using, shards)

    monkeypatch.setattr(projector, "project_group", counted)
    scribes = await written(connection, (5, 5, 5, 5))
    owned = [OwnedShard(scribe.state, 1, 0) for scribe in scribes]
    async with commits_all_the_time(following, owned[0]):
        for one in owned:
            following.follow(one)
        await until_lags(connection, dict.fromkeys(SHARDS, 0))
        for _ in range(200):
            await connection.execute("SELECT 1")
    assert [sorted(shards) for shards in statements] == [list(SHARDS)]


async def test_what_one_statement_does_not_take_waits_for_no_pause(
    connection: asyncpg.Connection, following: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A projector that is behind by more than a statement takes goes on at once, until it has taken everything."""
    monkeypatch.setattr(followers, "GATHER_S", 3_600.0)
    monkeypatch.setattr(projector, "project_group", partial(projector.project_group, limit=11))
    scribes = await written(connection, (40, 10, 25, 0))
    for scribe in scribes:
        following.follow(OwnedShard(scribe.state, 1, 0))
    await until_lags(connection, dict.fromkeys(SHARDS, 0))
