"""The checks and the tables they read: one SQL file each; a check's head says its name and meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files

# In the order they are filled: each reads the journal or the ones before it.
TABLES = (
    "entry", "account", "posting", "bet", "leg", "result", "outcome", "settlement", "due", "standing", "verdict",
    "kept", "request", "retained", "mark", "projected",
)  # fmt: skip
ANSWER_TABLE = "answer"

_HEAD = re.compile(r"^-- (name|means|scope|examines): (.+)$", re.MULTILINE)


class Scope(Enum):
    """What a check looks at in one go."""

    SHARDS = "shards"  # a batch of shards, through the derived tables
    PLATFORM = "platform"  # the journal of all shards
    ACKNOWLEDGEMENTS = "acknowledgements"  # what clients were told, in all shards


@dataclass(frozen=True)
class Check:
    """A question about the journal. `sql` finds the rows that break it; `examines` is what it looks at, after FROM."""

    name: str
    means: str
    scope: Scope
    examines: str
    sql: str


@cache
def checks() -> tuple[Check, ...]:
    """All checks, in the order they are reported."""
    folder = files(__package__).joinpath("checks")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return tuple(_parse(name, folder.joinpath(name).read_text("utf-8")) for name in names)


@cache
def derived(table: str) -> str:
    """The query whose rows fill a derived table; `functions` holds definitions instead."""
    return files(__package__).joinpath("derive", f"{table}.sql").read_text("utf-8")


def _parse(file_name: str, text: str) -> Check:
    head = dict(_HEAD.findall(text))
    missing = {"name", "means", "examines"} - head.keys()
    if missing:
        raise ValueError(f"checks/{file_name} has no line '-- {sorted(missing)[0]}: …' at its head")
    return Check(head["name"], head["means"], Scope(head.get("scope", "shards")), head["examines"], text)
