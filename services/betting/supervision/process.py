"""One supervised child: starts it, waits until it is ready, restarts it when it exits, signals it by its own handle."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from betting.supervision import children, logfile
from betting.supervision.backoff import Backoff
from betting.supervision.errors import PlatformError, SettingsRefused, from_os_error
from betting.supervision.spawning import Command
from betting.supervision.state import ProcessPhase, ProcessState

PROBE_INTERVAL_S = 0.05
ALIVE_INTERVAL_S = 1.0
# Longer than a question and the pause after it can take.
OWN_PAUSE_S = 3.0
EXIT_POLL_S = 0.05
BOOT_ID_BYTES = 8

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class ProcessSpec:
    """What to run and how to tell that it is ready. `command` is asked again at each start.

    workload: what it is an instance of. address: where the healer reaches it, "": it does not. health_address:
    where it answers beside its work, "": there. is_alive: asked every
    second once it was ready. killed_when_silent_s: after so long without an answer the supervisor itself ends it (for
    the healer, whom nobody else heals). exit_code_of_refusal: with which it refuses its settings: before it was ever
    ready it is then not started again.
    """

    name: str
    command: Callable[[], Command]
    is_ready: Probe
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    # Hears the boot id of every life that ended by itself, before the next one starts.
    on_exit: Callable[[str], Awaitable[None]] | None = None
    workload: str = ""
    address: str = ""
    health_address: str = ""
    is_alive: Probe | None = None
    killed_when_silent_s: float | None = None
    exit_code_of_refusal: int | None = None


class OtherLife(Exception):
    """The process runs in another life than the named one. Nothing was done."""


class ManagedProcess:
    """Keeps one process running. Only the wait for the child itself proves its exit."""

    def __init__(
        self,
        spec: ProcessSpec,
        changed: Callable[[], None],
        note: Callable[[str], None],
        *,
        ended: Callable[[str, str], None] = lambda _boot_id, _how: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.spec = spec
        self.state = ProcessState(spec.name)
        self.ready = asyncio.Event()
        self._changed = changed
        self._note = note
        self._ended = ended
        self._draw = draw
        self._backoff = Backoff()
        self._child: subprocess.Popen[bytes] | None = None
        self._problem: PlatformError | None = None
        self._answered_s = 0.0
        self._silent = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the process and keeps it running, in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_alive(), name=f"supervise {self.spec.name}")

    async def wait_ready(self, timeout_s: float, exits_max: int = 3) -> None:
        """Returns once it is ready. Raises PlatformError when it exits too often, takes too long, or (SettingsRefused)
        refuses its settings.
        """
        deadline = time.monotonic() + timeout_s
        while not self.ready.is_set():
            if self._problem is not None:
                raise self._problem
            if self.state.restarts >= exits_max or time.monotonic() > deadline:
                words = logfile.last_words(self.spec.log)
                raise PlatformError(f"{self.spec.name} did not start ({words}): see {self.spec.log}.")
            await asyncio.sleep(PROBE_INTERVAL_S)

    def send(self, number: signal.Signals) -> None:
        """Signals the child; a pause and its end reach its children. Raises PlatformError when there is none now."""
        child = self._child
        if child is None or child.poll() is not None:
            raise PlatformError(f"{self.spec.name} is not running.")
        if number == signal.SIGKILL:
            _kill(child)
        else:
            child.send_signal(number)
        if number == signal.SIGSTOP:
            children.pause(children.of(child.pid))  # asked once it is paused: from then on it makes no more of them
            self._enter(ProcessPhase.PAUSED)
        elif number == signal.SIGCONT and self.state.phase is ProcessPhase.PAUSED:
            children.unpause(children.of(child.pid))
            self._enter(ProcessPhase.READY if self.ready.is_set() else ProcessPhase.STARTING)

    def kill_life(self, boot_id: str) -> None:
        """Kills this life and no other; the next one is started. Raises OtherLife."""
        child = self._child
        if child is None or child.poll() is not None or self.state.boot_id != boot_id:
            raise OtherLife(f"{self.spec.name} is not in the life {boot_id} (any more)")
        _kill(child)

    @property
    def silent_ms(self) -> int:
        """How long it has not answered `is_alive`; 0 if the latest probe was answered."""
        return int((time.monotonic() - self._answered_s) * 1_000) if self._silent else 0

    async def stop(self) -> None:
        """Stops it with its stop signal, with SIGKILL after its stop timeout, and does not start it again."""
        task, self._task = self._task, None
        if task is None:
            return
        self._enter(ProcessPhase.STOPPING)
        child = self._child
        task.cancel()
        await asyncio.wait([task])
        if child is not None:
            await self._end(child)
        self.state.pid = None
        self._enter(ProcessPhase.STOPPED)

    def kill_now(self) -> None:
        """Kills the child at once and does not start it again (a second Ctrl-C)."""
        if self._task is not None:
            self._task.cancel()
        if self._child is not None:
            _kill(self._child)

    async def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.SIGCONT)
        children.unpause(children.of(child.pid))
        child.send_signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                await _exit_of(child)
        except TimeoutError:
            _kill(child)
            await _exit_of(child)

    async def _keep_alive(self) -> None:
        while True:
            started_s = time.monotonic()
            self.state.last_exit = await self._live_or_fail()
            self.state.restarts += 1
            self.state.pid = None
            self._ended(self.state.boot_id, self.state.last_exit)
            if isinstance(self._problem, SettingsRefused):
                self._enter(ProcessPhase.STOPPED)
                return
            self._enter(ProcessPhase.WAITING)
            self._note(f"{self.spec.name}: {self.state.last_exit}, starting it again")
            if self.spec.on_exit is not None:
                await self.spec.on_exit(self.state.boot_id)
            await asyncio.sleep(self._backoff.next_delay_s(time.monotonic() - started_s, self._draw()))

    async def _live_or_fail(self) -> str:
        """Runs one life; returns why it ended, as text. A failed start counts too: a later one may succeed."""
        try:
            code = await self._live_once()
            if code == self.spec.exit_code_of_refusal and not self.state.ready_at_us:
                self._problem = SettingsRefused(f"{logfile.last_words(self.spec.log)}.")
            return describe_exit(code)
        except (PlatformError, OSError) as error:
            problem = error if isinstance(error, PlatformError) else from_os_error(error, f"starting {self.spec.name}")
            self._problem = problem
            return str(problem)

    async def _live_once(self) -> int:
        """From start to exit; the exit code as subprocess gives it (−9 for SIGKILL)."""
        boot_id = os.urandom(BOOT_ID_BYTES).hex()
        command = (await asyncio.to_thread(self.spec.command)).of_life(boot_id)
        with logfile.open_for_child(self.spec.log) as output:
            child = self._child = command.spawn(output, {"BETTING_BOOT_ID": boot_id})
        self._problem = None
        self.state.pid, self.state.boot_id, self.state.started_at_us = child.pid, boot_id, _now_us()
        self._enter(ProcessPhase.STARTING)
        probing = asyncio.create_task(self._watch_for_ready())
        try:
            return await _exit_of(child)
        finally:
            probing.cancel()
            self.ready.clear()
            self._silent = False

    async def _watch_for_ready(self) -> None:
        while True:
            if await self.spec.is_ready():
                break
            await asyncio.sleep(PROBE_INTERVAL_S)
        self.state.ready_at_us = _now_us()
        self.ready.set()
        self._enter(ProcessPhase.READY)
        if self.spec.is_alive is not None:
            await self._watch_alive(self.spec.is_alive)

    async def _watch_alive(self, is_alive: Probe) -> None:
        self._answered_s, self._silent = time.monotonic(), False
        turn_s = time.monotonic()
        while True:
            asked_s = time.monotonic()
            if asked_s - turn_s > OWN_PAUSE_S:  # we were stopped ourselves: that was nobody's silence
                self._answered_s = asked_s
            turn_s = asked_s
            if await is_alive():
                self._answered_s = time.monotonic()
                self._fall_silent(False)
            elif time.monotonic() - asked_s > OWN_PAUSE_S:
                self._answered_s = time.monotonic()
            else:
                self._fall_silent(True)
                self._end_if_silent_too_long()
            await asyncio.sleep(max(0.0, asked_s + ALIVE_INTERVAL_S - time.monotonic()))

    def _fall_silent(self, silent: bool) -> None:
        """Records that it does not answer, or answers again; watchers are notified at once."""
        if silent != self._silent:
            self._silent = silent
            self._changed()

    def _end_if_silent_too_long(self) -> None:
        limit_s = self.spec.killed_when_silent_s
        if limit_s is not None and self._child is not None and self.silent_ms > limit_s * 1_000:
            self._note(f"{self.spec.name}: silent for {self.silent_ms / 1_000:.1f} s, ending it")
            _kill(self._child)

    def _enter(self, phase: ProcessPhase) -> None:
        self.state.phase = phase
        self._changed()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kills the child. What it leaves behind is not left paused: that would keep what the next life needs."""
    family = children.of(child.pid)
    child.kill()
    children.unpause(family)


def describe_exit(code: int) -> str:
    """The exit code as text: "killed by SIGKILL" or "exit code 1"."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


async def _exit_of(child: subprocess.Popen[bytes]) -> int:
    """Waits for the child. Linux tells through a descriptor of the process; elsewhere it is asked every 50 ms."""
    if child.poll() is not None:
        return child.wait()
    if not hasattr(os, "pidfd_open"):
        return await _exit_by_polling(child)
    descriptor = os.pidfd_open(child.pid)
    try:
        await _readable(descriptor)
    finally:
        os.close(descriptor)
    return child.wait()


async def _exit_by_polling(child: subprocess.Popen[bytes]) -> int:
    while True:
        code = child.poll()
        if code is not None:
            return code
        await asyncio.sleep(EXIT_POLL_S)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _now_us() -> int:
    return time.time_ns() // 1_000
