"""Queries on what the projector derived: it may lag behind the journal by the projector's lag."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import asyncpg

OPEN = 1
SETTLED = 2


class BetRow(NamedTuple):
    """A bet. payout_minor and what follows: None while it is open. `record`: see betting.engine.records."""

    bet: bytes
    account: bytes
    request_key: bytes
    shard: int
    status: int
    policy: int
    settlements: int
    placed_sequence: int
    placed_at_us: int
    stake_minor: int
    potential_payout_minor: int
    payout_minor: int | None
    settled_sequence: int | None
    settled_at_us: int | None
    record: bytes


class TransactionRow(NamedTuple):
    """A movement of an account's cash or receivable. kind: betting.engine.entries.Kind."""

    sequence: int
    kind: int
    cash_minor: int
    receivable_minor: int
    bet: bytes | None
    at_us: int


class ColdRow(NamedTuple):
    """A settled bet, as settling again needs it."""

    bet: bytes
    record: bytes
    settlements: int
    payout_minor: int
    status: int


class VersionTotals(NamedTuple):
    """Bets a market version settled on a shard, counted one by one. closed_sequence: None while it is under way."""

    bets: int
    payout_minor: int
    closed_sequence: int | None


_BETS = """
SELECT bet, account, request_key, shard, status, policy, settlements, placed_sequence, placed_at_us, stake_minor,
    potential_payout_minor, payout_minor, settled_sequence, settled_at_us, record
FROM betting.bets WHERE bet = ANY($1::uuid[])
"""

# A settlement counts while it is the bet's last word: a corrected bet moves to its correction's place.
_SETTLED = """
SELECT b.bet, b.account, b.request_key, b.shard, b.status, b.policy, b.settlements, b.placed_sequence, b.placed_at_us,
    b.stake_minor, b.potential_payout_minor, b.payout_minor, b.settled_sequence, b.settled_at_us, b.record
FROM betting.bet_settlements s
JOIN betting.bets b ON b.bet = s.bet AND b.settled_sequence = s.sequence
WHERE s.account = $1 AND s.sequence < $2
ORDER BY s.sequence DESC
LIMIT $3
"""

_COLD = """
SELECT l.bet, b.record, b.settlements, b.payout_minor, b.status
FROM betting.bet_legs l
JOIN betting.bets b ON b.bet = l.bet
WHERE l.market = $2 AND l.shard = $1 AND l.bet > $4 AND b.status = 2 AND b.settled_sequence < $3
ORDER BY l.bet
LIMIT $5
"""

_TRANSACTIONS = """
SELECT sequence, kind, cash_minor, receivable_minor, bet, at_us
FROM betting.ledger WHERE account = $1 AND sequence < $2
ORDER BY sequence DESC
LIMIT $3
"""

_TOTALS = """
SELECT bets, payout_minor, sequence FROM betting.market_settlements WHERE shard = $1 AND market = $2 AND version = $3
"""

# Keyset pages start "before" a sequence; the first page before this one.
FIRST_PAGE = 2**63 - 1


async def watermark(connection: asyncpg.Connection, shard: int) -> int:
    """Entries up to this sequence are in the read models."""
    sequence: int | None = await connection.fetchval("SELECT sequence FROM betting.projector WHERE shard = $1", shard)
    return sequence or 0


async def bets_by_id(connection: asyncpg.Connection, bets: Collection[bytes]) -> dict[bytes, BetRow]:
    """Those of these bets that are known here, open or settled, by id."""
    return {row[0]: BetRow._make(row) for row in await connection.fetch(_BETS, list(bets))}


async def count_bets(connection: asyncpg.Connection | asyncpg.Pool, *, timeout_s: float | None = None) -> int:
    """All bets that were ever placed. Reads the whole index: seconds for many millions."""
    count: int = await connection.fetchval("SELECT count(*) FROM betting.bets", timeout=timeout_s)
    return count


async def settled_bets(
    connection: asyncpg.Connection | asyncpg.Pool,
    account: bytes,
    limit: int,
    before_sequence: int = FIRST_PAGE,
    *,
    timeout_s: float | None = None,
) -> list[BetRow]:
    """An account's settled bets, last settled first. The next page is before the last row's `settled_sequence`."""
    rows = await connection.fetch(_SETTLED, account, before_sequence, limit, timeout=timeout_s)
    return [BetRow._make(row) for row in rows]


async def transactions(
    connection: asyncpg.Connection, account: bytes, limit: int, before_sequence: int = FIRST_PAGE
) -> list[TransactionRow]:
    """An account's movements, newest first. The next page is before the last row's `sequence`."""
    rows = await connection.fetch(_TRANSACTIONS, account, before_sequence, limit)
    return [TransactionRow._make(row) for row in rows]


async def cold_bets(
    connection: asyncpg.Connection, shard: int, market: int, before_sequence: int, after_bet: bytes, limit: int
) -> list[ColdRow]:
    """Bets with a leg on this market that stand settled by an entry before `before_sequence`, by id, after `after_bet`.

    Whole once `watermark` has reached `before_sequence`. The first page is after 16 zero bytes.
    """
    rows = await connection.fetch(_COLD, shard, market, before_sequence, after_bet, limit)
    return [ColdRow._make(row) for row in rows]


async def version_totals(connection: asyncpg.Connection, shard: int, market: int, version: int) -> VersionTotals:
    """What a market version settled on a shard."""
    row = await connection.fetchrow(_TOTALS, shard, market, version)
    return VersionTotals(0, 0, None) if row is None else VersionTotals._make(row)
