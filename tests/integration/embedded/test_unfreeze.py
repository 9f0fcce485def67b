"""A person's way out for a shard that stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from betting.cli import main
from betting.supervision.errors import PlatformError


def unfreeze(*arguments: str) -> Any:
    """Runs `betting unfreeze`."""
    words = ["unfreeze", *arguments]
    return CliRunner().invoke(main.build(words), words)


async def test_a_frozen_shard_is_free_again_and_the_reason_is_told(database: Any) -> None:
    """Once: the second time there is nothing to do, and that is said."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(
        "INSERT INTO betting.shards (shard_id, owner, address, state, reason) "
        "VALUES (3, 'a@1', 'a:1', 'frozen', 'a gap')"
    )
    done = await _in_thread("3", "--dsn", database.dsn)
    assert (done.exit_code, "a gap" in done.output) == (0, True)
    row = await connection.fetchrow("SELECT owner, state, reason FROM betting.shards WHERE shard_id = 3")
    assert tuple(row) == (None, "free", "")
    await connection.close()
    again = await _in_thread("3", "--dsn", database.dsn)
    assert isinstance(again.exception, PlatformError)
    assert "neither frozen nor quarantined" in str(again.exception)


async def test_several_shards_are_unfrozen_together(database: Any) -> None:
    """Those named, all or none, or whatever is stopped."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(
        "INSERT INTO betting.shards (shard_id, owner, address, state, reason) VALUES (0, NULL, NULL, 'free', ''), "
        "(1, 'a@1', 'a:1', 'frozen', 'a gap'), (2, NULL, NULL, 'quarantined', 'it kills'), "
        "(3, 'a@1', 'a:1', 'frozen', 'an entry')"
    )

    async def stopped() -> list[int]:
        rows = await connection.fetch("SELECT shard_id FROM betting.shards WHERE state <> 'free' ORDER BY 1")
        return [row["shard_id"] for row in rows]

    one_is_free = await _in_thread("1", "0", "--dsn", database.dsn)
    assert "Shard 0 is free" in str(one_is_free.exception)
    assert await stopped() == [1, 2, 3]
    done = await _in_thread("1", "2", "--dsn", database.dsn)
    assert done.exit_code == 0
    assert ["a gap" in done.output, "it kills" in done.output] == [True, True]
    assert await stopped() == [3]
    assert (await _in_thread("--all", "--dsn", database.dsn)).exit_code == 0
    assert await stopped() == []
    for nonsense in ((), ("1", "--all")):
        said = await _in_thread(*nonsense, "--dsn", database.dsn)
        assert "Name the shards to unfreeze, or give --all" in str(said.exception)
    nothing = await _in_thread("--all", "--dsn", database.dsn)
    assert "No shard is frozen" in str(nothing.exception)
    await connection.close()


@pytest.mark.parametrize("shard", ["99"])
async def test_a_shard_that_is_not_there_is_named(database: Any, shard: str) -> None:
    """Nothing is done."""
    done = await _in_thread(shard, "--dsn", database.dsn)
    assert f"There is no shard {shard}" in str(done.exception)


async def _in_thread(*arguments: str) -> Any:

    return await asyncio.to_thread(unfreeze, *arguments)
