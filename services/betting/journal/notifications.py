"""The table of notifications. Everything read or changed through a user id is that user's own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import asyncpg

# In one statement with the reader's position: what comes again, or from a process that lost its claim, is not added a
# second time, also when its user has deleted it meanwhile.
_ADD = """
WITH reader AS (
    UPDATE betting.consumer_positions SET sequence = greatest(sequence, $12)
    WHERE consumer = $9 AND claimed_by = $10 AND shard = $11
    RETURNING old.sequence AS before
), added AS (
    INSERT INTO betting.notifications
        (account, sequence, kind, bet, stake_minor, amount_minor, amount_before_minor, at_us)
    SELECT n.* FROM unnest(
        $1::uuid[], $2::bigint[], $3::smallint[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]
    ) AS n (account, sequence, kind, bet, stake_minor, amount_minor, amount_before_minor, at_us), reader
    WHERE n.sequence > reader.before
    ON CONFLICT DO NOTHING
    RETURNING sequence
)
SELECT before, (SELECT count(*) FROM added) FROM reader
"""
_OF_USER = "(SELECT account FROM betting.accounts WHERE user_id = $1)"
_PAGE = """
SELECT n.sequence, n.kind, a.currency, n.amount_minor, n.stake_minor, n.amount_before_minor, n.bet, n.at_us, n.read
FROM betting.accounts a
CROSS JOIN LATERAL (
    SELECT * FROM betting.notifications
    WHERE account = a.account AND sequence < $2 AND (NOT $4 OR NOT read)
    ORDER BY sequence DESC LIMIT $3
) n
WHERE a.user_id = $1
ORDER BY n.sequence DESC LIMIT $3
"""
_UNREAD = f"SELECT count(*) FROM betting.notifications WHERE account IN {_OF_USER} AND NOT read"  # noqa: S608
_MARK = f"""
UPDATE betting.notifications SET read = true
WHERE account IN {_OF_USER} AND NOT read AND (sequence = ANY($2::bigint[]) OR sequence <= $3)
"""  # noqa: S608
_DELETE = f"""
DELETE FROM betting.notifications WHERE account IN {_OF_USER} AND sequence = ANY($2::bigint[])
"""  # noqa: S608
_TRIM = """
DELETE FROM betting.notifications n
USING (
    SELECT a.account, (
        SELECT sequence FROM betting.notifications WHERE account = a.account
        ORDER BY sequence DESC OFFSET $2 LIMIT 1
    ) AS upto
    FROM unnest($1::uuid[]) AS a (account)
) old
WHERE n.account = old.account AND n.sequence <= old.upto
"""


class Row(NamedTuple):
    """A notification as it is read; `sequence` is its public id."""

    sequence: int
    kind: int
    currency: str
    amount_minor: int
    stake_minor: int
    amount_before_minor: int
    bet: bytes | None
    at_us: int
    read: bool


async def add(
    pool: asyncpg.Pool, rows: Sequence[tuple[object, ...]], consumer: str, member: str, shard: int, upto: int
) -> int | None:
    """Those of these rows that were never added, with the reader's position moved to `upto`; how many.

    Rows: account, sequence, kind, bet, stake_minor, amount_minor, amount_before_minor, at_us; at least one. None, and
    nothing is written: this member does not hold the consumer's claim on the shard.
    """
    columns = (list(column) for column in zip(*rows, strict=True))
    row = await pool.fetchrow(_ADD, *columns, consumer, member, shard, upto)
    return None if row is None else int(row[1])


async def page(pool: asyncpg.Pool, user: bytes, before: int, limit: int, *, unread_only: bool) -> list[Row]:
    """At most `limit` of a user's, newest first, with a sequence below `before`."""
    return [Row._make(row) for row in await pool.fetch(_PAGE, user, before, limit, unread_only)]


async def unread(pool: asyncpg.Pool, user: bytes) -> int:
    """The number of unread notifications of the user."""
    count: int = await pool.fetchval(_UNREAD, user)
    return count


async def mark_read(pool: asyncpg.Pool, user: bytes, ids: Collection[int], up_to: int) -> int:
    """Marks these, and all up to a sequence, as read; returns how many were unread."""
    return _count(await pool.execute(_MARK, user, list(ids), up_to))


async def delete(pool: asyncpg.Pool, user: bytes, ids: Collection[int]) -> int:
    """Deletes these; returns how many there were."""
    return _count(await pool.execute(_DELETE, user, list(ids)))


async def trim(pool: asyncpg.Pool, accounts: Collection[bytes], keep: int) -> int:
    """Deletes all but the newest `keep` of each of these accounts; returns how many were deleted."""
    return _count(await pool.execute(_TRIM, list(accounts), keep))


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])  # "DELETE 12"
