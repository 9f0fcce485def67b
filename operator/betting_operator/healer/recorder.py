"""Writes the flight record: files of a limited size, compressed a little later, the oldest of them deleted.

Healing never depends on it. What cannot be written is kept in memory up to a limit, and written once the disk takes it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from betting.runtime import logs, metrics
from betting_operator.flight_files import files, pack
from betting_operator.healing import flight
from betting_operator.healing.flight import Record
from betting_operator.healing.memory import Memory

FILE_BYTES_MAX = 16 * 1024 * 1024
FOLDER_FILES = 4  # the bytes of so many full ones at most
KEPT_BYTES_MAX = 2 * 1024 * 1024
RETRY_S = 5.0

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
        self._packing: threading.Thread | None = None
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
            self._close_file()
            self._forget()
            return
        if self.problem:
            _log.info("flight record written again")
        self.problem = ""

    def close(self) -> None:
        """Closes the file; returns once no other one is being compressed, which takes less than a second."""
        self._close_file()
        if self._packing is not None:
            self._packing.join()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _write_out(self) -> None:
        while self._unwritten:
            before, line = self._unwritten[0]
            if self._file is None or self._size >= self._file_bytes_max:
                is_full = self._file is not None
                self._begin(before, line)
                self._prune()
                if is_full:
                    self._pack()
            else:
                self._append(line)
            self._unwritten.popleft()

    def _begin(self, before: Memory, line: bytes) -> None:
        """A new file, whole with its first tick, or none."""
        self._close_file()
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
        sizes = {}
        for file in files(self._folder):
            with suppress(FileNotFoundError):  # it is just being compressed
                if file != self._path:
                    sizes[file] = file.stat().st_size
        for file in (file for file, size in sizes.items() if not size):
            file.unlink(missing_ok=True)
        good = [file for file, size in sizes.items() if size]
        rest = sum(sizes.values())
        for file in good[:-1]:
            if rest <= (FOLDER_FILES - 1) * self._file_bytes_max:
                break
            rest -= sizes[file]
            file.unlink(missing_ok=True)

    def _pack(self) -> None:
        """Beside the ticks: they do not wait for it."""
        if self._packing is None or not self._packing.is_alive():
            self._packing = threading.Thread(target=pack, args=(self._folder,), name="flight-pack", daemon=True)
            self._packing.start()

    def _forget(self) -> None:
        """Drops the oldest ticks in memory above the limit."""
        size = sum(len(line) for _before, line in self._unwritten)
        while size > KEPT_BYTES_MAX and len(self._unwritten) > 1:
            size -= len(self._unwritten.popleft()[1])
            self._lost.inc()
