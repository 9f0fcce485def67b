"""Brings a database's schema up to date: every `migrations/*.sql`, in the order of their dependencies, each once."""

from __future__ import annotations

import logging
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg

if TYPE_CHECKING:
    from yoyo.backends import DatabaseBackend

# Any constant that nothing else locks: processes that start together migrate one after the other.
LOCK_KEY = 0x6265747469  # "betti"
LOCK_TIMEOUT = "120s"
_APPLIED = "SELECT migration_id FROM public._yoyo_migration"


class MigrationFailed(Exception):
    """A migration could not be applied; the message names it. What it had done so far was rolled back."""


def migration_ids() -> list[str]:
    """The names of all migrations this version knows, sorted."""
    folder = files("betting.journal") / "migrations"
    return sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))


def migrate(dsn: str) -> list[str]:
    """Applies what is missing and returns the names. Safe when several processes call it at once.

    Raises MigrationFailed, psycopg.OperationalError.
    """
    with psycopg.connect(dsn, autocommit=True) as guard:
        guard.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        guard.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        missing = _missing(guard)
        if missing:
            with as_file(files("betting.journal") / "migrations") as folder:
                _apply(dsn, folder)
            left = _missing(guard)
            if left:
                raise MigrationFailed(f"migration {left[0]} could not be read or does not say what it depends on")
        return missing


async def pending(connection: asyncpg.Connection) -> list[str]:
    """Names of migrations this version needs and the database does not have. Empty: the schema is current."""
    try:
        applied = {row["migration_id"] for row in await connection.fetch(_APPLIED)}
    except asyncpg.UndefinedTableError:
        applied = set()
    return [name for name in migration_ids() if name not in applied]


def _missing(connection: psycopg.Connection) -> list[str]:
    try:
        applied = {row[0] for row in connection.execute(_APPLIED)}
    except psycopg.errors.UndefinedTable:
        applied = set()
    return [name for name in migration_ids() if name not in applied]


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
            return psycopg.connect(dsn, autocommit=True, options="-c search_path=public")

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
