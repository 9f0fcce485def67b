"""What docs/runbooks tell to type on a laptop is there; what they tell of a cluster is run by tests/kubernetes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import runbooks
import typer

from betting.cli.main import build

# A word in capitals stands for one of the reader's.
PLACEHOLDERS = {"SHARD": "3", "NAME": "bet-service-1"}


def problem(command: str) -> str:
    """What the command line says against it; "" if it could be run. Nothing is."""
    _betting, *words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    found: Any = typer.main.get_command(build(words))
    while known := getattr(found, "commands", None):
        name = words.pop(0) if words else ""
        if name not in known:
            return f"no such command: {name}"
        found = known[name]
    try:
        found.make_context(found.name, words)
    except Exception as error:  # of the click that typer has in it, which is not public
        return str(getattr(error, "message", "")) or type(error).__name__
    return ""


@pytest.mark.parametrize("page", runbooks.pages(), ids=lambda page: page.stem)
def test_every_command_for_a_laptop_exists_with_its_options(page: Path) -> None:
    found = [each for each in runbooks.spans(page) if "…" not in each]
    assert [f"{each}: {problem(each)}" for each in found if problem(each)] == []


def test_every_page_has_commands_for_kubernetes_with_the_variables_of_the_index() -> None:
    """And no block of anything else: whatever is in one is run. What looks and what acts are not pasted together."""
    known = set(re.findall(r"^([A-Z]+)=", runbooks.settings(), re.MULTILINE))
    used = set()
    for page in runbooks.pages():
        found = list(runbooks.blocks(page))
        assert any(found), page.name
        for block in found:
            assert [each for each in block if not each.startswith("kubectl ")] == [], page.name
            assert len({runbooks.act_of(each) is None for each in block}) <= 1, f"{page.name}: {block}"
            used |= {name for each in block for name in re.findall(r"\$([A-Z]+)\b", each)}
    assert used == known


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("betting heel log", "no such command: heel"),
        ("betting heal", "no such command: "),
        ("betting heal pause", "MissingParameter"),
        ("betting audit --al", "No such option: --al"),
        ("betting unfreeze one", "integer"),
        ("betting unfreeze SHARD", ""),
    ],
)
def test_the_check_itself_finds_what_is_not_there(command: str, wrong: str) -> None:
    assert wrong in problem(command)
    assert bool(problem(command)) is bool(wrong)
