"""SQL of odds-service (schema `odds`): current quotes, their history, and producers. Writes are fenced by the lease."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from betting.odds.board import KEEP_CLOSED_US, KEEP_FINAL_US, MARKETS_MAX, BoardUpdate
from betting.odds.quotes import FINAL, LIVE, Producer, Quote, SelectionPrice
from betting.runtime.postgres import translated

# The lease of which every write names the term (election.py).
LEASE = "odds-service"
# A database that does not answer for so long is taken for away.
WRITE_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 15.0
PRUNED_ROWS_MAX = 10_000

# One statement: a process whose term is over writes nothing at all.
_WRITE = """
WITH fence AS (SELECT term FROM odds.leases WHERE name = 'odds-service' AND term = $1 FOR SHARE),
given AS (
    SELECT * FROM unnest(
        $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[], $9::text[],
        $10::boolean[]
    ) AS g (market_id, event_id, status, version, closes_at_us, prices, changed_at_us, producer_id, stale), fence
),
kept AS (
    INSERT INTO odds.history
        (market_id, event_id, status, version, closes_at_us, prices, changed_at_us, producer_id, stale)
    SELECT market_id, event_id, status, version, closes_at_us, prices::jsonb, changed_at_us, producer_id, stale
    FROM given
),
stored AS (
    INSERT INTO odds.current
        (market_id, event_id, status, version, closes_at_us, prices, changed_at_us, producer_id, stale)
    SELECT market_id, event_id, status, version, closes_at_us, prices::jsonb, changed_at_us, producer_id, stale
    FROM given
    ON CONFLICT (market_id) DO UPDATE
    SET status = excluded.status, version = excluded.version, closes_at_us = excluded.closes_at_us,
        prices = excluded.prices, changed_at_us = excluded.changed_at_us, stale = excluded.stale
),
producers AS (
    INSERT INTO odds.producers (producer_id, name, status, last_alive_at_us, term)
    SELECT p.* FROM unnest($11::text[], $12::text[], $13::smallint[], $14::bigint[], $15::bigint[]) AS p, fence
    ON CONFLICT (producer_id) DO UPDATE
    SET name = excluded.name, status = excluded.status, last_alive_at_us = excluded.last_alive_at_us,
        term = excluded.term
)
SELECT count(*) FROM fence"""

_BEAT = """
WITH fence AS (
    UPDATE odds.leases SET beat_at = clock_timestamp() WHERE name = 'odds-service' AND term = $1 RETURNING term
),
alive AS (
    UPDATE odds.producers p SET last_alive_at_us = a.at_us
    FROM unnest($2::text[], $3::bigint[]) AS a (producer_id, at_us), fence
    WHERE p.producer_id = a.producer_id AND p.last_alive_at_us < a.at_us
)
SELECT count(*) FROM fence"""

# Newest first, should there ever be more than fit.
_LOAD = """
SELECT * FROM odds.current
WHERE status = ANY($1::smallint[])
    OR changed_at_us > CASE WHEN status = ANY($2::smallint[]) THEN $3::bigint ELSE $4::bigint END
ORDER BY changed_at_us DESC LIMIT $5"""

_HISTORY = """
SELECT * FROM odds.history WHERE market_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3"""

_PRUNE = """
DELETE FROM odds.history WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM odds.history h JOIN odds.current c USING (market_id)
    WHERE h.changed_at_us < $1 AND h.version < c.version LIMIT $2))"""


class Written(enum.Enum):
    """The result of a write."""

    DONE = enum.auto()
    # Another process is active now; nothing was written.
    FENCED = enum.auto()


class Store:
    """Every method is one statement and raises ServiceError; an error of a write leaves open whether it took effect."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def write(self, term: int, plan: BoardUpdate) -> Written:
        """Stores a plan, whole or not at all."""
        columns = zip(*map(_values, plan.quotes), strict=True) if plan.quotes else ([] for _ in range(9))
        producers = [(p.producer_id, p.name, p.status, p.last_alive_at_us, p.term) for p in plan.producers]
        of_producers = zip(*producers, strict=True) if producers else ([] for _ in range(5))
        async with translated():
            arguments = [list(column) for column in (*columns, *of_producers)]
            found = await self._pool.fetchval(_WRITE, term, *arguments, timeout=WRITE_TIMEOUT_S)
        return Written.DONE if found else Written.FENCED

    async def beat(self, term: int, producers: Sequence[Producer], timeout_s: float) -> Written:
        """Writes the heartbeat of the holder of this term, and when its producers were last heard."""
        ids = [producer.producer_id for producer in producers]
        times = [producer.last_alive_at_us for producer in producers]
        async with translated():
            found = await self._pool.fetchval(_BEAT, term, ids, times, timeout=timeout_s)
        return Written.DONE if found else Written.FENCED

    async def load(self, now_us: int) -> tuple[list[Quote], list[Producer]]:
        """Quotes worth keeping in memory, and all producers: each wants a snapshot from us."""
        keep = (list(LIVE), list(FINAL), now_us - KEEP_FINAL_US, now_us - KEEP_CLOSED_US, MARKETS_MAX)
        async with translated():
            quotes = await self._pool.fetch(_LOAD, *keep, timeout=LOAD_TIMEOUT_S)
            producers = await self._pool.fetch("SELECT * FROM odds.producers", timeout=WRITE_TIMEOUT_S)
        return [_quote(row) for row in quotes], [_producer(row) for row in producers]

    async def quotes(self, market_ids: Iterable[int]) -> list[Quote]:
        """The current quotes of these markets, as far as there are any."""
        async with translated():
            query = "SELECT * FROM odds.current WHERE market_id = ANY($1::bigint[])"
            return [_quote(row) for row in await self._pool.fetch(query, list(market_ids))]

    async def priced(self, changed_since_us: int) -> list[int]:
        """The ids of markets that have, or had, a price and changed since then; the newest, should they be too many."""
        query = "SELECT market_id FROM odds.current WHERE changed_at_us >= $1 ORDER BY changed_at_us DESC LIMIT $2"
        async with translated():
            found = await self._pool.fetch(query, changed_since_us, MARKETS_MAX, timeout=LOAD_TIMEOUT_S)
        return [row[0] for row in found]

    async def history(self, market_id: int, before_version: int, limit: int) -> list[Quote]:
        """Versions of a market below one, newest first."""
        async with translated():
            return [_quote(row) for row in await self._pool.fetch(_HISTORY, market_id, before_version, limit)]

    async def prune(self, before_us: int) -> int:
        """Deletes versions made before a time, except each market's current one; at most `PRUNED_ROWS_MAX`."""
        async with translated():
            tag = await self._pool.execute(_PRUNE, before_us, PRUNED_ROWS_MAX)
        return int(tag.rpartition(" ")[2])


def _producer(row: Mapping[str, Any]) -> Producer:
    return Producer(
        row["producer_id"], row["name"], row["status"], row["last_alive_at_us"], wants_snapshot=True, term=row["term"]
    )


def _values(quote: Quote) -> tuple[object, ...]:
    return (
        quote.market_id,
        quote.event_id,
        quote.status,
        quote.version,
        quote.closes_at_us,
        json.dumps(quote.prices, separators=(",", ":")),
        quote.changed_at_us,
        quote.producer_id,
        quote.stale,
    )


def _quote(row: Mapping[str, Any]) -> Quote:
    return Quote(
        market_id=row["market_id"],
        event_id=row["event_id"],
        status=row["status"],
        version=row["version"],
        closes_at_us=row["closes_at_us"],
        prices=tuple(SelectionPrice(*price) for price in json.loads(row["prices"])),
        changed_at_us=row["changed_at_us"],
        producer_id=row["producer_id"],
        stale=row["stale"],
    )
