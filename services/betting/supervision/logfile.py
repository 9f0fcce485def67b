"""Log files of bounded size. Children write into them directly: a slow supervisor never blocks a service."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

MAX_BYTES = 16 * 1024 * 1024
KEPT = 2
TAIL_BYTES = 4_000


def open_for_child(path: Path) -> IO[bytes]:
    """Opens for appending: after a truncation the child goes on at the new end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def rotate(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Moves the content to `.1` (and that to `.2`) once it is too long. True when it did.

    Copies and truncates, because the child keeps the file open: what it writes within that instant can be lost.
    Raises OSError; then the content is where it was.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(KEPT, 1, -1):
        older = _numbered(path, number - 1)
        if older.exists():
            os.replace(older, _numbered(path, number))
    try:
        shutil.copyfile(path, _numbered(path, 1))
    except OSError:
        _numbered(path, 1).unlink(missing_ok=True)
        raise
    os.truncate(path, 0)
    return True


def last_words(path: Path) -> str:
    """The last line that says something: what a person needs to see first when a process died."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return "it left no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def all_in(folder: Path) -> list[Path]:
    """Every process's log and what was rotated, by process, the newest first.

    Read in this order nothing is missed when a log is rotated meanwhile; some of it may come twice. Raises OSError.
    """
    found = []
    for log in sorted(folder.glob("*.log*")):
        process, _, number = log.name.partition(".log")
        if log.is_file() and (not number or number[1:].isdecimal()):
            found.append((process, int(number[1:] or 0), log))
    return [log for _process, _number, log in sorted(found)]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
