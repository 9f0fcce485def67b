"""The daily partitions of `betting.requests`: made ahead of time, dropped once none of their keys can be used again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import asyncpg
import structlog

_log = structlog.get_logger(component=__name__)

DAYS_AHEAD = 7
# A key is refused once it is 30 days old (betting.engine.decide); a day more absorbs every clock.
DAYS_KEPT = 31
LOCK_TIMEOUT = "500ms"
INTERVAL_S = 24 * 3600.0
RETRY_S = 60.0
_LOCK_KEY = 0x7265717565737473  # "requests"

_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'betting.requests'::regclass AND c.relname ~ '^requests_[0-9]{8}$'
"""


# ATTACH rather than CREATE … PARTITION OF: appends need not stop. Strays of that day move in.
_CREATE = """
CREATE TABLE betting.{name} (LIKE betting.requests INCLUDING INDEXES);
LOCK TABLE betting.requests_default IN ACCESS EXCLUSIVE MODE;
WITH strays AS (
    DELETE FROM betting.requests_default WHERE request_key >= '{low}' AND request_key < '{high}' RETURNING *
)
INSERT INTO betting.{name} SELECT * FROM strays;
ALTER TABLE betting.requests ATTACH PARTITION betting.{name} FOR VALUES FROM ('{low}') TO ('{high}');
"""
_DELETE_STRAYS = "DELETE FROM betting.requests_default WHERE request_key < '{oldest}'"


class Maintained(NamedTuple):
    """Names of partitions made and dropped, and rows of the default partition that were too old to keep."""

    created: tuple[str, ...]
    dropped: tuple[str, ...]
    strays_deleted: int


def key_floor(day: date) -> str:
    """The smallest UUID whose first 48 bits are the first millisecond of this day (UTC)."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    milliseconds = int(start.timestamp()) * 1000
    text = f"{milliseconds:012x}{'0' * 20}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def partition_name(day: date) -> str:
    """requests_20260314."""
    return f"requests_{day:%Y%m%d}"


async def maintain_partitions(connection: asyncpg.Connection, now_us: int) -> Maintained:
    """Makes the partitions of today and the days ahead and drops those past keeping. Safe when several do it at once.

    Raises asyncpg.LockNotAvailableError when appends did not let it in: try again later.
    """
    today = datetime.fromtimestamp(now_us / 1_000_000, UTC).date()
    there = {row[0] for row in await connection.fetch(_PARTITIONS)}
    wanted = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    created = [
        partition_name(day) for day in wanted if partition_name(day) not in there and await _create(connection, day)
    ]
    oldest = today - timedelta(days=DAYS_KEPT)
    past = sorted(name for name in there if name < partition_name(oldest))
    dropped = [name for name in past if await _drop(connection, name)]
    strays = await connection.execute(_DELETE_STRAYS.format(oldest=key_floor(oldest)))
    return Maintained(tuple(created), tuple(dropped), int(strays.split()[-1]))


async def maintain(pool: asyncpg.Pool) -> None:
    """`maintain_partitions` by the database's clock: due every INTERVAL_S, after a failure again in RETRY_S.

    Raises DRIVER_ERRORS.
    """
    async with pool.acquire() as connection:
        now_us = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        done = await maintain_partitions(connection, now_us)
    _log.info("request partitions maintained", created=done.created, dropped=done.dropped)


async def _create(connection: asyncpg.Connection, day: date) -> bool:
    name, low, high = partition_name(day), key_floor(day), key_floor(day + timedelta(days=1))
    async with connection.transaction():
        await _enter(connection)
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"betting.{name}"):
            return False
        await connection.execute(_CREATE.format(name=name, low=low, high=high))
    return True


async def _drop(connection: asyncpg.Connection, name: str) -> bool:
    async with connection.transaction():
        await _enter(connection)
        if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"betting.{name}"):
            return False
        await connection.execute(f"DROP TABLE betting.{name}")
    return True


async def _enter(connection: asyncpg.Connection) -> None:
    """One at a time, and never in the way of appends for longer than this."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
