"""The books of one shard since the last look: cheap enough to be asked all the time, of a database at work.

Not the audit, which derives everything from the beginning. This takes the newest entries that the read models hold,
and the accounts they touch, in one statement and so in one snapshot: amounts are those that the bodies name, the
balance that a user was told is the balance, nobody's cash or stakes run below zero, no entry is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

# Of more than that since the last look the newest are taken.
MAX_ENTRIES = 2_000

_LOOK = """
WITH mark AS (
    SELECT sequence AS upto, greatest($2::bigint, sequence - $3::bigint) AS after
    FROM betting.projector WHERE shard = $1
), entry AS MATERIALIZED (
    SELECT j.sequence, j.kind, j.account, j.cash_minor, j.stakes_minor, j.clearing_minor, j.receivable_minor, j.body
    FROM mark, betting.journal j
    WHERE j.shard = $1 AND j.sequence > mark.after AND j.sequence <= mark.upto AND format = 1
), posting AS (
    SELECT
        e.*,
        b.cash_minor - coalesce(sum(e.cash_minor) OVER later, 0) AS cash,
        b.open_stakes_minor - coalesce(sum(e.stakes_minor) OVER later, 0) AS stakes,
        b.receivable_minor - coalesce(sum(e.receivable_minor) OVER later, 0) AS receivable
    FROM entry e JOIN betting.balances b ON b.account = e.account
    WHERE e.kind IN (2, 3, 10, 21, 23, 24)
    WINDOW later AS (PARTITION BY e.account ORDER BY e.sequence ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
), problem AS (
    SELECT 1 AS rank, sequence, 'its amount is not the one it names' AS text FROM entry
    WHERE (kind = 2 AND (cash_minor + receivable_minor, -clearing_minor) <> (int8_at(body, 16), int8_at(body, 16)))
        OR (kind = 3 AND (-cash_minor, clearing_minor) <> (int8_at(body, 16), int8_at(body, 16)))
        OR (kind = 10 AND (-cash_minor, stakes_minor) <> (int8_at(body, 16), int8_at(body, 16)))
        OR (kind = 21 AND cash_minor + receivable_minor <> int8_at(body, 6))
    UNION ALL
    SELECT 4, sequence, 'the balance it told is not the balance' FROM posting
    WHERE kind IN (2, 3) AND (cash, stakes, receivable) <> (int8_at(body, 24), int8_at(body, 32), int8_at(body, 40))
    UNION ALL
    SELECT 3, sequence, 'an account is below zero after it' FROM posting WHERE cash < 0 OR stakes < 0 OR receivable > 0
    UNION ALL
    SELECT 2, upto, 'entries before it are missing' FROM mark
    WHERE upto - after <> (
        SELECT count(*) FROM betting.journal j WHERE j.shard = $1 AND j.sequence > after AND j.sequence <= upto
    )
)
SELECT mark.upto, (SELECT count(*) FROM problem) AS problems, first.sequence, first.text
FROM mark LEFT JOIN (SELECT sequence, text FROM problem ORDER BY rank, sequence LIMIT 1) first ON true
""".replace("int8_at", "betting.int8_at")

_POSITIONS = "SELECT shard, sequence FROM betting.projector"


class Books(NamedTuple):
    """Looked at up to this sequence. problem: what is wrong, for a person; "" if nothing is."""

    upto: int
    problem: str


async def positions(connection: asyncpg.Connection) -> dict[int, int]:
    """Up to which sequence the read models of each shard hold its journal. Raises asyncpg.PostgresError."""
    return {row[0]: row[1] for row in await connection.fetch(_POSITIONS)}


async def look(connection: asyncpg.Connection, shard: int, after: int) -> Books:
    """The entries after this sequence that the read models hold. Raises asyncpg.PostgresError."""
    row = await connection.fetchrow(_LOOK, shard, after, MAX_ENTRIES)
    if row is None:
        return Books(after, "")
    upto, problems, sequence, text = row
    return Books(upto, f"entry {sequence}: {text} ({problems} in all)" if problems else "")
