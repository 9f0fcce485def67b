"""A life is a value; its text is written and read in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import betting
import betting_operator
from betting.life import METADATA_KEY, Life, named

LIFE = Life("bet-service", "bet-service-7c9d-x2x4q", "0f3c")
GLUED = re.compile(r"""["'}]@\{|partition\(["']@["']\)|split\(["']@["']""")


def test_the_text_of_a_life_reads_back() -> None:
    """Instance names of pods included."""
    assert str(LIFE) == "bet-service-7c9d-x2x4q@0f3c"
    assert Life.parse("bet-service", str(LIFE)) == LIFE


@pytest.mark.parametrize("text", ["", "bet-service-1", "@0f3c", "bet-service-1@"])
def test_other_text_is_refused(text: str) -> None:
    """With the text in the message."""
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Life.parse("bet-service", text)


def test_a_reply_names_its_life_and_is_understood() -> None:
    """All three parts in one value."""
    assert LIFE.metadata == (METADATA_KEY, "bet-service/bet-service-7c9d-x2x4q@0f3c")
    assert named(LIFE.metadata[1]) == LIFE


@pytest.mark.parametrize("value", [None, b"bet-service/a@b", "", "/", "a@b", "/a@b", "bet-service/", "bet-service/a@"])
def test_a_reply_that_names_nobody_is_from_nobody(value: str | bytes | None) -> None:
    """Never an error: a call does not fail because of it."""
    assert named(value) is None


def test_only_one_module_writes_and_reads_the_text() -> None:
    """Names of users, hosts, credentials, images and requests have an @ too: their modules are named here."""
    others = {
        "users/inputs.py",
        "runtime/redis.py",
        "runtime/redis_link.py",
        "kubernetes/databases.py",
        "kubernetes/spec.py",
        "embedded/postgres.py",
        "embedded/valkey.py",
        "healer/redis_watch.py",
        "plugin/drill.py",
    }
    folders = [Path(path) for path in (*betting.__path__, *betting_operator.__path__)]
    found = {
        str(module.relative_to(folder))
        for folder in folders
        for module in folder.rglob("*.py")
        if "_pb2" not in module.name and GLUED.search(module.read_text("utf-8"))
    }
    assert found - others <= {"life.py"}
