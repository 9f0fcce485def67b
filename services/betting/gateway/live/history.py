"""What a shard's journal says of one bet, for those who were away: found through the read models, and their tail."""

from __future__ import annotations

import asyncpg

from betting.engine.entries import Entry
from betting.runtime import postgres

TIMEOUT_S = 3.0
# The read models know where a bet's entries are; behind them, there is nothing for it but to look.
_KNOWN = """
SELECT p.sequence AS upto, b.placed_sequence, coalesce((
    SELECT array_agg(s.sequence) FROM betting.bet_settlements s
    WHERE s.account = b.account AND s.sequence > $3 AND s.bet = b.bet
), '{}') AS settled
FROM betting.projector p LEFT JOIN betting.bets b ON b.bet = $2 AND b.shard = p.shard
WHERE p.shard = $1
"""
_ENTRIES = """
SELECT sequence, kind, format, at_us, account, bet, request_key, market,
    cash_minor, stakes_minor, house_minor, clearing_minor, receivable_minor, body
FROM betting.journal
WHERE shard = $1 AND (sequence = ANY ($2::bigint[]) OR (sequence > $3 AND sequence <= $4 AND bet = $5))
ORDER BY sequence
"""


async def entries_of(pool: asyncpg.Pool, shard: int, bet: bytes, after: int, upto: int) -> list[Entry]:
    """A bet's entries after one sequence, up to another, ascending. pool: prepared. Raises ServiceError."""
    async with postgres.translated(), pool.acquire(timeout=TIMEOUT_S) as connection:
        known = await connection.fetchrow(_KNOWN, shard, bet, after, timeout=TIMEOUT_S)
        derived, places = 0, []
        if known is not None:
            derived = known["upto"]
            places = [each for each in (known["placed_sequence"], *known["settled"]) if each is not None]
        wanted = [place for place in places if after < place <= min(derived, upto)]
        rows = await connection.fetch(_ENTRIES, shard, wanted, max(after, derived), upto, bet, timeout=TIMEOUT_S)
    return [Entry._make(row) for row in rows]
