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


@pytest.mark.parametrize("shard", ["99"])
async def test_a_shard_that_is_not_there_is_named(database: Any, shard: str) -> None:
    """Nothing is done."""
    done = await _in_thread(shard, "--dsn", database.dsn)
    assert f"There is no shard {shard}" in str(done.exception)


async def _in_thread(*arguments: str) -> Any:

    return await asyncio.to_thread(unfreeze, *arguments)
