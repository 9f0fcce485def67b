"""How to reach the Postgres that runs in a data folder, for commands beside `betting up`."""

from __future__ import annotations

from pathlib import Path

from betting.embedded.folder import DataFolder
from betting.embedded.postgres import PostgresSpec
from betting.supervision.errors import PlatformError

POSTMASTER_PORT_LINE = 3


def dsn_of(data: Path) -> str:
    """The DSN of the Postgres that runs in a data folder. Raises PlatformError when none is running there."""
    home = DataFolder.at(data).postgres
    try:
        lines = (home / "data" / "postmaster.pid").read_text("ascii").splitlines()
        return PostgresSpec(home, int(lines[POSTMASTER_PORT_LINE])).dsn()
    except (FileNotFoundError, NotADirectoryError):
        raise PlatformError(
            f"no database is running in {data}: start it with `betting up`, or give --dsn or --data"
        ) from None
    except (OSError, ValueError, IndexError) as error:
        raise PlatformError(f"the database in {data} cannot be found: {error}") from None
