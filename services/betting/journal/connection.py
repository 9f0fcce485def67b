"""Connections as the journal's functions expect them: uuid columns take and give 16 bytes."""

from __future__ import annotations

import asyncpg

# What a statement can raise when Postgres or the way to it fails. InternalClientError: asyncpg, when the server ends a
# session in the very moment a statement begins (seen).
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# A transaction left open by a client that hangs ends by itself.
IDLE_IN_TRANSACTION_TIMEOUT = "5s"


async def prepare(connection: asyncpg.Connection) -> None:
    """For `asyncpg.create_pool(init=...)`: UUIDs are `bytes` of length 16."""
    await connection.set_type_codec("uuid", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)


async def connect(dsn: str, application_name: str, *, timeout_s: float = 5.0) -> asyncpg.Connection:
    """A prepared connection. The name is how a steal finds the connections of a dead owner: pass the instance.

    Raises DRIVER_ERRORS.
    """
    connection = await asyncpg.connect(
        dsn,
        timeout=timeout_s,
        # asyncpg forgets prepared statements after five minutes by default; ours are few and hot.
        max_cached_statement_lifetime=0,
        server_settings={
            "application_name": application_name,
            "jit": "off",
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
        },
    )
    await prepare(connection)
    return connection
