"""Snapshots: written under the fence, verified when read, and the one before when damaged."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from scribe import ADDRESS, OWNER, Scribe, own

from betting.engine import snapshots as engine_snapshots
from betting.journal import ownership, snapshots
from betting.runtime.clock import now_us

RIVAL = "bet-service-2@fedcba9876543210"


async def test_a_snapshot_comes_back_whole(connection: asyncpg.Connection) -> None:
    """Two and a half parts go in as odd chunks and come out as the same bytes."""
    await own(connection, [0])
    body = bytes(range(256)) * 10_240
    chunks = [body[:7], body[7:1_500_000], body[1_500_000:]]
    assert await snapshots.write(connection, 0, OWNER, 1, 41, 2, chunks)
    assert await snapshots.newest(connection, 0) == (41, 1, 2, body)
    assert await connection.fetchval("SELECT count(*) FROM betting.snapshot_parts") == 3
    assert await snapshots.newest(connection, 1) is None


async def test_the_engines_state_survives(connection: asyncpg.Connection) -> None:
    """What the engine encodes and the store keeps loads as the same state."""
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(bytes(16), 1_000)
    for _ in range(50):
        scribe.place(bytes(16), 1, [(7, 1), (8, 2)])
    await scribe.commit(connection)
    chunks = list(engine_snapshots.encode(engine_snapshots.capture(scribe.state)))
    assert await snapshots.write(connection, 0, OWNER, 1, scribe.state.head, engine_snapshots.SNAPSHOT_FORMAT, chunks)
    stored = await snapshots.newest(connection, 0)
    assert stored is not None
    loading = engine_snapshots.load(stored.body)
    state = None
    while state is None:
        try:
            next(loading)
        except StopIteration as done:
            state = done.value
    assert b"".join(engine_snapshots.encode(engine_snapshots.capture(state))) == b"".join(chunks)


async def test_a_stale_owner_writes_no_snapshot(connecting: Any) -> None:
    """After a steal the old owner's snapshot does not count, and its parts are swept up by the new owner's."""
    old, new = await connecting(OWNER), await connecting(RIVAL)
    await own(old, [0])
    await ownership.steal(new, 0, RIVAL, ADDRESS, 1)
    assert not await snapshots.write(old, 0, OWNER, 1, 5, 2, [b"stale"])
    assert await snapshots.newest(new, 0) is None
    assert await snapshots.write(new, 0, RIVAL, 2, 5, 2, [b"fresh"])
    assert await snapshots.newest(new, 0) == (5, 2, 2, b"fresh")
    assert await new.fetchval("SELECT array_agg(epoch) FROM betting.snapshot_parts") == [2]


async def test_the_last_three_are_kept(connection: asyncpg.Connection) -> None:
    """Older ones go, with their parts."""
    await own(connection, [0, 1])
    for sequence in (10, 20, 30, 40, 50):
        assert await snapshots.write(connection, 0, OWNER, 1, sequence, 2, [b"s%d" % sequence])
    assert await snapshots.write(connection, 1, OWNER, 1, 7, 2, [b"other"])
    assert [stored.sequence async for stored in snapshots.newest_first(connection, 0)] == [50, 40, 30]
    parts = "SELECT array_agg(sequence ORDER BY sequence) FROM betting.snapshot_parts WHERE shard = 0"
    assert await connection.fetchval(parts) == [30, 40, 50]
    assert [stored.sequence async for stored in snapshots.newest_first(connection, 1)] == [7]


async def test_writing_the_same_snapshot_twice_is_one(connection: asyncpg.Connection) -> None:
    """A repeat after a lost answer is a success and changes nothing."""
    await own(connection, [0])
    assert await snapshots.write(connection, 0, OWNER, 1, 10, 2, [b"one"])
    assert await snapshots.write(connection, 0, OWNER, 1, 10, 2, [b"one"])
    assert [stored.body async for stored in snapshots.newest_first(connection, 0)] == [b"one"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE betting.snapshot_parts SET body = set_byte(body, 3, 0) WHERE sequence = 20",
        "UPDATE betting.snapshot_parts SET body = substr(body, 1, 5) WHERE sequence = 20",
        "DELETE FROM betting.snapshot_parts WHERE sequence = 20",
        "UPDATE betting.snapshots SET sha256 = sha256(sha256) WHERE sequence = 20",
    ],
)
async def test_a_damaged_snapshot_falls_back(connection: asyncpg.Connection, damage: str) -> None:
    """A wrong byte, a cut part, a missing part, a wrong sum: the one before is used, then none."""
    await own(connection, [0])
    for sequence in (10, 20):
        assert await snapshots.write(connection, 0, OWNER, 1, sequence, 2, [b"snapshot %d" % sequence])
    await connection.execute(damage)
    assert await snapshots.newest(connection, 0) == (10, 1, 2, b"snapshot 10")
    await connection.execute(damage.replace("20", "10"))
    assert await snapshots.newest(connection, 0) is None
