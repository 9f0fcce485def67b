"""Writes and reads the flight record: files of a limited size, of which the oldest are deleted.

Healing never depends on it. What cannot be written is kept in memory up to a limit, and written once the disk takes it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from betting.runtime import logs, metrics
from betting_operator.healing import flight
from betting_operator.healing.flight import Record
from betting_operator.healing.memory import Memory

FILE_BYTES_MAX = 16 * 1024 * 1024
FOLDER_FILES = 4  # so many full ones at most
KEPT_BYTES_MAX = 2 * 1024 * 1024
RETRY_S = 5.0
PATTERN = "flight-*.jsonl"

_log = logs.get(__name__)


class Recorder:
    """The recorder of this healer. problem: why it cannot write at the moment; "": it can."""

    def __init__(self, folder: Path, *, file_bytes_max: int = FILE_BYTES_MAX, retry_s: float = RETRY_S) -> None:
        self._folder = folder
        self._file_bytes_max = file_bytes_max
        self._retry_s = retry_s
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._unwritten: deque[tuple[Memory, bytes]] = deque()
        self._retry_at_s = float("-inf")
        self.problem = ""
        self._lost = metrics.counter("betting_healer_record_lost_ticks_total", "Ticks that were never written to disk")
        gauge = metrics.gauge(
            "betting_healer_record_unwritten_ticks", "Ticks in memory that could not be written to disk yet"
        )
        gauge.set_function(lambda: len(self._unwritten))

    def write(self, before: Memory, record: Record) -> None:
        """Adds a tick. Raises nothing for errors of the disk.

        before: the memory before the tick, which begins each file.
        """
        self._unwritten.append((before, (flight.line(record) + "\n").encode()))
        if self.problem and time.monotonic() < self._retry_at_s:
            self._forget()
            return
        try:
            self._write_out()
        except OSError as error:
            if not self.problem:
                _log.error("flight record not written, kept in memory", problem=str(error))
            self.problem = f"{error.strerror or error} ({self._folder})"
            self._retry_at_s = time.monotonic() + self._retry_s
            self.close()
            self._forget()
            return
        if self.problem:
            _log.info("flight record written again")
        self.problem = ""

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _write_out(self) -> None:
        while self._unwritten:
            before, line = self._unwritten[0]
            if self._file is None or self._size >= self._file_bytes_max:
                self._begin(before, line)
                self._prune()
            else:
                self._append(line)
            self._unwritten.popleft()

    def _begin(self, before: Memory, line: bytes) -> None:
        """A new file, whole with its first tick, or none."""
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._folder / f"flight-{time.time_ns() // 1_000}.jsonl"
        self._file, self._size = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), 0
        try:
            self._append((flight.opening(before) + "\n").encode() + line)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise

    def _append(self, data: bytes) -> None:
        """Writes all of it or nothing: what a full disk took of a line is truncated."""
        assert self._file is not None
        try:
            done = 0
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _prune(self) -> None:
        """Deletes empty files and the oldest ones above the limit of the folder, once a new file is good."""
        sizes = {file: file.stat().st_size for file in files(self._folder) if file != self._path}
        for file in (file for file, size in sizes.items() if not size):
            file.unlink(missing_ok=True)
        good = [file for file, size in sizes.items() if size]
        rest = sum(sizes.values())
        for file in good[:-1]:
            if rest <= (FOLDER_FILES - 1) * self._file_bytes_max:
                break
            rest -= sizes[file]
            file.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Drops the oldest ticks in memory above the limit."""
        size = sum(len(line) for _before, line in self._unwritten)
        while size > KEPT_BYTES_MAX and len(self._unwritten) > 1:
            size -= len(self._unwritten.popleft()[1])
            self._lost.inc()


def files(folder: Path) -> list[Path]:
    """The flight records of a folder, oldest first."""
    return sorted(folder.glob(PATTERN))


def records(folder: Path, left_out: Callable[[str], None] = lambda _sentence: None) -> Iterator[Record]:
    """Every readable tick, oldest first. left_out: called with a sentence for each damaged file or line.

    An incomplete last line is left out without a call.
    """
    for file in files(folder):
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
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
        except OSError as error:
            left_out(f"{file.name} is left out: {error.strerror}")
