"""What the healer concluded, did and did not do, kept in Postgres for whoever has no access to its files."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import asyncpg

# About a week of a platform with a fault every minute; at most ROWS_KEPT times RECORD_BYTES_MAX, compressed.
ROWS_KEPT = 10_000
RECORD_BYTES_MAX = 64 * 1024

_ADD = """
INSERT INTO betting.flight_records (recorded_at, term, lines, format, record)
VALUES (to_timestamp($1::bigint / 1000000.0), $2, $3, $4, $5)
RETURNING number
"""
_FORGET = "DELETE FROM betting.flight_records WHERE number <= $1"
_NEWEST = """
SELECT * FROM (
    SELECT number, recorded_at, term, lines, format, record FROM betting.flight_records ORDER BY number DESC LIMIT $1
) newest ORDER BY number
"""


class FlightRecord(NamedTuple):
    """A tick with news. record: the whole tick as JSON of version `format`; None: it was too large to be kept."""

    number: int
    recorded_at: datetime
    term: int
    lines: list[str]
    format: int
    record: str | None


async def add(
    connection: asyncpg.Connection,
    wall_us: int,
    term: int,
    lines: list[str],
    record_format: int,
    record: str,
    rows_kept: int = ROWS_KEPT,
) -> None:
    """Adds a tick and deletes what is older than the newest `rows_kept`. wall_us: microseconds since 1970."""
    kept = record if len(record.encode()) <= RECORD_BYTES_MAX else None
    number: int = await connection.fetchval(_ADD, wall_us, term, lines, record_format, kept)
    await connection.execute(_FORGET, number - rows_kept)


async def newest(connection: asyncpg.Connection, limit: int = ROWS_KEPT) -> list[FlightRecord]:
    """The newest ones, oldest first."""
    return [FlightRecord(*row) for row in await connection.fetch(_NEWEST, limit)]
