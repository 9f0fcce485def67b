"""Which of a consumer's shards are this process' to read: several processes share them, each about as many.

A process says every few seconds that it lives, and holds a fair share of the shards. What a dead one held is claimed by
the others once it was not heard of for a lease. A process that was frozen for longer, and goes on, has lost its claims
without knowing: whoever handles entries must write what they lead to only if the claim still holds (`claimed_by`).
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

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
    """Another process reads this shard by now: what was read of it here leads to nothing."""


class Claims:
    """The claims of one process. `member`: instance name, @, boot id."""

    def __init__(self, pool: asyncpg.Pool, consumer: str, member: str, shards: Sequence[int]) -> None:
        self.consumer = consumer
        self.member = member
        self._pool = pool
        self._shards = list(shards)
        self._is_new = True

    async def renew(self) -> dict[int, int]:
        """Says that this process lives; the shards it holds now, with the position to go on from.

        Gives up what is over its share, so save positions first. Raises the driver's errors: it holds what it held.
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
        """Others may read at once what this process read."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_RELEASE, self.consumer, self.member, self._shards)
            gone = "DELETE FROM betting.consumer_members WHERE consumer = $1 AND member = $2"
            await connection.execute(gone, self.consumer, self.member)
