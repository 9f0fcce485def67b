"""A journal with three shards owned by a scribe each, a pool, and a Redis client that gives up quickly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from scribe import OWNER, Scribe, own

from betting.journal import install
from betting.journal.connection import connect, prepare
from betting.runtime.clock import now_us
from betting.runtime.redis import open_client

SHARDS = 3


class Journal:
    """Makes committed entries: deposits, one user per shard."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.scribes = [Scribe(shard, now_us()) for shard in range(SHARDS)]

    async def write(self, shard: int, deposits: int) -> list[Any]:
        """Commits this many deposits; returns their entries."""
        for _ in range(deposits):
            self.scribes[shard].deposit(bytes([shard + 1]) * 16, 1)
        return await self.scribes[shard].commit(self.connection)

    def head(self, shard: int) -> int:
        """The last sequence committed."""
        return self.scribes[shard].state.head


@pytest.fixture
async def journal(database: Any) -> AsyncIterator[Journal]:
    """Three shards that are owned and empty."""
    connection = await connect(database.dsn, OWNER)
    await install.initialise(connection, SHARDS)
    await own(connection, range(SHARDS))
    yield Journal(connection)
    await connection.close()


@pytest.fixture
async def pool(journal: Journal, database: Any) -> AsyncIterator[asyncpg.Pool]:
    """Prepared connections."""
    async with asyncpg.create_pool(database.dsn, init=prepare, min_size=1, max_size=4) as opened:
        yield opened


@pytest.fixture
async def redis_client(valkey: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """The product's own client."""
    client = open_client(valkey.url, "test")
    yield client
    await client.aclose()
