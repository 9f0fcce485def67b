"""What only fault injection does to the journal: hold appends up, and leave an entry that nobody can read."""

from __future__ import annotations

import asyncpg

_WAITING_APPEND = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND application_name = left($1, 63) AND query LIKE '%betting.journal%'
)
"""
_APPEND = """
INSERT INTO betting.journal (
    shard, sequence, kind, format, at_us, account, cash_minor, stakes_minor, house_minor, clearing_minor,
    receivable_minor, body
)
SELECT $1, coalesce(max(sequence), 0) + 1, $2, $3, coalesce(max(at_us), 1), $4, 0, 0, 0, 0, 0, $5
FROM betting.journal WHERE shard = $1
"""
_CHANGE_FORMAT = "UPDATE betting.journal SET format = $2 WHERE shard = $1 AND format = $3"


async def hold_up_appends(connection: asyncpg.Connection) -> None:
    """Nobody appends until this connection's transaction ends. Raises the driver's errors."""
    await connection.execute("LOCK TABLE betting.journal IN SHARE MODE")


async def append_waits(connection: asyncpg.Connection, life: str) -> bool:
    """Whether a statement of this life on the journal waits for a lock."""
    return bool(await connection.fetchval(_WAITING_APPEND, life))


async def append(
    connection: asyncpg.Connection, shard: int, kind: int, format_number: int, account: bytes, body: bytes
) -> None:
    """Appends an entry that moves no money behind the owner's back.

    Raises asyncpg.UniqueViolationError when the owner appended in the same moment: try again.
    """
    await connection.execute(_APPEND, shard, kind, format_number, account, body)


async def change_format(connection: asyncpg.Connection, shard: int, from_number: int, to_number: int) -> None:
    """Renumbers the format of a shard's entries, as an upgrade would make them readable.

    Only a superuser of the database can: the journal is append-only for everybody else.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_CHANGE_FORMAT, shard, to_number, from_number)
