"""Fills the journal as months of betting would, so that indexes have their real depth."""

from __future__ import annotations

import asyncpg

# Shards nobody owns: the rows share tables and indexes with the measured ones, and are never replayed.
FIRST_SHARD = 1_000_000
SHARDS = 16
CHUNK = 250_000

_JOURNAL = """
INSERT INTO betting.journal
SELECT $1::int + n % $2, $3::bigint + n / $2, 10, 1, 1795000000000000 + n,
       uuidv7(), uuidv7(), uuidv7('-1 day'::interval), NULL, -500, 500, 0, 0, 0, decode(repeat('5a', 97), 'hex')
FROM generate_series(0, $4::bigint - 1) AS n
"""

_REQUESTS = """
INSERT INTO betting.requests (request_key, shard, sequence, account)
SELECT request_key, shard, sequence, account FROM betting.journal
WHERE shard BETWEEN $1 AND $1::int + $2 - 1 AND sequence >= $3
"""


async def preload(connection: asyncpg.Connection, entries: int) -> None:
    """Adds this many entries with their request keys."""
    done = 0
    while done < entries:
        first = 1 + done // SHARDS
        size = min(CHUNK, entries - done)
        await connection.execute(_JOURNAL, FIRST_SHARD, SHARDS, first, size, timeout=600)
        await connection.execute(_REQUESTS, FIRST_SHARD, SHARDS, first, timeout=600)
        done += size
    await connection.execute("VACUUM ANALYZE betting.journal", timeout=600)
