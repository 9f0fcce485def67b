"""Brings a database's schema up to date: every `migrations/*.sql`, in the order of their dependencies, each once."""

from __future__ import annotations

import logging
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from betting.journal.schema import APPLIED, COMPATIBLE, RELEASE, Schema, UnknownSchema, compared
from betting.release import version

if TYPE_CHECKING:
    from yoyo.backends import DatabaseBackend

CONNECT_TIMEOUT_S = 10
# Any constant that nothing else locks: processes that start together migrate one after the other.
LOCK_KEY = 0x6265747469  # "betti"
LOCK_TIMEOUT = "120s"
# For a lock on a table: whoever asks for the table after the migration waits behind it, bets included.
TABLE_LOCK_TIMEOUT = "5s"
# An outage of the network ends the connection instead of leaving it to wait, with the lock held.
KEEPALIVES: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 4,
    "tcp_user_timeout": 10_000,
}
_RECORD = """
INSERT INTO betting.releases (release) VALUES (%s)
ON CONFLICT (release) DO UPDATE SET migrated_at = clock_timestamp()
"""


class MigrationFailed(Exception):
    """A migration could not be applied; the message names it. What it had done so far was rolled back."""


def migrate(dsn: str) -> list[str]:
    """Applies what is missing and returns the names. Safe when several processes call it at once.

    Raises UnknownSchema, MigrationFailed, psycopg.Error; UnicodeDecodeError for percent-escapes that are not UTF-8.
    """
    with _connected(dsn) as guard:
        guard.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        guard.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        before = _look(guard)
        if before.unknown:
            raise UnknownSchema(before.refusal)
        if before.pending:
            with as_file(files("betting.journal") / "migrations") as folder:
                _apply(dsn, folder)
            left = _look(guard).pending
            if left:
                raise MigrationFailed(f"migration {left[0]} could not be read or does not say what it depends on")
            guard.execute(_RECORD, [version()])
        return list(before.pending)


def check(dsn: str) -> Schema:
    """The state of the schema; changes nothing. Raises psycopg.Error, UnicodeDecodeError."""
    with _connected(dsn) as connection:
        return _look(connection)


def _connected(dsn: str) -> psycopg.Connection:
    return psycopg.connect(
        dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="betting-migrate", **KEEPALIVES
    )


def _look(connection: psycopg.Connection) -> Schema:
    applied = {row[0] for row in _rows(connection, APPLIED)}
    releases = _rows(connection, RELEASE)
    return compared(applied, releases[0][0] if releases else "", dict(_rows(connection, COMPATIBLE)))


def _rows(connection: psycopg.Connection, query: LiteralString) -> list[Any]:
    """None while the table does not exist yet."""
    try:
        return connection.execute(query).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []


def _apply(dsn: str, folder: Path) -> None:
    import yoyo  # takes 0.1 s to import; services that only check the schema do not need it

    logging.getLogger("yoyo").setLevel(logging.WARNING)
    backend = _backend(dsn)
    try:
        backend.init_database()
        todo = backend.to_apply(yoyo.read_migrations(str(folder)))
        for migration in todo:
            try:
                backend.apply_one(migration)
            except psycopg.errors.LockNotAvailable as problem:
                raise MigrationFailed(
                    f"migration {migration.id} waited {TABLE_LOCK_TIMEOUT} for a table that another transaction holds, "
                    "and changed nothing: end that transaction (pg_stat_activity) or wait for it, then run this again"
                ) from problem
            except psycopg.Error as problem:
                raise MigrationFailed(f"migration {migration.id} failed: {problem}") from problem
    finally:
        backend.connection.close()


def _backend(dsn: str) -> DatabaseBackend:
    """yoyo's backend for psycopg 3, with each migration and the note that it was applied in one transaction."""
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
    from yoyo.connections import parse_uri

    class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
        def connect(self, _uri: object) -> psycopg.Connection:
            # Not "$user": a user named like one of our schemas would hide yoyo's tables from itself.
            options = f"-c search_path=public -c lock_timeout={TABLE_LOCK_TIMEOUT}"
            return psycopg.connect(dsn, autocommit=True, options=options, **KEEPALIVES)

        def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:
            self.ensure_internal_schema_updated()
            with self.transaction():
                migration.process_steps(self, "apply", force=force)
                self.mark_one(migration, log=mark)

        def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
            # yoyo asks the password file and DNS for these; a container may have neither.
            os.environ.setdefault("LOGNAME", "betting")
            return dict(super().get_log_data(migration, operation))

    return Backend(parse_uri("postgresql+psycopg://migrations"), "_yoyo_migration")
