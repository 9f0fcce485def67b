"""Which migrations a database has, against those of this release. Only asks; `migrate` applies them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from betting.release import version

APPLIED = "SELECT migration_id FROM public._yoyo_migration"
RELEASE = "SELECT release FROM betting.releases ORDER BY migrated_at DESC LIMIT 1"
COMPATIBLE = "SELECT migration_id, oldest FROM betting.compatible_migrations"
_TABLES = "SELECT to_regclass('betting.releases') IS NOT NULL, to_regclass('betting.compatible_migrations') IS NOT NULL"


class Schema(NamedTuple):
    """pending: what this release needs and the database does not have; unknown: what the database has beyond that, and
    does not say of that this release may run with it.

    release: which release migrated the database last; "" where that was not recorded. newest: the newest migration that
    the database has, "" for none.
    """

    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    release: str = ""
    newest: str = ""

    @property
    def refusal(self) -> str:
        """Why this release must not use the database, with both versions and what to do; "" when it may."""
        if not self.unknown:
            return ""
        other = self.release if self.release and self.release != version() else "a newer release"
        count = f"{len(self.unknown)} migration{'s' if len(self.unknown) > 1 else ''}"
        return (
            f"the database has {count} that this release ({version()}, schema {migration_ids()[-1]}) does not know: "
            f"it has schema {self.unknown[-1]}, made by {other}: use that release, or restore a backup from before it"
        )

    @property
    def waits_for(self) -> str:
        """What has to be done before this release can use the database; "" when nothing has."""
        if not self.pending:
            return ""
        rest = f" and {len(self.pending) - 1} more" if len(self.pending) > 1 else ""
        return f"migration {self.pending[0]}{rest} to be applied: run `betting migrate`"


class UnknownSchema(Exception):
    """The database has migrations that this release does not know; nothing was done. The message says what to do."""


def migration_ids() -> list[str]:
    """The names of all migrations that this release knows, in order."""
    folder = files("betting.journal") / "migrations"
    return sorted(file.name.removesuffix(".sql") for file in folder.iterdir() if file.name.endswith(".sql"))


def compared(applied: set[str], release: str, compatible: Mapping[str, str]) -> Schema:
    """A database with these migrations, last migrated by `release`. Pure but for this release's own list.

    compatible: of migrations that older releases may run with, the newest one that such a release must know.
    """
    known = migration_ids()
    pending = tuple(name for name in known if name not in applied)
    unknown = sorted(name for name in applied.difference(known) if compatible.get(name) not in known)
    return Schema(pending, tuple(unknown), release, max(applied, default=""))


async def look(connection: asyncpg.Connection) -> Schema:
    """The state of a database's schema. Raises what asyncpg raises."""
    try:
        found = {row["migration_id"] for row in await connection.fetch(APPLIED)}
    except asyncpg.UndefinedTableError:
        found = set()
    releases, marks = await connection.fetchrow(_TABLES)
    release = await connection.fetchval(RELEASE) if releases else None
    # Read after what is applied: a migration and its mark are committed together.
    compatible = {row[0]: row[1] for row in await connection.fetch(COMPATIBLE)} if marks else {}
    return compared(found, release or "", compatible)


async def applied(connection: asyncpg.Connection) -> tuple[frozenset[str], dict[str, str]]:
    """The migrations that a database of this release has; of those that older releases may run with, the newest one
    that such a release must know. Raises what asyncpg raises."""
    compatible = {row[0]: row[1] for row in await connection.fetch(COMPATIBLE)}
    return frozenset(row["migration_id"] for row in await connection.fetch(APPLIED)), compatible
