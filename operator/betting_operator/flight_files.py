"""The files of a flight record: which there are, compressing them, and reading them."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

from betting.runtime import logs
from betting_operator.healing import flight
from betting_operator.healing.flight import Record

PATTERN, PACKED = "flight-*.jsonl", ".gz"
PLAIN_FILES = 2  # the one that is written, and the one before: a healer that is about to end may still write that
# What reading a file may raise.
UNREADABLE = (OSError, EOFError, zlib.error)

_log = logs.get(__name__)


def files(folder: Path) -> list[Path]:
    """The flight records of a folder, oldest first."""
    plain = list(folder.glob(PATTERN))  # first: one that is compressed meanwhile is then in both lists
    packed = set(folder.glob(PATTERN + PACKED))
    return sorted(packed.union(file for file in plain if _packed(file) not in packed))


def pack(folder: Path) -> None:
    """Compresses all files but the newest ones, each whole or not at all. Raises nothing: it is tried again."""
    for rest in (*folder.glob(f".{PATTERN}{PACKED}"), *(f for f in folder.glob(PATTERN) if _packed(f).exists())):
        rest.unlink(missing_ok=True)  # of a healer that was killed meanwhile
    for file in files(folder)[:-PLAIN_FILES]:
        if file.suffix == PACKED:
            continue
        part = _packed(file).with_name(f".{file.name}{PACKED}")
        try:
            part.touch(mode=0o600)
            with file.open("rb") as whole, gzip.open(part, "wb") as target:
                shutil.copyfileobj(whole, target)
            part.replace(_packed(file))
            file.unlink()
        except OSError as error:
            part.unlink(missing_ok=True)
            if file.exists():  # else it was deleted as one of the oldest
                _log.warning("flight record not compressed", file=file.name, problem=str(error))


def opened(file: Path) -> TextIO:
    """One flight record to read, compressed or not, or meanwhile. Raises UNREADABLE, also while it is read."""
    if file.suffix != PACKED:
        try:
            return file.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            if not _packed(file).exists():
                raise
            file = _packed(file)
    return gzip.open(file, "rt", encoding="utf-8", errors="replace")


def why_unreadable(error: BaseException) -> str:
    """For people, of one of UNREADABLE."""
    return (isinstance(error, OSError) and error.strerror) or f"damaged: {error}"


def _packed(file: Path) -> Path:
    return file.with_name(file.name + PACKED)


def records(folder: Path, left_out: Callable[[str], None] = lambda _sentence: None) -> Iterator[Record]:
    """Every readable tick, oldest first. left_out: called with a sentence for each damaged file or line.

    An incomplete last line is left out without a call.
    """
    for file in files(folder):
        try:
            with opened(file) as lines:
                whole = (line for line in lines if line.endswith("\n"))
                first = next(whole, None)
                if first is None:
                    left_out(f"{file.name} is left out: it is empty")
                    continue
                yield from flight.read(chain([first], whole))[1]
        except flight.OtherVersion as error:
            left_out(f"{file.name} is left out: {error}")
        except flight.BadRecord as error:
            left_out(f"{file.name} is left out from there on: {error}")
        except UNREADABLE as error:
            left_out(f"{file.name} is left out from there on: {why_unreadable(error)}")
