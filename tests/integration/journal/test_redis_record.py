"""The record of the Redis primary: moved from what it said, under the healer's term, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from betting.journal import healing_switch, placements, redis_record
from betting.journal.redis_record import Row

FIRST = Row("valkey-1", "a", 1, "steady")
FENCING = FIRST._replace(phase="fencing")
PROMOTING = FIRST._replace(phase="promoting", candidate="valkey-2", candidate_boot_id="b")
SECOND = Row("valkey-2", "b", 2, "steady")


@pytest.fixture
async def connection(database: Any) -> AsyncIterator[asyncpg.Connection]:
    """A platform that has just started."""
    opened = await asyncpg.connect(database.dsn)
    await redis_record.begin(opened, "valkey-1", "a")
    yield opened
    await opened.close()


async def said(connection: asyncpg.Connection) -> Row:
    """What the record says."""
    found = await redis_record.read(connection)
    assert found is not None
    return found[0]


async def test_a_healer_moves_it_step_by_step(connection: asyncpg.Connection) -> None:
    """Each step from what the last one left, and its age begins anew."""
    term = await placements.begin_term(connection)
    for expected, to in ((FIRST, FENCING), (FENCING, PROMOTING), (PROMOTING, SECOND)):
        assert await redis_record.move(connection, term, expected, to)
        found = await redis_record.read(connection)
        assert found is not None
        assert found[0] == to
        assert 0 <= found[1] < 60


@pytest.mark.parametrize("field", Row._fields)
async def test_a_move_from_something_else_changes_nothing(connection: asyncpg.Connection, field: str) -> None:
    """Whatever differs: somebody has moved it since."""
    term = await placements.begin_term(connection)
    assert await redis_record.move(connection, term, FIRST, PROMOTING)
    wrong = {"epoch": 7, "min_replicas": 7, "phase": "steady"}
    other = PROMOTING._replace(**{field: wrong.get(field, "other")})
    assert not await redis_record.move(connection, term, other, SECOND)
    assert not await redis_record.take(connection, other, SECOND)
    assert await said(connection) == PROMOTING


async def test_an_older_healer_moves_nothing(connection: asyncpg.Connection) -> None:
    """It was paused, another has begun."""
    old = await placements.begin_term(connection)
    await placements.begin_term(connection)
    with pytest.raises(placements.StaleTerm):
        await redis_record.move(connection, old, FIRST, FENCING)
    assert await said(connection) == FIRST


async def test_the_supervisor_moves_it_only_where_nobody_may_fail_over(connection: asyncpg.Connection) -> None:
    """No healer yet, one that beats, one that is paused, one in a dry run, one that has not beaten for a while."""
    again = Row("valkey-1", "c", 2, "steady")
    assert await redis_record.unhealed(connection)
    assert await redis_record.take(connection, FIRST, again)
    await placements.begin_term(connection)
    assert not await redis_record.unhealed(connection)
    assert not await redis_record.take(connection, again, SECOND)
    await healing_switch.pause(connection, "network work")
    assert await redis_record.take(connection, again, SECOND)
    await healing_switch.resume(connection)
    assert not await redis_record.unhealed(connection)
    await healing_switch.set_dry_run(connection, True)
    assert await redis_record.unhealed(connection)
    await healing_switch.set_dry_run(connection, False)
    await connection.execute("UPDATE betting.healer_beat SET beat_at = beat_at - interval '11 s'")
    assert await redis_record.take(connection, SECOND, again)


async def test_a_new_start_names_a_new_life_at_the_next_epoch(connection: asyncpg.Connection) -> None:
    """Wherever a failover had come to: everything earlier is over."""
    term = await placements.begin_term(connection)
    assert await redis_record.move(connection, term, FIRST, PROMOTING)
    await redis_record.begin(connection, "valkey-1", "c")
    assert await said(connection) == Row("valkey-1", "c", 2, "steady")


async def test_a_healer_begins_it_once(database: Any) -> None:
    """The first healer to do so: another term's, or the same one's again, changes nothing; an older one is refused."""
    opened = await asyncpg.connect(database.dsn)
    try:
        old = await placements.begin_term(opened)
        term = await placements.begin_term(opened)
        with pytest.raises(placements.StaleTerm):
            await redis_record.name_first(opened, old, FIRST)
        assert await redis_record.read(opened) is None
        first = FIRST._replace(min_replicas=1)
        assert await redis_record.name_first(opened, term, first)
        assert await said(opened) == first
        assert not await redis_record.name_first(opened, term, SECOND)
        assert await said(opened) == first
    finally:
        await opened.close()


async def test_what_a_primary_is_configured_for_is_known_of_the_life_that_was_asked(
    connection: asyncpg.Connection,
) -> None:
    """It stays through the steps of a failover. A release that does not know of it names another life, of which nothing
    is known then; so does a new start."""
    term = await placements.begin_term(connection)
    waits = FIRST._replace(min_replicas=1)
    assert await redis_record.move(connection, term, FIRST, waits)
    assert await redis_record.move(connection, term, waits, waits._replace(phase="fencing"))
    assert (await said(connection)).min_replicas == 1
    await connection.execute(
        "UPDATE betting.redis_record SET primary_node = 'valkey-2', boot_id = 'b', phase = 'steady'"
    )
    assert (await said(connection)).min_replicas == 0
    assert await redis_record.move(connection, term, await said(connection), SECOND._replace(min_replicas=1))
    await redis_record.begin(connection, "valkey-2", "b")
    assert (await said(connection)).min_replicas == 0
