"""Group commit: the only way into the journal.

One autocommitted statement per batch, over any number of shards. It locks the batch's shard rows FOR SHARE in ascending
order where (owner, epoch) match and inserts only if all of them do. Never BEGIN, COPY, COMMIT: a client frozen between
two round trips keeps its locks, and nobody can take its shards.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import asyncpg

from betting.engine.entries import Entry
from betting.journal.columns import columns_of
from betting.journal.connection import DRIVER_ERRORS

_APPEND = """
WITH locked AS MATERIALIZED (
    SELECT s.shard_id
    FROM unnest($2::int[], $3::bigint[]) AS batch (shard, epoch)
    JOIN betting.shards s ON s.shard_id = batch.shard
    WHERE s.owner = $1 AND s.epoch = batch.epoch AND s.state = 'owned'
    ORDER BY s.shard_id
    FOR SHARE OF s
), fence AS MATERIALIZED (
    SELECT count(*) = cardinality($2) AS whole FROM locked
), written AS (
    INSERT INTO betting.journal
    SELECT
        substr($4::bytea, i * 4 + 1, 4)::int,
        substr($5::bytea, i * 8 + 1, 8)::bigint,
        substr($6::bytea, i * 2 + 1, 2)::smallint,
        substr($7::bytea, i * 2 + 1, 2)::smallint,
        substr($8::bytea, i * 8 + 1, 8)::bigint,
        nullif(encode(substr($9::bytea, i * 16 + 1, 16), 'hex')::uuid, '00000000-0000-0000-0000-000000000000'),
        nullif(encode(substr($10::bytea, i * 16 + 1, 16), 'hex')::uuid, '00000000-0000-0000-0000-000000000000'),
        nullif(encode(substr($11::bytea, i * 16 + 1, 16), 'hex')::uuid, '00000000-0000-0000-0000-000000000000'),
        nullif(substr($12::bytea, i * 8 + 1, 8)::bigint, 0),
        substr($13::bytea, i * 8 + 1, 8)::bigint,
        substr($14::bytea, i * 8 + 1, 8)::bigint,
        substr($15::bytea, i * 8 + 1, 8)::bigint,
        substr($16::bytea, i * 8 + 1, 8)::bigint,
        substr($17::bytea, i * 8 + 1, 8)::bigint,
        substr($19::bytea, begins + 1, ends - begins)
    FROM (
        SELECT
            i, substr($18::bytea, i * 4 + 1, 4)::int AS ends,
            CASE i WHEN 0 THEN 0 ELSE substr($18::bytea, i * 4 - 3, 4)::int END AS begins
        FROM generate_series(0, length($18::bytea) / 4 - 1) AS i
    ) AS entry
    WHERE (SELECT whole FROM fence)
    RETURNING request_key, shard, sequence, account
), keys AS (
    INSERT INTO betting.requests (request_key, shard, sequence, account)
    SELECT request_key, shard, sequence, account FROM written WHERE request_key IS NOT NULL
)
SELECT ARRAY(SELECT shard_id FROM locked), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
"""

# A pure fence check needs no lock: the answer was true at one moment after it was asked. And no fsync.
_CHECK = """
SELECT ARRAY(
    SELECT s.shard_id
    FROM unnest($2::int[], $3::bigint[]) AS batch (shard, epoch)
    JOIN betting.shards s ON s.shard_id = batch.shard
    WHERE s.owner = $1 AND s.epoch = batch.epoch AND s.state = 'owned'
), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
"""

_SHARD = struct.Struct(">i")

# What the entries themselves cause: integrity (23), data (22), a limit of the row (54), a trigger's refusal (P0).
# Everything else (disk full, read-only, shutting down, lost) says nothing about the entries.
_REJECTIONS = ("22", "23", "54", "P0")
# A row may be on its way to the default partition of the request keys in the moment when its day gets one of its own.
# It is refused then, with everything; said again, it goes to the new one.
_ROUTED_AGAIN_MAX = 3


class AppendRejected(Exception):
    """The database refused the entries themselves; nothing of the batch was written, and trying again is of no use."""

    def __init__(self, sqlstate: str, constraint: str | None, message: str) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate
        self.constraint = constraint


class OutcomeUnknown(Exception):
    """The batch may have been written or not. Drop the connection, take the shards again, and read their heads."""


class ShardEntries(NamedTuple):
    """One shard's share of a batch. `entries` may be empty: then only the fence is checked, for reads."""

    shard: int
    epoch: int
    entries: Sequence[Entry]


class Appended(NamedTuple):
    """`matched`: shards still owned at the epoch given. Unless that is every shard of the batch, nothing was written.

    at_us: the database's clock while the statement ran, µs since 1970.
    """

    matched: frozenset[int]
    at_us: int


async def append(
    connection: asyncpg.Connection,
    owner: str,
    batch: Sequence[ShardEntries],
    *,
    timeout_s: float | None = None,
) -> Appended:
    """Writes the whole batch durably, or nothing of it. Each shard at most once in a batch.

    Raises AppendRejected (nothing was written) and OutcomeUnknown. A cancellation (also by asyncio.timeout) passes
    through and is an unknown outcome too.
    """
    shards = [part.shard for part in batch]
    epochs = [part.epoch for part in batch]
    assert len(set(shards)) == len(shards), "a shard is twice in one batch"
    entries = list(chain.from_iterable(part.entries for part in batch))
    try:
        if not entries:
            row = await connection.fetchrow(_CHECK, owner, shards, epochs, timeout=timeout_s)
        else:
            of_shard = b"".join([_SHARD.pack(part.shard) * len(part.entries) for part in batch])
            row = await _routed(connection, owner, shards, epochs, of_shard, *columns_of(entries), timeout_s=timeout_s)
    except struct.error as problem:
        raise AppendRejected("22003", None, f"a number does not fit its column: {problem}") from problem
    except asyncpg.PostgresError as problem:
        sqlstate = str(problem.sqlstate)
        if sqlstate.startswith(_REJECTIONS):
            raise AppendRejected(sqlstate, getattr(problem, "constraint_name", None), str(problem)) from problem
        raise OutcomeUnknown(f"{problem} (SQLSTATE {sqlstate})") from problem
    except DRIVER_ERRORS as problem:
        raise OutcomeUnknown(str(problem) or "no answer in time") from problem
    assert row is not None
    return Appended(frozenset(row[0]), row[1])


async def _routed(connection: asyncpg.Connection, *arguments: Any, timeout_s: float | None) -> asyncpg.Record | None:
    """Says the append again while partitions change under it."""
    for _ in range(_ROUTED_AGAIN_MAX):
        try:
            return await connection.fetchrow(_APPEND, *arguments, timeout=timeout_s)
        except asyncpg.CheckViolationError as problem:
            if getattr(problem, "constraint_name", None) is not None:  # a partition's own bounds have no name
                raise
    return await connection.fetchrow(_APPEND, *arguments, timeout=timeout_s)
