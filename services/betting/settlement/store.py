"""Settlements, their progress per shard, and the claims on them, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import asyncpg

from betting.runtime import errors
from betting.runtime.errors import ServiceError
from betting.runtime.postgres import translated
from betting.settlement import requests
from betting.settlement.requests import RecordedVersion, RefusedResult, RequestedSettlement

PENDING, RUNNING, DONE, STOPPED = 1, 2, 3, 4
WAITING_MAX = 500


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


class WaitingRow(NamedTuple):
    """A market that waits for an operator; see betting.v1.WaitingMarket."""

    market_id: int
    event_id: int
    version: int
    outcomes: dict[int, int]
    problem: str
    since_us: int


class EventRecorded(NamedTuple):
    """What became of an event's markets: (market, version) of those taken over; `news` did not wait before."""

    taken: list[tuple[int, int]]
    refused: list[RefusedResult]
    news: list[RefusedResult]


_SELECT = """
SELECT s.*, coalesce(jsonb_agg(jsonb_build_array(d.shard_id, d.settled_bets, d.payout_minor) ORDER BY d.shard_id)
                     FILTER (WHERE d.shard_id IS NOT NULL), '[]') AS shards
FROM settlement.settlements s LEFT JOIN settlement.shards_done d USING (market_id, version)
WHERE {where} GROUP BY s.market_id, s.version {tail}
"""

_INSERT = """
INSERT INTO settlement.settlements
    (market_id, version, event_id, outcomes, status, voids, shards_total, requested_at_us)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8)"""

# The same result again is no news: it waits already, or a person has decided it.
_REFUSE = """
INSERT INTO settlement.refused_results AS r (market_id, event_id, version, outcomes, problem, since_us)
VALUES ($1, $2, $3, $4::jsonb, $5, $6)
ON CONFLICT (market_id) DO UPDATE
SET event_id = excluded.event_id, version = excluded.version, outcomes = excluded.outcomes, problem = excluded.problem,
    since_us = excluded.since_us, decided_at_us = NULL
WHERE (r.version, r.outcomes) <> (excluded.version, excluded.outcomes)
RETURNING true"""

_DECIDED = """
UPDATE settlement.refused_results SET decided_at_us = $2 WHERE market_id = $1 AND decided_at_us IS NULL"""

# What nobody carries, or whoever did has not said so for a lease. Those that were never tried come first.
_CLAIM = """
UPDATE settlement.settlements s
SET status = $4, claimed_by = $1, due_at = clock_timestamp() + make_interval(secs => $2)
FROM (
    SELECT market_id, version FROM settlement.settlements
    WHERE status IN (1, 2) AND due_at <= clock_timestamp()
    ORDER BY due_at, requested_at_us, market_id, version LIMIT $3 FOR UPDATE SKIP LOCKED
) due
WHERE s.market_id = due.market_id AND s.version = due.version
RETURNING s.market_id, s.version"""

_RENEW = """
UPDATE settlement.settlements s SET due_at = clock_timestamp() + make_interval(secs => $2)
FROM unnest($3::bigint[], $4::int[]) AS carried (market_id, version)
WHERE s.market_id = carried.market_id AND s.version = carried.version AND claimed_by = $1 AND status IN (1, 2)"""

# Status, problem and when it finished, by who carries it; whoever lost the claim changes nothing.
_LEAVE = """
UPDATE settlement.settlements
SET status = $4, problem = $5, finished_at_us = nullif($6::bigint, 0), claimed_by = NULL,
    due_at = clock_timestamp() + make_interval(secs => $7)
WHERE market_id = $2 AND version = $3 AND claimed_by = $1 AND status IN (1, 2)
RETURNING old.problem <> $5 AS is_news"""


class SettlementStore:
    """Raises ServiceError for errors of Postgres. `process`: instance and boot id of the claimant."""

    def __init__(self, pool: asyncpg.Pool, process: str) -> None:
        self._pool = pool
        self._process = process

    async def record(self, wanted: RequestedSettlement, shards_total: int, now_us: int) -> None:
        """Records one settlement. Repeating a version with the same outcomes confirms it.

        Raises FAILED_PRECONDITION when the version has other outcomes already, or is not the next one.
        """
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            known = await _known(connection, wanted.market_id)
            if requests.recorded_as(known, wanted) is None:
                await _insert(connection, wanted, shards_total, now_us)
            await connection.execute(_DECIDED, wanted.market_id, now_us)

    async def record_event(
        self,
        results: Sequence[RequestedSettlement | RefusedResult],
        shards_total: int,
        now_us: int,
        *,
        abandoned: bool,
        must_take: bool,
    ) -> EventRecorded:
        """Records an event's settlements, each market for itself, in one transaction; the rest waits for a person.

        abandoned: only what is settled already stands. must_take: raises FAILED_PRECONDITION of the first market when
        nothing is taken over; then nothing waits either.
        """
        recorded = EventRecorded([], [], [])
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            for one in sorted(results, key=lambda each: each.market_id):  # one order for all: no deadlock
                known = await _known(connection, one.market_id)
                answer = _judge(known, one, abandoned=abandoned)
                if isinstance(answer, RefusedResult):
                    recorded.refused.append(answer)
                    continue
                if answer == 0:
                    assert isinstance(one, RequestedSettlement)
                    await _insert(connection, one, shards_total, now_us)
                await connection.execute(_DECIDED, one.market_id, now_us)
                recorded.taken.append((one.market_id, answer or one.version))
            if must_take and recorded.refused and not recorded.taken:
                raise recorded.refused[0].why
            for refused in recorded.refused:
                if await _refuse(connection, refused, now_us):
                    recorded.news.append(refused)
        return recorded

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
        """Settlements that are not done on every shard, oldest first.

        after: (requested at, market, version) of the last one of the previous page.
        """
        where = "s.status <> 3 AND (s.requested_at_us, s.market_id, s.version) > ($1, $2, $3)"
        tail = "ORDER BY s.requested_at_us, s.market_id, s.version LIMIT $4"
        async with translated(), self._pool.acquire() as connection:
            rows = await connection.fetch(_SELECT.format(where=where, tail=tail), *after, limit)
        return [_row(row) for row in rows]

    async def waiting(self, market_ids: Sequence[int] | None = None) -> list[WaitingRow]:
        """Which of these markets wait for an operator, the oldest first; None: of all, at most `WAITING_MAX`."""
        query = """SELECT * FROM settlement.waiting WHERE $2::bigint[] IS NULL OR market_id = ANY ($2)
                   ORDER BY since_us, market_id, version LIMIT $1"""
        limit = WAITING_MAX if market_ids is None else None
        async with translated():
            rows = await self._pool.fetch(query, limit, market_ids)
        return [WaitingRow(**dict(row) | {"outcomes": _outcomes(row["outcomes"])}) for row in rows]

    async def claim(self, limit: int, lease_s: float) -> list[tuple[int, int]]:
        """Claims due settlements for this process for a time; returns their (market, version)."""
        async with translated():
            rows = await self._pool.fetch(_CLAIM, self._process, lease_s, limit, RUNNING)
        return [(row[0], row[1]) for row in rows]

    async def inherit(self) -> None:
        """Makes the settlements that an earlier life of this process had claimed due at once."""
        query = """UPDATE settlement.settlements SET claimed_by = NULL, due_at = clock_timestamp()
                   WHERE status IN (1, 2) AND claimed_by <> $1
                       AND split_part(claimed_by, '@', 1) = split_part($1, '@', 1)"""
        async with translated():
            await self._pool.execute(query, self._process)

    async def renew(self, carried: Sequence[tuple[int, int]], lease_s: float) -> None:
        """Renews the claims on these (market id, version), as far as this process still has them."""
        async with translated():
            await self._pool.execute(_RENEW, self._process, lease_s, *map(list, zip(*carried, strict=True)))

    async def shard_done(self, market_id: int, version: int, done: ShardDone) -> None:
        async with translated(), self._pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO settlement.shards_done VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                market_id,
                version,
                *done,
            )

    async def finished(self, row: SettlementRow, at_us: int) -> bool:
        """Marks a settlement as done on every shard, unless another process has claimed it."""
        return await self._leave(row, DONE, at_us=at_us) is not None

    async def stopped(self, row: SettlementRow, problem: str) -> None:
        """Marks a settlement as stopped: it needs an operator."""
        await self._leave(row, STOPPED, problem)

    async def put_off(self, row: SettlementRow, problem: str, pause_s: float) -> bool:
        """Makes a settlement due again after a pause, for any process.

        True: the reason is not that of the last time.
        """
        return bool(await self._leave(row, RUNNING, problem, pause_s=pause_s))

    async def release(self) -> None:
        """Releases the claims of this process."""
        query = """UPDATE settlement.settlements SET claimed_by = NULL, due_at = clock_timestamp()
                   WHERE claimed_by = $1 AND status IN (1, 2)"""
        async with translated():
            await self._pool.execute(query, self._process)

    async def resume(self, market_id: int, version: int) -> None:
        """Makes a stopped settlement due again."""
        query = """UPDATE settlement.settlements SET status = $3, problem = '', due_at = '-infinity'
                   WHERE market_id = $1 AND version = $2 AND status = 4"""
        async with translated():
            await self._pool.execute(query, market_id, version, PENDING)

    async def _leave(
        self, row: SettlementRow, status: int, problem: str = "", *, at_us: int = 0, pause_s: float = 0.0
    ) -> bool | None:
        """Whether the problem is another one; None: it is not this process' any more."""
        arguments = (row.market_id, row.version, status, problem, at_us, pause_s)
        async with translated():
            is_news: bool | None = await self._pool.fetchval(_LEAVE, self._process, *arguments)
        return is_news


def _judge(
    known: Sequence[RecordedVersion], one: RequestedSettlement | RefusedResult, *, abandoned: bool
) -> int | RefusedResult:
    """The version that stands, 0 for one to be recorded, or why a person has to decide."""
    if isinstance(one, RefusedResult):
        return known[-1].version if known else one
    standing = requests.stands_against_score(known, one)
    try:
        version = standing or requests.recorded_as(known, one)
    except ServiceError as why:
        return RefusedResult(*one[:4], why)
    if version is None and abandoned:
        return RefusedResult(*one[:3], {}, requests.abandoned(one))
    return version or 0


async def _known(connection: asyncpg.Connection, market_id: int) -> list[RecordedVersion]:
    """The market's versions; nobody else records one until this transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement', $1))", market_id)
    query = """SELECT version, outcomes, voids, status FROM settlement.settlements
               WHERE market_id = $1 ORDER BY version"""
    rows = await connection.fetch(query, market_id)
    return [
        RecordedVersion(row["version"], _outcomes(row["outcomes"]), row["voids"], row["status"] == DONE) for row in rows
    ]


async def _insert(connection: asyncpg.Connection, one: RequestedSettlement, shards_total: int, now_us: int) -> None:
    values = (one.market_id, one.version, one.event_id, _json(one.outcomes), PENDING, one.voids, shards_total, now_us)
    await connection.execute(_INSERT, *values)


async def _refuse(connection: asyncpg.Connection, one: RefusedResult, now_us: int) -> bool:
    values = (one.market_id, one.event_id, one.version, _json(one.outcomes), one.why.message, now_us)
    return bool(await connection.fetchval(_REFUSE, *values))


def _json(outcomes: Mapping[int, int]) -> str:
    return json.dumps({str(key): value for key, value in outcomes.items()})


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
