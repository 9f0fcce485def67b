"""The children of a supervised process: Postgres works in them, and they go on while only their parent is paused."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil


def of(pid: int) -> list[psutil.Process]:
    """All descendants at this moment, each known by its start as well: a reused process id is never signalled."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def pause(children: Iterable[psutil.Process]) -> None:
    """SIGSTOP to each that is still there."""
    for child in children:
        with suppress(psutil.Error):
            child.suspend()


def unpause(children: Iterable[psutil.Process]) -> None:
    """SIGCONT to each that is still there."""
    for child in children:
        with suppress(psutil.Error):
            child.resume()
