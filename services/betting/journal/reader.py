"""Reading the journal of one shard."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from betting.engine.entries import Entry

_HEAD = "SELECT coalesce(max(sequence), 0) FROM betting.journal WHERE shard = $1"

_HEADS = """
SELECT wanted.shard, coalesce(last.sequence, 0)
FROM unnest($1::int[]) AS wanted (shard)
CROSS JOIN LATERAL (SELECT max(sequence) AS sequence FROM betting.journal WHERE shard = wanted.shard) last
"""

_ENTRIES = """
SELECT sequence, kind, format, at_us, account, bet, request_key, market,
    cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body
FROM betting.journal
WHERE shard = $1 AND sequence > $2
ORDER BY sequence
LIMIT $3
"""

_TAILS = """
SELECT wanted.shard, tail.*
FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS wanted (shard, after, upto)
CROSS JOIN LATERAL (
    SELECT sequence, kind, format, at_us, account, bet, request_key, market,
        cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body
    FROM betting.journal
    WHERE shard = wanted.shard AND sequence > wanted.after AND sequence <= wanted.upto
    ORDER BY sequence
) tail
"""

# The read models know where a bet's entries are; behind them, there is nothing for it but to look.
_KNOWN = """
SELECT p.sequence AS upto, b.placed_sequence, coalesce((
    SELECT array_agg(s.sequence) FROM betting.bet_settlements s
    WHERE s.account = b.account AND s.sequence > $3 AND s.bet = b.bet
), '{}') AS settled
FROM betting.projector p LEFT JOIN betting.bets b ON b.bet = $2 AND b.shard = p.shard
WHERE p.shard = $1
"""
_OF_BET = """
SELECT sequence, kind, format, at_us, account, bet, request_key, market,
    cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body
FROM betting.journal
WHERE shard = $1 AND (sequence = ANY ($2::bigint[]) OR (sequence > $3 AND sequence <= $4 AND bet = $5))
ORDER BY sequence
"""


async def head(connection: asyncpg.Connection, shard: int) -> int:
    """The sequence of the last committed entry; 0 when there is none."""
    sequence: int = await connection.fetchval(_HEAD, shard)
    return sequence


async def heads(connection: asyncpg.Connection | asyncpg.Pool, shards: Sequence[int]) -> dict[int, int]:
    """`head` of each of these shards."""
    return dict(await connection.fetch(_HEADS, list(shards)))


async def read_tails(connection: asyncpg.Connection, parts: Sequence[tuple[int, int, int]]) -> dict[int, list[Entry]]:
    """Of several shards, in one statement: all entries after one sequence, up to another. parts: shard, after, upto."""
    tails: dict[int, list[Entry]] = {shard: [] for shard, _after, _upto in parts}
    if parts:
        for row in await connection.fetch(_TAILS, *(list(column) for column in zip(*parts, strict=True))):
            tails[row[0]].append(Entry._make(row[1:]))
    return tails


async def read_entries(connection: asyncpg.Connection, shard: int, after: int, limit: int) -> list[Entry]:
    """At most `limit` entries after this sequence, ascending and without gaps."""
    rows = await connection.fetch(_ENTRIES, shard, after, limit)
    return [Entry._make(row) for row in rows]


async def entries_of_bet(
    connection: asyncpg.Connection, shard: int, bet: bytes, after: int, upto: int, *, timeout_s: float
) -> list[Entry]:
    """A bet's entries after one sequence, up to another, ascending. timeout_s: of each of its two statements."""
    known = await connection.fetchrow(_KNOWN, shard, bet, after, timeout=timeout_s)
    derived, places = 0, []
    if known is not None:
        derived = known["upto"]
        places = [each for each in (known["placed_sequence"], *known["settled"]) if each is not None]
    wanted = [place for place in places if after < place <= min(derived, upto)]
    rows = await connection.fetch(_OF_BET, shard, wanted, max(after, derived), upto, bet, timeout=timeout_s)
    return [Entry._make(row) for row in rows]


async def count_of_kind(connection: asyncpg.Connection, kind: int) -> int:
    """How many entries of this kind there are, over all shards. Reads the whole journal: for drills and benchmarks."""
    count: int = await connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = $1", kind)
    return count
