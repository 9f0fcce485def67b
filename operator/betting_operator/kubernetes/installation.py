"""Whether a database is the platform's, purely: by the id that its installation got when it was made.

The status of the resource records the id of the first installation that was found. From then on nothing is applied to
another database, whose users and balances would be others, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIELD = "spec.database.external.dsnSecret"
_PAGE = "docs/operator/install.md#another-database"
_NAMED_MAX = 3


@dataclass(frozen=True)
class Database:
    """What a database says. installation: the id of the platform in it, "" where none is installed, None while it does
    not answer. problem: why it does not, or not as a platform's database. running: the bet-services that run on it."""

    installation: str | None = None
    problem: str = ""
    running: tuple[str, ...] = ()


UNKNOWN = Database()


@dataclass(frozen=True)
class Hold:
    """Why nothing is applied. reason: one word. message: a sentence for people."""

    reason: str
    message: str


def is_another(recorded: str, database: Database) -> bool:
    """Whether a database is known not to be the platform's. recorded: the id in the status, "" while it has none."""
    return bool(recorded) and database.installation is not None and database.installation != recorded


def hold(recorded: str, in_use: Database, offered: Database | None, others: Sequence[str] = ()) -> Hold | None:
    """Why nothing must be applied, None if it may be.

    offered: what the Secret of an external database names, where that is not the address in use; None where it is.
    others: bet-services of somebody else that work with it. Without a record any database will do that answers and with
    which nobody else works.
    """
    if offered is None:
        if is_another(recorded, in_use):
            return Hold("AnotherDatabase", another(recorded, in_use, ""))
        return Hold("DatabaseShared", shared(others)) if others else None
    if offered.installation is None:
        return Hold(
            "DatabaseUnknown",
            f"{FIELD}: its database cannot be used ({offered.problem}): correct the address, or wait "
            "until it can; what runs keeps the address of before",
        )
    if is_another(recorded, offered):
        kept = "; what runs keeps the address of before"
        return Hold("AnotherDatabase", f"{FIELD}: {another(recorded, offered, kept)}")
    return Hold("DatabaseShared", f"{FIELD}: {shared(others)}") if others else None


def another(recorded: str, database: Database, kept: str) -> str:
    """What is said of a database that is not the platform's."""
    found = f"has installation {database.installation}" if database.installation else "has no installation"
    return (
        f"the database {found}, this platform's is {recorded}: give it that database back (a backup that is restored "
        f"keeps its installation), or accept the other one: {_PAGE}{kept}"
    )


def shared(others: Sequence[str]) -> str:
    """What is said of a database that another platform works with."""
    more = len(others) - _NAMED_MAX
    named = ", ".join(others[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    return (
        f"another platform works with this database, its bet-services run: {named}; two would take each other's "
        f"shards: give this one a database of its own, or end the other one first: {_PAGE}"
    )
