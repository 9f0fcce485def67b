"""Whether a database is the platform's, purely: by the id that its installation got when it was made.

The status of the resource records the id of the first installation that was found. From then on nothing is applied to
another database, whose users and balances would be others, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELD = "spec.database.external.dsnSecret"
_PAGE = "docs/operator/install.md#another-database"


@dataclass(frozen=True)
class Database:
    """What a database says. installation: the id of the platform in it, "" where none is installed, None while it does
    not answer. problem: why it does not, or not as a platform's database."""

    installation: str | None = None
    problem: str = ""


UNKNOWN = Database()


@dataclass(frozen=True)
class Hold:
    """Why nothing is applied. reason: one word. message: a sentence for people."""

    reason: str
    message: str


def is_another(recorded: str, database: Database) -> bool:
    """Whether a database is known not to be the platform's. recorded: the id in the status, "" while it has none."""
    return bool(recorded) and database.installation is not None and database.installation != recorded


def hold(recorded: str, in_use: Database, offered: Database | None) -> Hold | None:
    """Why nothing must be applied, None if it may be.

    offered: what the Secret of an external database names, where that is not the address in use; None where it is.
    Without a record any database will do that answers.
    """
    if offered is None:
        return Hold("AnotherDatabase", another(recorded, in_use, "")) if is_another(recorded, in_use) else None
    if offered.installation is None:
        return Hold(
            "DatabaseUnknown",
            f"{FIELD}: its database cannot be used ({offered.problem}): correct the address, or wait "
            "until it can; what runs keeps the address of before",
        )
    if is_another(recorded, offered):
        kept = "; what runs keeps the address of before"
        return Hold("AnotherDatabase", f"{FIELD}: {another(recorded, offered, kept)}")
    return None


def another(recorded: str, database: Database, kept: str) -> str:
    """What is said of a database that is not the platform's."""
    found = f"has installation {database.installation}" if database.installation else "has no installation"
    return (
        f"the database {found}, this platform's is {recorded}: give it that database back (a backup that is restored "
        f"keeps its installation), or accept the other one: {_PAGE}{kept}"
    )
