"""Turns entries into rows of the read models. The work itself is in SQL: migrations/0130.projection_of_groups.sql."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import asyncpg

# More in one go saves little and makes other shards wait.
MAX_ENTRIES = 5_000
# A statement costs about as much for all of these as for one, and locks them for others meanwhile.
GROUP_SHARDS_MAX = 256

# What the entries of a shard themselves cause: data (22), integrity (23), a limit of the row (54), a gap in the journal
# (P0), a damaged page (XX). Everything else (disk full, read-only, shutting down) concerns all shards alike.
_CAUSED_BY_ENTRIES = ("22", "23", "54", "P0", "XX")


class Projected(NamedTuple):
    """Entries after `from_sequence` up to `to_sequence` are in the read models now; `lag_entries` are left."""

    from_sequence: int
    to_sequence: int
    lag_entries: int


async def project_group(
    connection: asyncpg.Connection, shards: Collection[int], limit: int = MAX_ENTRIES
) -> dict[int, Projected]:
    """Takes the read models of these shards at most `limit` entries further in all, all or nothing.

    Each shard gets a fair share of the limit. Not in the answer: shards that another projector is at, or that there are
    not. Raises asyncpg.PostgresError; see `caused_by_entries`.
    """
    rows = await connection.fetch("SELECT * FROM betting.project_group($1, $2)", list(shards), limit)
    return {row[0]: Projected(row[1], row[2], row[3] - row[2]) for row in rows}


async def project(connection: asyncpg.Connection, shard: int, limit: int = MAX_ENTRIES) -> Projected | None:
    """`project_group` of one shard. None: another projector is at it, or there is no such shard."""
    return (await project_group(connection, [shard], limit)).get(shard)


def caused_by_entries(problem: Exception) -> bool:
    """Whether entries of one of the shards are the reason, so that the others can be projected without that shard."""
    return isinstance(problem, asyncpg.PostgresError) and str(problem.sqlstate).startswith(_CAUSED_BY_ENTRIES)


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
