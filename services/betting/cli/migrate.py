"""`betting migrate`: brings the database's schema up to date, and creates the shards of a new installation."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from betting.cli.options import DEFAULT_DATA, DSN_VARIABLE, DatabaseAway, Dsn, RunningIn, connected, dsn_of
from betting.dsn import why_not_connected
from betting.journal import install, schema
from betting.journal import migrate as migrations
from betting.release import version
from betting.runtime.settings import unknown_variables
from betting.supervision.errors import PlatformError

CURRENT, PENDING, CANNOT_TELL = 0, 1, 2
POLL_S = 0.5
# psycopg decodes an address as UTF-8 before it connects.
DATABASE_ERRORS = (psycopg.Error, UnicodeDecodeError)


def migrate(
    dsn: Dsn = None,
    data: RunningIn = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_536,
            envvar="BETTING_SHARD_COUNT",
            help="Number of shards of a new installation, which can never change; default: 16.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing. Exit code 0: current, 1: something is pending, 2: neither.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            min=0.0, max=3_600.0, metavar="SECONDS", help="How long to wait for a database that does not answer yet."
        ),
    ] = 0.0,
) -> None:
    """Apply the migrations that the database does not have. Safe to repeat, and for several at once.

    Services never migrate: they wait until it is done. `betting up` does it by itself for its own database.
    """
    found = ""
    try:
        unknown = unknown_variables(os.environ)
        if unknown:
            raise PlatformError(f"{'; '.join(unknown)}.")
        with _database(dsn, data, check=check) as found:
            address = found
            pending = _tried(lambda: _check(address) if check else _migrate(address, shards), address, wait)
    except (PlatformError, *DATABASE_ERRORS, migrations.MigrationFailed, schema.UnknownSchema) as error:
        typer.echo(f"betting migrate: {_shown(found, error)}", err=True)
        raise typer.Exit(CANNOT_TELL if check else 1) from None
    raise typer.Exit(PENDING if pending else CURRENT)


def _shown(dsn: str, error: Exception) -> str:
    """One line about an error; what psycopg says before the server answers may quote a part of the password."""
    before_an_answer = isinstance(error, DATABASE_ERRORS) and getattr(error, "sqlstate", None) is None
    text = why_not_connected(dsn, error) if before_an_answer else str(error) or type(error).__name__
    return text.splitlines()[0]


def _tried(work: Callable[[], bool], dsn: str, for_s: float) -> bool:
    """The outcome of work that may be repeated, tried again for so long while the database does not answer.

    A name may be found and then not: in a new pod connections and DNS come and go until every node knows its address.
    Raises what the last try raised.
    """
    until_s, said = time.monotonic() + for_s, ""
    while True:
        try:
            return work()
        except (psycopg.OperationalError, DatabaseAway) as error:
            if time.monotonic() >= until_s:
                raise
            problem = _shown(dsn, error)
            if problem != said:
                typer.echo(f"betting migrate: waiting for the database: {problem}", err=True)
                said = problem
        time.sleep(POLL_S)


def _check(dsn: str) -> bool:
    """Whether something is pending. Raises UnknownSchema, psycopg.Error."""
    found = migrations.check(dsn)
    if found.refusal:
        raise schema.UnknownSchema(found.refusal)
    for name in found.pending:
        typer.echo(f"pending: {name}")
    if found.pending:
        return True
    installed = asyncio.run(_installed(dsn))
    if installed is None:
        typer.echo("pending: the shards are to be created")
        return True
    typer.echo(f"nothing is pending: schema {schema.migration_ids()[-1]}, {installed} shards")
    return False


def _migrate(dsn: str, shards: int | None) -> bool:
    applied = migrations.migrate(dsn)
    for name in applied:
        typer.echo(f"applied: {name}")
    created, count = asyncio.run(_install(dsn, shards))
    if created:
        typer.echo(f"created: {created} shards")
    done = "nothing was to be done" if not applied and not created else "done"
    typer.echo(f"{done}: schema {schema.migration_ids()[-1]}, {count} shards, release {version()}")
    return False


async def _installed(dsn: str) -> int | None:
    async with connected(dsn, "betting-migrate") as database:
        return await install.shard_count(database)


async def _install(dsn: str, shards: int | None) -> tuple[int, int]:
    """Creates the shards: how many were created, and how many there are.

    Raises PlatformError for a different number.
    """
    async with connected(dsn, "betting-migrate") as database:
        wanted = shards or await install.shard_count(database) or install.DEFAULT_SHARDS
        try:
            return await install.initialise(database, wanted), wanted
        except install.AlreadyInstalled as error:
            raise PlatformError(f"The schema is current, but {error}.") from None


@contextmanager
def _database(dsn: str | None, data: Path | None, *, check: bool) -> Iterator[str]:
    """The database that is meant; one in a folder where no platform runs is started for the length of the block."""
    from betting.embedded import postgres
    from betting.embedded.folder import DataFolder
    from betting.embedded.ports import held_ports

    folder = DataFolder.at(data or DEFAULT_DATA)
    resting = (folder.postgres / "ready").exists() and not folder.is_locked()
    if dsn is not None or not resting or (data is None and os.environ.get(DSN_VARIABLE)):
        yield dsn_of(dsn, data)
        return
    with folder.locked(), held_ports(1) as [port]:
        server = postgres.PostgresServer(folder.postgres, port)
        server.start()
        try:
            if not check:
                postgres.ensure_database(server.spec)
            yield server.spec.dsn()
        finally:
            server.stop()
