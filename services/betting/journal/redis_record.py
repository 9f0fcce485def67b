"""The record of the Redis primary: one row, changed by compare-and-set only, so that two processes cannot both change
it.

A change by the healer carries its term too: a healer that was paused and wakes up changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

from betting.journal.placements import StaleTerm

# A healer that beat this lately acts, unless it is paused.
HEALER_GONE_AFTER_S = 10.0

# Releases that do not know the columns name new primaries too, and leave these as they were.
_MIN_REPLICAS = "CASE WHEN configured_boot_id = boot_id THEN min_replicas ELSE 0 END"
_SAYS = f"primary_node, boot_id, epoch, phase, candidate, candidate_boot_id, {_MIN_REPLICAS}"
_IS_EXPECTED = f"({_SAYS}) = ($1, $2, $3::bigint, $4, $5, $6, $7::int)"
_SET = """
    primary_node = $8, boot_id = $9, epoch = $10, phase = $11, candidate = $12, candidate_boot_id = $13,
    min_replicas = $14, configured_boot_id = $9, changed_at = clock_timestamp()
"""
_READ = f"""
SELECT {_SAYS}, extract(epoch FROM clock_timestamp() - changed_at)::float8
FROM betting.redis_record
"""  # noqa: S608  (constants of this module)
_MOVE = f"""
WITH fence AS MATERIALIZED (
    SELECT term FROM betting.healer_beat WHERE term = $15 FOR SHARE
), moved AS (
    UPDATE betting.redis_record r SET {_SET}, term = fence.term
    FROM fence
    WHERE {_IS_EXPECTED}
    RETURNING r.epoch
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM moved)
"""  # noqa: S608  (constants of this module)
_NAME_FIRST = """
WITH fence AS MATERIALIZED (
    SELECT term FROM betting.healer_beat WHERE term = $4 FOR SHARE
), named AS (
    INSERT INTO betting.redis_record (primary_node, boot_id, epoch, phase, min_replicas, configured_boot_id, term)
    SELECT $1, $2, 1, 'steady', $3, $2, fence.term FROM fence
    ON CONFLICT (only_row) DO NOTHING
    RETURNING epoch
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM named)
"""
_UNHEALED = """
SELECT NOT EXISTS (SELECT FROM betting.healer_beat WHERE beat_at > clock_timestamp() - make_interval(secs => $1))
    OR EXISTS (SELECT FROM betting.healing_switch WHERE paused <> '' OR dry_run)
"""
_BEGIN = """
INSERT INTO betting.redis_record AS r (primary_node, boot_id, epoch, phase, term) VALUES ($1, $2, 1, 'steady', 0)
ON CONFLICT (only_row) DO UPDATE SET
    primary_node = $1, boot_id = $2, epoch = r.epoch + 1, phase = 'steady', candidate = '', candidate_boot_id = '',
    min_replicas = 0, configured_boot_id = '', term = 0, changed_at = clock_timestamp()
"""
_TAKE = f"""
UPDATE betting.redis_record SET {_SET}, term = 0
WHERE {_IS_EXPECTED}
    AND (
        NOT EXISTS (SELECT FROM betting.healer_beat WHERE beat_at > clock_timestamp() - make_interval(secs => $15))
        OR EXISTS (SELECT FROM betting.healing_switch WHERE paused <> '' OR dry_run)
    )
RETURNING true
"""  # noqa: S608  (constants of this module)


class Row(NamedTuple):
    """The record. candidate, candidate_boot_id: empty unless a node is being promoted. min_replicas: how many replicas
    the recorded life of the primary waits for by its configuration; 0: for none, or it is not known.
    """

    primary: str
    boot_id: str
    epoch: int
    phase: str
    candidate: str = ""
    candidate_boot_id: str = ""
    min_replicas: int = 0


async def read(connection: asyncpg.Connection) -> tuple[Row, float] | None:
    """The row and its age in seconds; None before the platform's first start."""
    found = await connection.fetchrow(_READ)
    return None if found is None else (Row(*tuple(found)[:-1]), float(found[-1]))


async def move(connection: asyncpg.Connection, term: int, expected: Row, to: Row) -> bool:
    """Changes the record as the healer of this term. False: the record has changed meanwhile. Raises StaleTerm."""
    return _is_written(await connection.fetchrow(_MOVE, *expected, *to, term), term)


async def name_first(connection: asyncpg.Connection, term: int, first: Row) -> bool:
    """Begins the record at epoch 1, as the healer of this term. False: there is one already. Raises StaleTerm."""
    named = (first.primary, first.boot_id, first.min_replicas)
    return _is_written(await connection.fetchrow(_NAME_FIRST, *named, term), term)


async def begin(connection: asyncpg.Connection, primary: str, boot_id: str) -> None:
    """Names the first primary of a platform that has just started: every earlier life is over, no healer runs yet."""
    await connection.execute(_BEGIN, primary, boot_id)


async def unhealed(connection: asyncpg.Connection) -> bool:
    """Whether no healer may fail over now: none had a heartbeat for a while, healing is paused, or it is a dry run."""
    return bool(await connection.fetchval(_UNHEALED, HEALER_GONE_AFTER_S))


async def take(connection: asyncpg.Connection, expected: Row, to: Row) -> bool:
    """Changes the record while no healer may fail over. False: one may, or the record has changed meanwhile."""
    return bool(await connection.fetchval(_TAKE, *expected, *to, HEALER_GONE_AFTER_S))


def _is_written(row: asyncpg.Record | None, term: int) -> bool:
    assert row is not None
    is_present_term, is_written = row
    if not is_present_term:
        raise StaleTerm(f"term {term} is over")
    return bool(is_written)
