"""Writes the flight record: a file until it is large, then the next; the oldest go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO

from betting_operator.healing import flight
from betting_operator.healing.flight import Record
from betting_operator.healing.memory import Memory

FILE_BYTES_MAX = 16 * 1024 * 1024
FILES_KEPT = 4
PATTERN = "flight-*.jsonl"


class Recorder:
    """One per healer. A disk that is full stops the record, not the healing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self.problem = ""

    def write(self, before: Memory, record: Record) -> None:
        """Adds a tick; `before` is the memory it started from, which begins each file."""
        try:
            if self._file is None or self._file.tell() >= FILE_BYTES_MAX:
                self._begin(before)
            assert self._file is not None
            self._file.write(flight.line(record) + "\n")
            self._file.flush()
            self.problem = ""
        except OSError as error:
            self.close()
            self.problem = str(error)

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _begin(self, memory: Memory) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in files(self._folder)[: -FILES_KEPT + 1 or None]:
            old.unlink(missing_ok=True)
        self._file = (self._folder / f"flight-{time.time_ns() // 1_000}.jsonl").open("w", encoding="utf-8")
        self._file.write(flight.opening(memory) + "\n")


def files(folder: Path) -> list[Path]:
    """The flight records of a folder, oldest first."""
    return sorted(folder.glob(PATTERN))
