"""Settlements and their progress per shard, in Postgres: what a crash must not forget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import asyncpg

from betting.runtime import errors
from betting.runtime.postgres import translated

PENDING, RUNNING, DONE, STOPPED = 1, 2, 3, 4


class ShardDone(NamedTuple):
    """One shard's totals; payouts in minor units."""

    shard_id: int
    settled_bets: int
    payout_minor: int


class SettlementRow(NamedTuple):
    """One version of one market."""

    market_id: int
    version: int
    event_id: int
    outcomes: dict[int, int]
    status: int
    voids: bool
    shards_total: int
    requested_at_us: int
    finished_at_us: int
    problem: str
    shards: tuple[ShardDone, ...]


class Wanted(NamedTuple):
    """A settlement to be recorded."""

    market_id: int
    version: int
    event_id: int
    outcomes: Mapping[int, int]
    voids: bool


_SELECT = """
SELECT s.*, coalesce(jsonb_agg(jsonb_build_array(d.shard_id, d.settled_bets, d.payout_minor) ORDER BY d.shard_id)
                     FILTER (WHERE d.shard_id IS NOT NULL), '[]') AS shards
FROM settlement.settlements s LEFT JOIN settlement.shards_done d USING (market_id, version)
WHERE {where} GROUP BY s.market_id, s.version {tail}
"""


class SettlementStore:
    """Raises ServiceError for what Postgres cannot do."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def record(self, wanted: list[Wanted], shards_total: int, now_us: int) -> None:
        """Records all of them or none. Repeating a version with the same outcomes changes nothing.

        Raises FAILED_PRECONDITION when a version has other outcomes already, or is not the next one.
        """
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            for one in sorted(wanted):
                await self._record(connection, one, shards_total, now_us)

    async def _record(self, connection: asyncpg.Connection, one: Wanted, shards_total: int, now_us: int) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement', $1))", one.market_id)
        rows = await connection.fetch(
            "SELECT version, outcomes, status FROM settlement.settlements WHERE market_id = $1 ORDER BY version",
            one.market_id,
        )
        known = {row["version"]: row for row in rows}
        if one.version in known:
            if _outcomes(known[one.version]["outcomes"]) != dict(one.outcomes):
                raise errors.failed_precondition(
                    "VERSION_TAKEN",
                    f"market {one.market_id} version {one.version} has another result: correct it with version "
                    f"{len(known) + 1}",
                )
            return
        if one.version != len(known) + 1:
            raise errors.failed_precondition(
                "VERSION_NOT_NEXT", f"market {one.market_id} is at version {len(known)}: the next is {len(known) + 1}"
            )
        if known and known[len(known)]["status"] != DONE:
            raise errors.failed_precondition(
                "VERSION_UNFINISHED", f"market {one.market_id} version {len(known)} has not finished: wait for it"
            )
        await connection.execute(
            "INSERT INTO settlement.settlements (market_id, version, event_id, outcomes, status, voids, shards_total,"
            " requested_at_us) VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8)",
            one.market_id,
            one.version,
            one.event_id,
            json.dumps({str(key): value for key, value in one.outcomes.items()}),
            PENDING,
            one.voids,
            shards_total,
            now_us,
        )

    async def get(self, market_id: int, version: int) -> SettlementRow:
        """Version 0 is the latest. Raises NOT_FOUND."""
        where = "s.market_id = $1 AND ($2 = 0 OR s.version = $2)"
        async with translated(), self._pool.acquire() as connection:
            row = await connection.fetchrow(
                _SELECT.format(where=where, tail="ORDER BY s.version DESC LIMIT 1"), market_id, version
            )
        if row is None:
            of = f" of version {version}" if version else ""
            raise errors.not_found(
                "SETTLEMENT_NOT_FOUND",
                f"market {market_id} has no settlement{of}: give 0 for the latest version there is, or settle it first",
            )
        return _row(row)

    async def unfinished(self, after: tuple[int, int, int], limit: int) -> list[SettlementRow]:
        """Not done on every shard, oldest first; `after` is (requested at, market, version) of the last one seen."""
        where = "s.status <> 3 AND (s.requested_at_us, s.market_id, s.version) > ($1, $2, $3)"
        tail = "ORDER BY s.requested_at_us, s.market_id, s.version LIMIT $4"
        async with translated(), self._pool.acquire() as connection:
            rows = await connection.fetch(_SELECT.format(where=where, tail=tail), *after, limit)
        return [_row(row) for row in rows]

    async def shard_done(self, market_id: int, version: int, done: ShardDone) -> None:
        async with translated(), self._pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO settlement.shards_done VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                market_id,
                version,
                *done,
            )

    async def set_status(self, market_id: int, version: int, status: int, problem: str = "", at_us: int = 0) -> None:
        """`at_us`: when it finished; 0 when it has not."""
        async with translated(), self._pool.acquire() as connection:
            await connection.execute(
                "UPDATE settlement.settlements SET status = $3, problem = $4, finished_at_us = nullif($5::bigint, 0)"
                " WHERE market_id = $1 AND version = $2 AND status <> 3",
                market_id,
                version,
                status,
                problem,
                at_us,
            )


def _outcomes(text: str) -> dict[int, int]:
    return {int(key): int(value) for key, value in json.loads(text).items()}


def _row(row: asyncpg.Record) -> SettlementRow:
    return SettlementRow(
        row["market_id"],
        row["version"],
        row["event_id"],
        _outcomes(row["outcomes"]),
        row["status"],
        row["voids"],
        row["shards_total"],
        row["requested_at_us"],
        row["finished_at_us"] or 0,
        row["problem"],
        tuple(ShardDone(*shard) for shard in json.loads(row["shards"])),
    )
