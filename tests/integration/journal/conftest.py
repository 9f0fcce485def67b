"""A database with four shards and connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from scribe import OWNER

from betting.journal import install, partitions
from betting.journal.connection import connect
from betting.runtime.clock import now_us

SHARDS = 4

Connect = Callable[..., Awaitable[asyncpg.Connection]]


@pytest.fixture
async def installed(database: Any) -> str:
    """The DSN of a fresh database with four free shards."""
    connection = await connect(database.dsn, "installer")
    await install.initialise(connection, SHARDS)
    await partitions.maintain_partitions(connection, now_us())
    await connection.close()
    return str(database.dsn)


@pytest.fixture
async def connecting(installed: str) -> AsyncIterator[Connect]:
    """Opens prepared connections, by application name; all are closed in the end."""
    opened: list[asyncpg.Connection] = []

    async def open_one(name: str = OWNER, dsn: str = installed) -> asyncpg.Connection:
        connection = await connect(dsn, name)
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def connection(connecting: Connect) -> asyncpg.Connection:
    """One prepared connection, named like the owner of `scribe`."""
    return await connecting()
