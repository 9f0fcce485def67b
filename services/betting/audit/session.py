"""Connections of one audit: one holds the snapshot, the others work in it, each with temporary tables of its own.

The work runs in read-only transactions: Postgres itself lets them fill temporary tables and change nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict

from betting.audit.catalogue import ANSWER_TABLE, TABLES, Check, derived
from betting.audit.findings import MAX_EXAMPLES
from betting.audit.report import CannotAudit, Problem
from betting.dsn import UNREADABLE, is_clear, why_not_connected

CONNECT_TIMEOUT_S = 5
OLDEST_POSTGRES = 180_000  # crc32, casts from bytea to numbers

_SETTINGS = {
    "search_path": "pg_temp, pg_catalog",  # a name without a schema is a table of ours
    "jit": "off",
    "work_mem": "128MB",
    "temp_buffers": "128MB",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
_ACKNOWLEDGED = """
    CREATE TEMP TABLE acknowledged (
        line bigint, kind int, request_key uuid, user_id uuid, currency text, bet uuid, amount_minor bigint, legs bytea,
        code int
    )
"""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """The shards looked at together, and how many shards the platform has."""

    shards: tuple[int, ...]
    shard_count: int

    def fill(self, text: str) -> str:
        """Puts the numbers into a query; they are ints, so nothing needs quoting."""
        array = f"ARRAY[{', '.join(str(int(shard)) for shard in self.shards)}]::int[]"
        return text.replace(":shards", array).replace(":shard_count", str(int(self.shard_count)))


_NOTHING = Batch((), 1)


class Session:
    """One connection of an audit."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self.connection = connection
        self._counts: dict[str, int] = {}

    async def rows(self, statement: str) -> list[Row]:
        """All rows of a query."""
        cursor = await self.connection.execute(statement)
        return list(await cursor.fetchall())

    async def execute(self, statement: str) -> None:
        """A statement without rows."""
        await self.connection.execute(statement)

    async def prepare(self) -> None:
        """Creates the tables that the checks read, empty."""
        for table in TABLES:
            await self._create(table)

    async def prepare_acknowledgements(self) -> None:
        """Creates the tables for acknowledgements."""

        await self.execute(_ACKNOWLEDGED)
        await self._create(ANSWER_TABLE)

    async def _create(self, table: str) -> None:
        await self.execute(f"CREATE TEMP TABLE {table} AS {_NOTHING.fill(derived(table))} WITH NO DATA")

    async def empty(self) -> None:
        """Deletes the rows of the previous batch."""
        await self.execute(f"TRUNCATE {', '.join(TABLES)}")
        self._counts.clear()

    async def fill(self, table: str, batch: Batch) -> None:
        """Fills one derived table with what the journal says of these shards."""
        await self.execute(f"INSERT INTO {table} {batch.fill(derived(table))}")  # our own files
        await self.execute(f"ANALYZE {table}")

    @asynccontextmanager
    async def inside(self, snapshot: str) -> AsyncIterator[None]:
        """A read-only transaction that sees exactly what the audit's first connection sees."""
        async with self.connection.transaction():
            await self.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            yield

    async def examined(self, source: str) -> int:
        """How many rows a check looks at; counted once per batch and source."""
        if source not in self._counts:
            ((count,),) = await self.rows(f"SELECT count(*) FROM {source}")  # noqa: S608  # our own files
            self._counts[source] = count
        return self._counts[source]

    async def problems(self, check: Check, batch: Batch) -> tuple[int, tuple[Problem, ...]]:
        """How many rows break a check, and the first few of them.

        Values so wrong that the check's own arithmetic fails are a problem too: the check cannot hold.
        """
        query = f"""
            WITH problem AS MATERIALIZED ({batch.fill(check.sql)})
            SELECT shard, sequence, account, bet, subject, expected, found, count(*) OVER ()
            FROM problem ORDER BY shard, sequence LIMIT {MAX_EXAMPLES}
        """  # noqa: S608  # text from our own files
        try:
            async with self.connection.transaction():
                rows = await self.rows(query)
        except psycopg.DataError as error:
            return 1, (_not_computable(error),)
        return (rows[0][7] if rows else 0), tuple(_problem(row) for row in rows)


def _problem(row: Sequence[Any]) -> Problem:
    shard, sequence, account, bet, subject, expected, found, _total = row
    return Problem(shard, sequence, _as_uuid(account), _as_uuid(bet), subject, expected, found)


def _as_uuid(value: object) -> UUID | None:
    return value if isinstance(value, UUID) else None


def _not_computable(error: psycopg.Error) -> Problem:
    return Problem(None, None, None, None, "the check itself", "values it can compute with", one_line(error))


@asynccontextmanager
async def open_session(dsn: str) -> AsyncIterator[Session]:
    """A connection made ready for an audit. Raises CannotAudit when there is no such database."""
    try:
        connection = await AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="betting-audit"
        )
    except (psycopg.Error, UnicodeDecodeError) as error:
        why = why_not_connected(dsn, error)
        raise CannotAudit(
            f"cannot connect: {why}" if why == UNREADABLE else f"cannot connect to {place_of(dsn)}: {one_line(error)}"
        ) from error
    async with connection:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        session = Session(connection)
        await _check_server(session, dsn)
        for name, value in _SETTINGS.items():
            await session.execute(f"SET {name} TO {value if name == 'search_path' else repr(value)}")
        await session.execute(derived("functions"))
        yield session


async def _check_server(session: Session, dsn: str) -> None:
    if session.connection.info.server_version < OLDEST_POSTGRES:
        raise CannotAudit(
            f"{place_of(dsn)} is Postgres {session.connection.info.server_version // 10_000}: 18 is needed"
        )
    ((journal,),) = await session.rows("SELECT to_regclass('betting.journal')")
    if journal is None:
        raise CannotAudit(
            f"{place_of(dsn)} has no table betting.journal: it is not a betting platform's, or not migrated"
        )


def place_of(dsn: str) -> str:
    """The database in words, without its password."""
    try:
        parts = conninfo_to_dict(dsn)
    except (psycopg.Error, UnicodeDecodeError):
        return "the database"
    if not is_clear(dsn):
        return "the database"
    return f"{parts.get('host') or 'the local socket'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def one_line(error: BaseException) -> str:
    """An error's text as one line; drivers put hints on further ones."""
    return " ".join(str(error).split()) or type(error).__name__
