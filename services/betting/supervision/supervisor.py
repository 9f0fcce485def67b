"""The supervisor of all processes of the platform: starts, restarts, pauses and stops them, and reports their state."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from betting.supervision import logfile, state
from betting.supervision.errors import PlatformError
from betting.supervision.process import ManagedProcess, ProcessSpec

START_TIMEOUT_S = 60.0
ROTATE_INTERVAL_S = 10.0

EXITS_KEPT = 32
HEALING_LINES = 8

Progress = Callable[[str, float], None]  # name of what became ready, seconds it took


class ProcessExit(NamedTuple):
    """The end of one life. at_s: on the clock of time.monotonic()."""

    instance: str
    boot_id: str
    how: str
    at_s: float


class Supervisor:
    """Used by one event loop, in the main thread: children get a signal when the thread that started them ends."""

    def __init__(self, state_file: Path, ports: dict[str, int], note: Callable[[str], None]) -> None:
        self._state_file = state_file
        self._ports = ports
        self._note = note
        self._started_at_us = time.time_ns() // 1_000
        self._processes: dict[str, ManagedProcess] = {}
        self._saving: asyncio.Handle | None = None
        self._watchers: set[asyncio.Event] = set()
        self.exits: deque[ProcessExit] = deque(maxlen=EXITS_KEPT)
        self._healing: deque[str] = deque(maxlen=HEALING_LINES)
        self._rotation: asyncio.Task[None] | None = None
        self._failing: set[str] = set()

    @property
    def processes(self) -> list[state.ProcessState]:
        """The state of every process, in the order they were started."""
        return [each.state for each in self._processes.values()]

    async def start(self, specs: Iterable[ProcessSpec], progress: Progress, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts processes side by side and returns when all are ready. Raises PlatformError on the first failure."""
        if self._rotation is None:
            self._rotation = asyncio.create_task(self._rotate_logs(), name="rotate logs")
        started = [self._add(spec) for spec in specs]
        try:
            async with asyncio.TaskGroup() as group:
                for each in started:
                    group.create_task(self._await_ready(each, progress, timeout_s))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signals one process through its own child handle. Raises PlatformError when it is unknown or not running."""
        self._named(name).send(number)

    def kill_life(self, name: str, boot_id: str) -> None:
        """Kills one life of a process. Raises PlatformError when it is unknown, OtherLife when that life is over."""
        self._named(name).kill_life(boot_id)

    def boot_id(self, name: str) -> str:
        """The boot id of the current or the last life of a process. Raises PlatformError for an unknown process."""
        return self._named(name).state.boot_id

    def silent_ms(self, name: str) -> int:
        """How long a process has not answered its probe. Raises PlatformError for an unknown process."""
        return self._named(name).silent_ms

    def workload_of(self, name: str) -> str:
        """The workload of a process. Raises PlatformError for an unknown process."""
        return self._named(name).spec.workload or name

    def health_address_of(self, name: str) -> str:
        """The address of its health server; "": it serves health at its address.

        Raises PlatformError for an unknown process.
        """
        return self._named(name).spec.health_address

    def address_of(self, name: str) -> str:
        """The address that the healer probes; "": none. Raises PlatformError for an unknown process."""
        return self._named(name).spec.address

    @contextmanager
    def watched(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever a process changes; the waiter clears it."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            yield changed
        finally:
            self._watchers.discard(changed)

    def report_healing(self, lines: Iterable[str]) -> None:
        """Adds lines of the healer for people; the latest are kept in the state file."""
        for line in lines:
            self._healing.append(line)
            self._note(f"healer: {line}")
        self._save_soon()

    async def stop(self, names: Iterable[str] | None = None) -> None:
        """Stops the named processes side by side; without names all of them, the last started first."""
        if names is not None:
            await asyncio.gather(*(self._named(name).stop() for name in names))
            return
        for each in reversed(list(self._processes.values())):
            await each.stop()
        if self._rotation is not None:
            self._rotation.cancel()
            self._rotation = None
        self._save()

    def kill_now(self) -> None:
        """SIGKILL to every process; returns without waiting for their exits."""
        for each in self._processes.values():
            each.kill_now()

    def _add(self, spec: ProcessSpec) -> ManagedProcess:
        def ended(boot_id: str, how: str) -> None:
            self.exits.append(ProcessExit(spec.name, boot_id, how, time.monotonic()))

        process = self._processes[spec.name] = ManagedProcess(spec, self._save_soon, self._note, ended=ended)
        process.start()
        return process

    async def _await_ready(self, process: ManagedProcess, progress: Progress, timeout_s: float) -> None:
        began_s = time.monotonic()
        await process.wait_ready(timeout_s)
        progress(process.spec.name, time.monotonic() - began_s)

    def _named(self, name: str) -> ManagedProcess:
        try:
            return self._processes[name]
        except KeyError:
            raise PlatformError(f"There is no process {name}: there are {', '.join(self._processes)}.") from None

    def _save_soon(self) -> None:
        """Many changes of one moment make one write; watchers hear of each."""
        for changed in self._watchers:
            changed.set()
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_soon(self._save)

    def _save(self) -> None:
        """A disk that takes no writes leaves the last file in place, and stops nothing: this is reported once."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        now = state.PlatformState(os.getpid(), self._started_at_us, self._ports, self.processes, list(self._healing))
        with self._noting_failures(f"{self._state_file} is not written", "`betting status` shows an older state"):
            state.save(self._state_file, now)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_INTERVAL_S)
            for each in self._processes.values():
                with self._noting_failures(f"{each.spec.log} is not rotated", "it goes on growing"):
                    await asyncio.to_thread(logfile.rotate, each.spec.log)

    @contextmanager
    def _noting_failures(self, problem: str, meanwhile: str) -> Iterator[None]:
        """Notes once that work on a file fails (say, the disk is full), and once that it works again.

        The platform goes on: it needs none of these files to run.
        """
        try:
            yield
        except OSError as error:
            if problem not in self._failing:
                self._failing.add(problem)
                self._note(f"{problem} ({error.strerror or error}): {meanwhile}")
        else:
            if problem in self._failing:
                self._failing.discard(problem)
                self._note(f"{problem}: over")
