"""Where SQL on the schema `betting` may stand, and the name of its NOTIFY channel."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from betting.journal import directory

ROOT = Path(__file__).parents[3]
MIGRATIONS = ROOT / "services/betting/journal/migrations"
# The audit shares no code with what it audits.
ALLOWED = ("services/betting/journal", "services/betting/audit")
SCHEMA_OBJECTS = frozenset(
    match
    for path in MIGRATIONS.glob("*.sql")
    for match in re.findall(r"(?:TABLE|FUNCTION|VIEW)\s+(?:IF NOT EXISTS\s+)?betting\.(\w+)", path.read_text())
)
REFERENCE = re.compile(rf"(?<![\w.])betting\.({'|'.join(sorted(SCHEMA_OBJECTS))})\b(?!\.)")
STATEMENT = re.compile(
    r"(?<!\w)(SELECT|INSERT|UPDATE|DELETE|LOCK|VACUUM|TRUNCATE|COPY|CALL|WITH|FROM|JOIN|INTO|LIKE)\b"
)


def references(source: str) -> list[str]:
    """The tables and functions of the schema that the SQL strings of a module name."""
    tree = ast.parse(source)
    docstrings = set(_docstrings(tree))
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return [name for text in texts if STATEMENT.search(text) for name in REFERENCE.findall(text)]


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                yield id(first.value)


def test_only_the_journal_has_sql_on_the_schema_betting() -> None:
    """Whoever needs a row of it calls a function of `betting.journal`."""
    found = {
        str(path.relative_to(ROOT)): names
        for folder in ("services", "operator")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(ALLOWED) and (names := references(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'x = "SELECT 1 FROM betting.shards"',
        'x = """\nUPDATE betting.instances SET exited = true\n"""',
        'x = f"DELETE FROM betting.notifications WHERE account IN {y}"',
        'x = "LOCK TABLE betting.journal IN SHARE MODE"',
        'def f():\n    """Doc."""\n    return "SELECT * FROM betting.project($1, $2)"',
    ],
)
def test_sql_is_recognized(source: str) -> None:
    """The scan finds a statement however it is written."""
    assert references(source)


def test_prose_and_module_names_are_not_sql() -> None:
    """Docstrings may name tables; module paths and comments are not statements."""
    assert references('"""Reads FROM betting.shards."""\nimport betting.journal  # FROM betting.shards\n') == []
    assert references('x = "betting.journal.migrate"') == []


def test_migrations_notify_on_the_channel_that_is_listened_to() -> None:
    """Every pg_notify of the migrations names `directory.CHANNEL`."""
    notified = re.findall(r"pg_notify\('([^']*)'", "".join(path.read_text() for path in MIGRATIONS.glob("*.sql")))
    assert set(notified) == {directory.CHANNEL}
    product = [path for folder in ("services", "operator") for path in (ROOT / folder).rglob("*.py")]
    literal = re.compile(rf"[\"']{directory.CHANNEL}[\"']")
    defining = [path.name for path in product if literal.search(path.read_text())]
    assert defining == ["directory.py"]
