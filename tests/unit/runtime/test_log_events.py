"""Log events are short lower-case phrases; values are fields of the line, never parts of the phrase."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(
    path
    for package in ("services/betting", "operator/betting_operator")
    for path in (ROOT / package).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def events(source: str) -> Iterator[ast.expr]:
    """What a module logs: the first argument of a logger's methods, and the events it gives to FailureLog and forever.

    A logger is what is called `log`, `_log` or `_LOG`, or comes from `logs.get`.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "event" and is_text(keyword.value))
        called = ast.unparse(node.func)
        receiver, _, method = called.rpartition(".")
        is_logger = receiver.rpartition(".")[2].lower().lstrip("_") == "log" or receiver.startswith("logs.get(")
        if is_logger and method in LEVELS:
            yield from node.args[:1]
        elif (is_logger and method == "log") or called.endswith("FailureLog"):
            yield from node.args[1:2]


def is_text(value: ast.expr) -> bool:
    """A literal string, with values in it or without."""
    return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


def wrong(event: ast.expr) -> str:
    """What is wrong with a log event; "" for a phrase, and for what is no literal."""
    if isinstance(event, ast.JoinedStr):
        return "has values in it: make them fields"
    text = event.value if isinstance(event, ast.Constant) else "a variable"
    if not isinstance(text, str) or not text:
        return "is no phrase"
    if "_" in text:
        return "has an underscore"
    return "begins with a capital" if text[0].isupper() else ""


def test_log_events_are_lower_case_phrases_without_values() -> None:
    """In every module of both packages."""
    found = [(path, event) for path in SOURCES for event in events(path.read_text("utf-8"))]
    assert len(found) > 100
    assert [
        f"{path.relative_to(ROOT)}:{event.lineno}: {ast.unparse(event)} {wrong(event)}"
        for path, event in found
        if wrong(event)
    ] == []


@pytest.mark.parametrize(
    "line",
    [
        '_log.info("shard_frozen", shard=3)',
        'self._log.error("Shard frozen")',
        'context.log.warning(f"shard {shard} frozen")',
        'logs.get(name).critical("shard_frozen")',
        '_LOG.log(level, "shard_frozen")',
        'FailureLog(_log, "not_read")',
        'await forever(work, every_s=1.0, log=_log, event="not_read")',
    ],
)
def test_the_scan_finds_other_events(line: str) -> None:
    """Each way in which an event is given to a log."""
    [event] = events(line)
    assert wrong(event)
