"""Turns entries into rows of the read models. The work itself is in SQL: migrations/0005.projection.sql."""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

# More in one go saves little and makes other shards wait.
MAX_ENTRIES = 5_000


class Projected(NamedTuple):
    """Entries after `from_sequence` up to `to_sequence` are in the read models now; `lag_entries` are left."""

    from_sequence: int
    to_sequence: int
    lag_entries: int


async def project(connection: asyncpg.Connection, shard: int, limit: int = MAX_ENTRIES) -> Projected | None:
    """Takes the read models of a shard at most `limit` entries further, all or nothing.

    None: another projector is at it, or there is no such shard. Raises asyncpg.PostgresError.
    """
    row = await connection.fetchrow("SELECT * FROM betting.project($1, $2)", shard, limit)
    if row is None:
        return None
    return Projected(row[0], row[1], row[2] - row[1])


async def lags(connection: asyncpg.Connection) -> dict[int, int]:
    """Entries of each shard that are not in the read models yet."""
    rows = await connection.fetch(
        """
        SELECT p.shard, coalesce(head.sequence, 0) - p.sequence
        FROM betting.projector p
        LEFT JOIN LATERAL (SELECT max(sequence) AS sequence FROM betting.journal WHERE shard = p.shard) head ON true
        """
    )
    return {row[0]: row[1] for row in rows}
