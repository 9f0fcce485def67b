"""Reading the journal of one shard."""

from __future__ import annotations

import asyncpg

from betting.engine.entries import Entry

_HEAD = "SELECT coalesce(max(sequence), 0) FROM betting.journal WHERE shard = $1"

_ENTRIES = """
SELECT sequence, kind, format, at_us, account, bet, request_key, market,
    cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body
FROM betting.journal
WHERE shard = $1 AND sequence > $2
ORDER BY sequence
LIMIT $3
"""


async def head(connection: asyncpg.Connection, shard: int) -> int:
    """The sequence of the last committed entry; 0 when there is none."""
    sequence: int = await connection.fetchval(_HEAD, shard)
    return sequence


async def read_entries(connection: asyncpg.Connection, shard: int, after: int, limit: int) -> list[Entry]:
    """At most `limit` entries after this sequence, ascending and without gaps."""
    rows = await connection.fetch(_ENTRIES, shard, after, limit)
    return [Entry._make(row) for row in rows]
