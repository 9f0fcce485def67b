"""The commands of docs/runbooks: those of Kubernetes stand in blocks of their own, those of a laptop in the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
INDEX = FOLDER / "README.md"
# What changes something, in the order in which it can be tried: a plan needs shards that nobody has thawed.
ACTS = ("edit ", "rebalance ", "heal pause ", "heal resume", "thaw ", "cordon ", "uncordon ", "taint ", "delete ")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(betting [^`]+)`")
_VARIABLE = re.compile(r"[A-Z]+=\S+")


def pages() -> list[Path]:
    """The index and every page."""
    return sorted(FOLDER.glob("*.md"))


def settings() -> str:
    """The block of the index that says what to set before."""
    _language, block = _BLOCK.findall(INDEX.read_text("utf-8"))[0]
    return str(block)


def blocks(page: Path) -> Iterator[list[str]]:
    """The commands of each block, without what is set before; one may have several lines."""
    for language, block in _BLOCK.findall(page.read_text("utf-8")):
        assert language == "sh", f"{page.name}: a block of another language is not run: {block}"
        found, text = [], ""
        for line in block.splitlines(keepends=True):
            text += line
            if _is_whole(text):
                if not _VARIABLE.fullmatch(text.partition("#")[0].strip()):
                    found.append(text.strip())
                text = ""
        assert not text, f"{page.name}: no end of {text}"
        yield found


def act_of(command: str) -> int | None:
    """Its place in ACTS; None: it only looks."""
    return next((place for place, each in enumerate(ACTS) if f" {each}" in command), None)


def spans(page: Path) -> Iterator[str]:
    """Each command for a laptop that stands in the page's text."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    yield from _SPAN.findall(re.sub(r"\s+", " ", text))


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation without an end
        return False
    return not text.rstrip().endswith("\\")
