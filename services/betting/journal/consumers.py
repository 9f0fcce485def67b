"""Who follows the journal: how far each consumer has come, and which process reads which shard for it.

A position only rises. Several processes of one consumer share its shards, each about as many: a process says every few
seconds that it lives, and holds a fair share of the shards. What a dead one held is claimed by the others once it was
not heard of for a lease. A process that was frozen for longer, and goes on, has lost its claims without knowing:
whoever handles entries must write what they lead to only if the claim still holds (`claimed_by`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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

_PROGRESS = """
SELECT p.name, p.shard, p.sequence, coalesce(head.sequence, 0) AS head, p.holder
FROM (
    SELECT 'projector' AS name, shard, sequence, coalesce(owner, '') AS holder
    FROM betting.projector JOIN betting.shards ON shard_id = shard
    UNION ALL SELECT consumer, shard, sequence, '' FROM betting.consumer_positions
) p
LEFT JOIN LATERAL (SELECT max(sequence) AS sequence FROM betting.journal WHERE shard = p.shard) head ON true
"""

_ALL_HEADS = """
SELECT s.shard_id, coalesce((SELECT max(j.sequence) FROM betting.journal j WHERE j.shard = s.shard_id), 0)
FROM betting.shards s
"""
_ALL_LOWEST = "SELECT shard, min(sequence) FROM betting.consumer_positions GROUP BY shard"


class ConsumerRow(NamedTuple):
    """The projector or a consumer on one shard. head: of the journal; holder: the life that owns the shard, or ""."""

    name: str
    shard: int
    sequence: int
    head: int
    holder: str


async def load(pool: asyncpg.Pool, consumer: str, shards: Sequence[int]) -> dict[int, int]:
    """The last sequence this consumer has handled, for those of these shards that it has seen."""
    rows = await pool.fetch(
        "SELECT shard, sequence FROM betting.consumer_positions WHERE consumer = $1 AND shard = ANY ($2::int[])",
        consumer,
        list(shards),
    )
    return {row[0]: row[1] for row in rows}


async def save(pool: asyncpg.Pool, consumer: str, moved: Mapping[int, int]) -> None:
    """Stores these positions; a stored position never decreases."""
    await pool.execute(_SAVE, consumer, list(moved), list(moved.values()))


async def lowest(pool: asyncpg.Pool, shard: int) -> int | None:
    """The position of the consumer that is furthest behind on this shard; None when nobody consumes it."""
    sequence: int | None = await pool.fetchval(
        "SELECT min(sequence) FROM betting.consumer_positions WHERE shard = $1", shard
    )
    return sequence


async def all_heads(connection: asyncpg.Connection) -> dict[int, int]:
    """The last committed sequence of every shard; 0 when it has none."""
    return {row[0]: row[1] for row in await connection.fetch(_ALL_HEADS)}


async def all_lowest(connection: asyncpg.Connection) -> dict[int, int]:
    """`lowest` of every shard that somebody consumes."""
    return {row[0]: row[1] for row in await connection.fetch(_ALL_LOWEST)}


async def progress(connection: asyncpg.Connection) -> list[ConsumerRow]:
    """The projector and every consumer, on every shard."""
    return [ConsumerRow._make(row) for row in await connection.fetch(_PROGRESS)]


LEASE_S = 6.0
RENEW_INTERVAL_S = 2.0

_SEEN = """
INSERT INTO betting.consumer_members VALUES ($1, $2, clock_timestamp())
ON CONFLICT (consumer, member) DO UPDATE SET seen_at = clock_timestamp()"""

_LIVING = """
SELECT count(*) FROM betting.consumer_members
WHERE consumer = $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)"""

# What an earlier life of this process held: it is over, or fenced off by losing its claims.
_INHERIT = """
UPDATE betting.consumer_positions SET claimed_by = NULL
WHERE consumer = $1 AND claimed_by <> $2 AND split_part(claimed_by, '@', 1) = split_part($2, '@', 1)"""
_BURY = """
DELETE FROM betting.consumer_members
WHERE consumer = $1 AND member <> $2 AND split_part(member, '@', 1) = split_part($2, '@', 1)"""

_FORGET = """
DELETE FROM betting.consumer_members
WHERE consumer = $1 AND seen_at < clock_timestamp() - make_interval(secs => 100 * $2::float)"""

_MINE = """
SELECT shard, sequence FROM betting.consumer_positions
WHERE consumer = $1 AND claimed_by = $2 AND shard = ANY ($3::int[]) ORDER BY shard"""

_RELEASE = """
UPDATE betting.consumer_positions SET claimed_by = NULL
WHERE consumer = $1 AND claimed_by = $2 AND shard = ANY ($3::int[])"""

_CLAIM = """
UPDATE betting.consumer_positions p SET claimed_by = $2
FROM (
    SELECT shard FROM betting.consumer_positions free
    WHERE consumer = $1 AND shard = ANY ($3::int[]) AND NOT EXISTS (
        SELECT FROM betting.consumer_members m
        WHERE m.consumer = $1 AND m.member = free.claimed_by
            AND m.seen_at > clock_timestamp() - make_interval(secs => $4)
    )
    ORDER BY shard LIMIT $5 FOR UPDATE SKIP LOCKED
) free
WHERE p.consumer = $1 AND p.shard = free.shard
RETURNING p.shard, p.sequence"""


class ClaimLost(Exception):
    """Another process reads this shard now: discard what was read here."""


class Claims:
    """The claims of one process. `member`: instance name, @, boot id."""

    def __init__(self, pool: asyncpg.Pool, consumer: str, member: str, shards: Sequence[int]) -> None:
        self.consumer = consumer
        self.member = member
        self._pool = pool
        self._shards = list(shards)
        self._is_new = True

    async def renew(self) -> dict[int, int]:
        """Renews the membership of this process. Returns the shards it holds now, with the position to continue from.

        Shards above its share are given up, so save positions first. Raises the driver's errors; then nothing has
        changed.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")  # a lost claim is only claimed again
            if self._is_new:
                await connection.execute(_INHERIT, self.consumer, self.member)
                await connection.execute(_BURY, self.consumer, self.member)
            await connection.execute(_SEEN, self.consumer, self.member)
            living = await connection.fetchval(_LIVING, self.consumer, LEASE_S)
            share = -(-len(self._shards) // living)
            rows = await connection.fetch(_MINE, self.consumer, self.member, self._shards)
            held = {row[0]: row[1] for row in rows}
            if excess := list(held)[share:]:
                await connection.execute(_RELEASE, self.consumer, self.member, excess)
                return {shard: held[shard] for shard in list(held)[:share]}
            if len(held) < share:
                room = share - len(held)
                rows = await connection.fetch(_CLAIM, self.consumer, self.member, self._shards, LEASE_S, room)
                held |= {row[0]: row[1] for row in rows}
                await connection.execute(_FORGET, self.consumer, LEASE_S)
        self._is_new = False
        return held

    async def release(self) -> None:
        """Gives up all claims, so that other processes may read at once."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_RELEASE, self.consumer, self.member, self._shards)
            gone = "DELETE FROM betting.consumer_members WHERE consumer = $1 AND member = $2"
            await connection.execute(gone, self.consumer, self.member)
