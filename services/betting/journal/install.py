"""What is fixed when the platform is installed: the number of shards, and the id of the installation."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

_log = structlog.get_logger(component=__name__)

INSTALLED_POLL_S = 0.5
# As BETTING_SHARD_COUNT of the services has it.
DEFAULT_SHARDS = 16


class AlreadyInstalled(Exception):
    """The database was installed with another number of shards; it cannot change, users would move between shards."""


async def initialise(connection: asyncpg.Connection, shard_count: int) -> int:
    """Creates the shards unless they are there. Returns how many were created. Raises AlreadyInstalled, ValueError."""
    if shard_count < 1:
        raise ValueError(f"shard_count must be at least 1, not {shard_count}")
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO betting.install (shard_count) VALUES ($1) ON CONFLICT DO NOTHING", shard_count
        )
        installed = await connection.fetchval("SELECT shard_count FROM betting.install")
        if installed != shard_count:
            raise AlreadyInstalled(
                f"this database has {installed} shards, not {shard_count}, and their number cannot change"
            )
        created = await connection.fetch(
            """
            INSERT INTO betting.shards (shard_id) SELECT generate_series(0, $1::int - 1)
            ON CONFLICT DO NOTHING RETURNING shard_id
            """,
            shard_count,
        )
        await connection.execute(
            "INSERT INTO betting.projector (shard) SELECT generate_series(0, $1::int - 1) ON CONFLICT DO NOTHING",
            shard_count,
        )
    return len(created)


async def when_installed(connection: asyncpg.Connection) -> int:
    """The installed number of shards, once there is one; says in the log that it waits. Raises what asyncpg raises."""
    logged = False
    while (count := await shard_count(connection)) is None:
        if not logged:
            _log.warning("waiting for the shards to be created: run `betting migrate`")
            logged = True
        await asyncio.sleep(INSTALLED_POLL_S)
    return count


async def installation(connection: asyncpg.Connection) -> str:
    """The id of the installation; "" before `initialise`, and before the migration that gives it one. Raises what
    asyncpg raises."""
    found = await connection.fetchval("SELECT to_jsonb(install) ->> 'installation' FROM betting.install")
    return found or ""


async def shard_count(connection: asyncpg.Connection | asyncpg.Pool, *, timeout_s: float | None = None) -> int | None:
    """The installed number of shards; None before `initialise`."""
    count: int | None = await connection.fetchval("SELECT shard_count FROM betting.install", timeout=timeout_s)
    return count
