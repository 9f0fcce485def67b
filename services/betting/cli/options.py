"""Options that several commands share, and the database they are about."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betting.supervision.errors import PlatformError

if TYPE_CHECKING:
    import asyncpg

PIPE_WIDTH = 120  # columns of a table that goes into a log
DEFAULT_DATA = Path(".betting")
DSN_VARIABLE = "BETTING_POSTGRES_DSN"

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder that holds the platform's data.")]
Season = Annotated[
    str | None,
    typer.Option("--season", metavar="FILE", help="A season file, or the name of a shipped season, for a new folder."),
]
TrustGoals = Annotated[
    bool,
    typer.Option("--trust-goals", help="Use the goals of a match even if other cells of its line contradict them."),
]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Use any free ports instead of the fixed ones.")]
NoHealer = Annotated[
    bool, typer.Option("--no-healer", help="Run without the healer: instances take over shards themselves.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines, no live screen.")]

# Of commands that work on a running platform wherever it runs: `dsn_of` says which of them counts.
Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="URL",
        help=f"The platform's database, postgresql://user:password@host:5432/betting; default: ${DSN_VARIABLE}, "
        "else the one that runs in --data.",
    ),
]
RunningIn = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help=f"Data folder of a running `betting up`; default: {DEFAULT_DATA}."),
]


def dsn_of(dsn: str | None, data: Path | None) -> str:
    """--dsn, else the database that runs in --data, else what the environment says, else the one in .betting.

    Raises PlatformError when both options are given, or when none runs in the folder.
    """
    if dsn is not None and data is not None:
        raise PlatformError("Give --dsn or --data, not both: each names a database.")
    named = dsn if dsn is not None else "" if data is not None else os.environ.get(DSN_VARIABLE, "")
    if named:
        return named
    from betting.embedded.database import dsn_of as running_in

    return running_in(data or DEFAULT_DATA)


def is_database(dsn: str | None, data: Path | None) -> bool:
    """Whether a database is meant where both it and a data folder have what is asked for."""
    return dsn is not None or (data is None and bool(os.environ.get(DSN_VARIABLE)))


class DatabaseAway(PlatformError):
    """The database, or the way to it, failed: it may work the next time."""


@asynccontextmanager
async def connected(dsn: str, command: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for a command called "betting-…". Database errors become DatabaseAway, also inside of the block.

    Raises PlatformError where the database cannot be used.
    """
    from betting.journal import connection, schema

    try:
        database = await connection.connect(dsn, command)
        try:
            found = await schema.look(database)
            if found.refusal or found.waits_for:
                raise PlatformError(
                    f"The database cannot be used: {found.refusal or 'it waits for ' + found.waits_for}."
                )
            yield database
        finally:
            await database.close()
    except connection.UnreadableAddress as error:
        raise PlatformError(f"Nothing was done: {error}.") from None
    except connection.DRIVER_ERRORS as error:
        raise DatabaseAway(f"The database does not answer: {error or type(error).__name__}.") from error
