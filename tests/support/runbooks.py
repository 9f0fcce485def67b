"""The commands of docs/runbooks: those of Kubernetes stand in blocks of their own, those of a laptop in the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
INDEX = FOLDER / "README.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:kubectl )?betting [^`]+)`|`(kubectl [^`]+)`")
_VARIABLE = re.compile(r"[A-Z]+=\S+")


def pages() -> list[Path]:
    """The index and every page."""
    return sorted(FOLDER.glob("*.md"))


def settings() -> str:
    """The block of the index that says what to set before."""
    _language, block = _BLOCK.findall(INDEX.read_text("utf-8"))[0]
    return str(block)


def commands(page: Path) -> Iterator[str]:
    """Each command of the page's blocks, without what is set before; one may have several lines."""
    for language, block in _BLOCK.findall(page.read_text("utf-8")):
        assert language == "sh", f"{page.name}: a block of another language is not run: {block}"
        text = ""
        for line in block.splitlines(keepends=True):
            text += line
            if _is_whole(text):
                if not _VARIABLE.fullmatch(text.partition("#")[0].strip()):
                    yield text.strip()
                text = ""
        assert not text, f"{page.name}: no end of {text}"


def spans(page: Path) -> Iterator[str]:
    """Each command that stands in the page's text."""
    text = _BLOCK.sub("", page.read_text("utf-8"))
    for either, other in _SPAN.findall(re.sub(r"\s+", " ", text)):
        yield either or other


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation without an end
        return False
    return not text.rstrip().endswith("\\")
