"""Writes the acknowledgements that bettors received, one JSON object per line, durable in batches; the audit looks for
each.

The format is that of `betting.audit.acknowledgements`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from betting.runtime.loops import woken_within
from betting.supervision.errors import from_os_error

FLUSH_INTERVAL_S = 0.1


class AckFile:
    """Lines wait in memory for at most one interval; `written` counts those that are on the disk."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._waiting: list[dict[str, Any]] = []
        self.written = 0

    def add(self, line: dict[str, Any]) -> None:
        """One acknowledgement."""
        self._waiting.append(line)

    async def flush(self) -> None:
        """Writes what waits, and returns once the disk has it."""
        lines, self._waiting = self._waiting, []
        if lines:
            await asyncio.to_thread(self._write, lines)
            self.written += len(lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        try:
            self._file.writelines(json.dumps(line) + "\n" for line in lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise from_os_error(error, "writing down acknowledgements") from error


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[AckFile]:
    """An empty file of acknowledgements; everything added is on the disk when this ends. Raises PlatformError."""
    with path.open("w", encoding="utf-8") as file:
        acks = AckFile(file)
        done = asyncio.Event()
        flusher = asyncio.create_task(_flush_until(done, acks), name="write acknowledgements")
        try:
            yield acks
        finally:
            done.set()  # not cancelled: lines already taken for writing must reach the disk
            await flusher
            await acks.flush()


async def _flush_until(done: asyncio.Event, acks: AckFile) -> None:
    while not done.is_set():
        await woken_within(done, FLUSH_INTERVAL_S)
        await acks.flush()
