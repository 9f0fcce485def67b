"""SQL of odds-service (schema `odds`): current quotes, their history, producers, and which process may write them."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from betting.odds.board import KEEP_CLOSED_US, KEEP_FINAL_US, MARKETS_MAX, Plan
from betting.odds.quotes import FINAL, LIVE, Producer, Quote, SelectionPrice
from betting.runtime.postgres import translated

# A database that does not answer for so long is taken for away.
WRITE_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 15.0
PRUNED_ROWS_MAX = 10_000

_TAKE = """
INSERT INTO odds.writer (epoch, process, beat_at) VALUES (1, $1, now())
ON CONFLICT (only_row) DO UPDATE SET epoch = writer.epoch + 1, process = excluded.process, beat_at = now()
RETURNING epoch"""

_RETAKE = """
UPDATE odds.writer SET epoch = epoch + 1, beat_at = now() WHERE epoch = $1 RETURNING epoch"""

_TAKE_OVER = """
UPDATE odds.writer SET epoch = epoch + 1, process = $1, beat_at = now()
WHERE beat_at < now() - make_interval(secs => $2) RETURNING epoch"""

# One statement: a process that is not the writer any more writes nothing at all.
_WRITE = """
WITH fence AS (SELECT epoch FROM odds.writer WHERE epoch = $1 FOR SHARE),
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
    INSERT INTO odds.producers (producer_id, name, status, last_alive_at_us)
    SELECT p.* FROM unnest($11::text[], $12::text[], $13::smallint[], $14::bigint[]) AS p, fence
    ON CONFLICT (producer_id) DO UPDATE
    SET name = excluded.name, status = excluded.status, last_alive_at_us = excluded.last_alive_at_us
)
SELECT count(*) FROM fence"""

_BEAT = """
WITH fence AS (UPDATE odds.writer SET beat_at = now() WHERE epoch = $1 RETURNING epoch),
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
    """What became of a write."""

    DONE = enum.auto()
    # Another process is the writer now; nothing was written.
    FENCED = enum.auto()


class Store:
    """Every method is one statement and raises ServiceError; an error of a write leaves open whether it took effect."""

    def __init__(self, pool: asyncpg.Pool, process: str) -> None:
        self._pool = pool
        self._process = process

    async def take(self) -> int:
        """Becomes the writer, whoever was it; the new epoch. Waits for a write under way."""
        async with translated():
            return int(await self._pool.fetchval(_TAKE, self._process))

    async def retake(self, epoch: int) -> int | None:
        """A new epoch if `epoch` still is the writer's, so that a write of unknown outcome is over; None: fenced."""
        async with translated():
            found = await self._pool.fetchval(_RETAKE, epoch, timeout=WRITE_TIMEOUT_S)
        return None if found is None else int(found)

    async def take_over(self, silent_for_s: float) -> int | None:
        """Becomes the writer if the present one has not beaten for so long; else None."""
        async with translated():
            found = await self._pool.fetchval(_TAKE_OVER, self._process, silent_for_s, timeout=WRITE_TIMEOUT_S)
        return None if found is None else int(found)

    async def write(self, epoch: int, plan: Plan) -> Written:
        """Stores a plan, whole or not at all."""
        columns = zip(*map(_values, plan.quotes), strict=True) if plan.quotes else ([] for _ in range(9))
        producers = [(p.producer_id, p.name, p.status, p.last_alive_at_us) for p in plan.producers]
        of_producers = zip(*producers, strict=True) if producers else ([] for _ in range(4))
        async with translated():
            arguments = [list(column) for column in (*columns, *of_producers)]
            found = await self._pool.fetchval(_WRITE, epoch, *arguments, timeout=WRITE_TIMEOUT_S)
        return Written.DONE if found else Written.FENCED

    async def beat(self, epoch: int, producers: Sequence[Producer], timeout_s: float) -> Written:
        """Says that the writer lives, and when its producers were last heard."""
        ids = [producer.producer_id for producer in producers]
        times = [producer.last_alive_at_us for producer in producers]
        async with translated():
            found = await self._pool.fetchval(_BEAT, epoch, ids, times, timeout=timeout_s)
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
    return Producer(row["producer_id"], row["name"], row["status"], row["last_alive_at_us"], wants_snapshot=True)


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
