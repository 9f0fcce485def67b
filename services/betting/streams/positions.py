"""How far each consumer has come, in Postgres. A position only rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

# A position that is lost means entries delivered again: not worth waiting for the disk.
_SAVE = """
WITH cheap AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS applied)
INSERT INTO betting.consumer_positions AS p (consumer, shard, sequence)
SELECT $1, moved.shard, moved.sequence
FROM unnest($2::int[], $3::bigint[]) AS moved (shard, sequence), cheap
ORDER BY moved.shard
ON CONFLICT (consumer, shard) DO UPDATE SET sequence = EXCLUDED.sequence WHERE p.sequence < EXCLUDED.sequence
"""


async def load(pool: asyncpg.Pool, consumer: str, shards: Sequence[int]) -> dict[int, int]:
    """The last sequence this consumer has handled, for those of these shards that it has seen."""
    rows = await pool.fetch(
        "SELECT shard, sequence FROM betting.consumer_positions WHERE consumer = $1 AND shard = ANY ($2::int[])",
        consumer,
        list(shards),
    )
    return {row[0]: row[1] for row in rows}


async def save(pool: asyncpg.Pool, consumer: str, moved: Mapping[int, int]) -> None:
    """Keeps these positions; never moves one back."""
    await pool.execute(_SAVE, consumer, list(moved), list(moved.values()))


async def lowest(pool: asyncpg.Pool, shard: int) -> int | None:
    """The position of the consumer that is furthest behind on this shard; None when nobody consumes it."""
    sequence: int | None = await pool.fetchval(
        "SELECT min(sequence) FROM betting.consumer_positions WHERE shard = $1", shard
    )
    return sequence


async def heads(pool: asyncpg.Pool, shards: Sequence[int]) -> dict[int, int]:
    """The last committed sequence of each of these shards."""
    rows = await pool.fetch(
        """
        SELECT wanted.shard, coalesce(head.sequence, 0)
        FROM unnest($1::int[]) AS wanted (shard)
        CROSS JOIN LATERAL (SELECT max(sequence) AS sequence FROM betting.journal WHERE shard = wanted.shard) head
        """,
        list(shards),
    )
    return {row[0]: row[1] for row in rows}
