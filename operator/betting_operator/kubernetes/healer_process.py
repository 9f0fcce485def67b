"""The healer as a child of the operator that leads: a process of its own, so that neither delays the other.

The healer judges others by time, and its own pauses void its evidence; a large list of objects must not make one.
Most of its start is importing. So the process is there before it is wanted, also while this operator stands by: it has
imported everything, and waits for its environment on its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from betting.runtime import logs
from betting.runtime.launch import ENVIRONMENT_FOLLOWS
from betting_operator.healing.policy import Policy, encoded
from betting_operator.kubernetes.pod_faults import last_words
from betting_operator.kubernetes.status import Healer

STOP_TIMEOUT_S = 5.0
RESTART_MIN_S = 1.0
RESTART_MAX_S = 30.0
# A healer that ran this long has started well: its next end is a first one.
STEADY_AFTER_S = 60.0
# What is wrong with its settings or the schema ends it within a few seconds.
STARTED_AFTER_S = 10.0
# A healer whose main loop has not run for so long hangs. Bet-services take over by themselves after 10 s.
SILENT_MAX_S = 15.0
LOOK_S = 1.0
STDERR_FILENO = 2
POLICY_FILE = Path("/tmp/healing-policy.json")  # noqa: S108  (an emptyDir of the pod)
# Of what it writes to stderr so much is remembered: the last line says why it ended.
_TAIL_BYTES = 4_096
_TAIL_TIMEOUT_S = 1.0

_log = logs.get(__name__)


class HealerProcess:
    """Keeps it ready, lets it work while there is an environment for it, and starts it again when it ends or hangs.

    policy_file: where it reads what it may do. signs: the file that it touches for as long as its main loop runs; None:
    whether it hangs is not looked at.
    """

    def __init__(self, policy_file: Path = POLICY_FILE, signs: Path | None = None) -> None:
        self._policy_file = policy_file
        self._signs = signs
        self._not_told = ""
        self._wanted: dict[str, str] | None = None
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._works = False
        self._began_s = 0.0
        self._ended = ""

    @property
    def running(self) -> bool:
        """Whether the process works now: it runs, and has its environment."""
        return self._works and bool(self.pids())

    def state(self) -> Healer:
        """How it is now. After an end it counts as ended until it has run for a while: it may end again."""
        lived_s = time.monotonic() - self._began_s if self.running else 0.0
        if self._ended and lived_s < STEADY_AFTER_S:
            return Healer(ended=self._ended)
        return Healer(runs=lived_s >= STARTED_AFTER_S, not_told=self._not_told)

    def want(self, environment: Mapping[str, str] | None, policy: Policy | None = None) -> None:
        """Its environment variables; None: it should not run. Another environment starts it anew, another policy does
        not: it reads that with its next tick. No policy: as its environment says."""
        wanted = None if environment is None else dict(environment)
        if wanted is not None and policy is not None:
            self._tell(policy)
            wanted["BETTING_HEAL_POLICY_FILE"] = str(self._policy_file)
        if wanted != self._wanted:
            self._wanted = wanted
            self._ended = ""
            self._changed.set()

    def _tell(self, policy: Policy) -> None:
        """Replaces the file, whole, where it says anything else."""
        text = encoded(policy)
        try:
            if self._policy_file.exists() and self._policy_file.read_text("utf-8") == text:
                self._not_told = ""
                return
            new = self._policy_file.with_suffix(f".{os.getpid()}")
            new.write_text(text, "utf-8")
            new.replace(self._policy_file)
        except (OSError, UnicodeDecodeError) as error:
            if not self._not_told:
                _log.error("policy not written", problem=str(error))
            self._not_told = str(error)
            return
        self._not_told = ""
        _log.info("policy written", policy=text)

    async def run(self) -> None:
        """For the life of the operator, from before it leads; a cancellation stops the healer."""
        pause_s = RESTART_MIN_S
        try:
            while True:
                ended = await self._until_ended()
                if not ended:
                    pause_s = RESTART_MIN_S
                    continue
                lived_s = time.monotonic() - self._began_s
                pause_s = RESTART_MIN_S if lived_s > STEADY_AFTER_S else min(2 * pause_s, RESTART_MAX_S)
                self._ended = "" if self._wanted is None else ended
                _log.error("healer ended", problem=ended, restarted_in_s=pause_s)
                await asyncio.sleep(pause_s)
        finally:
            await self._stop()

    def pids(self) -> tuple[int, ...]:
        """The process, if it runs: who loses the Lease kills it, from any thread, as another leader may act."""
        process = self._process
        return () if process is None or process.returncode is not None else (process.pid,)

    async def _until_ended(self) -> str:
        """Starts it. How it ended, see `how_it_ended`; "" when it was stopped because another one is wanted."""
        self._works, self._began_s = False, time.monotonic()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "betting.runtime.launch", "betting_operator.healer", ENVIRONMENT_FOLLOWS),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        tail, ended = _Tail(process.stderr), asyncio.ensure_future(process.wait())
        try:
            environment = await self._wanted_before(ended)
            if environment is not None:
                process.stdin.write(json.dumps(environment).encode() + b"\n")
                process.stdin.close()
                self._works, self._began_s = True, time.monotonic()
                _log.info("healer started", pid=process.pid)
                if await self._hangs_before(ended):
                    process.kill()
                    await ended
                    return f"no sign of life for {SILENT_MAX_S:g} s: it was killed"
            if ended.done():
                return how_it_ended(ended.result(), await tail.text())
            await self._stop()
            await tail.text()
            return ""
        finally:
            ended.cancel()
            tail.close()

    async def _wanted_before(self, ended: asyncio.Future[int]) -> dict[str, str] | None:
        """The environment, once there is one; None: the process has ended before."""
        while True:
            self._changed.clear()
            if self._wanted is not None or ended.done():
                return None if ended.done() else self._wanted
            await self._changes(ended)

    async def _hangs_before(self, ended: asyncio.Future[int]) -> bool:
        """Whether it hangs, before it ends or something else is wanted."""
        silence = Silence(self._signs)
        while not ended.done() and not self._changed.is_set():
            await self._changes(ended, LOOK_S)
            if silence.seconds(time.monotonic()) >= SILENT_MAX_S:
                return not ended.done()
        return False

    async def _changes(self, ended: asyncio.Future[int], timeout_s: float | None = None) -> None:
        """Until something else is wanted, it has ended, or the time is over."""
        changed = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait((ended, changed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Silence:
    """For how long a file that was touched once has not been again.

    What touched it before does not count. Nor does time in which nobody looked: whoever looks may have been stopped,
    and the healer with him.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seen_ns = self._touched_ns()
        self._begun = False
        self._looked_s: float | None = None
        self._silent_s = 0.0

    def seconds(self, now_s: float) -> float:
        """As of now, by a monotonic clock; 0.0 until it has begun, and while the file is not there."""
        since_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, 2 * LOOK_S)
        self._looked_s = now_s
        touched_ns = self._touched_ns()
        self._begun = self._begun or touched_ns not in (None, self._seen_ns)
        if not self._begun or touched_ns is None or touched_ns != self._seen_ns:
            self._silent_s = 0.0
        else:
            self._silent_s += since_s
        self._seen_ns = touched_ns
        return self._silent_s

    def _touched_ns(self) -> int | None:
        try:
            return None if self._file is None else self._file.stat().st_mtime_ns
        except OSError:
            return None


class _Tail:
    """Passes on what a process writes to stderr, to ours, and remembers the end of it."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._tail = b""
        self._reading = asyncio.create_task(self._read())

    async def text(self) -> str:
        """Its end, once the process has ended: what is still in the pipe is read first."""
        await asyncio.wait((self._reading,), timeout=_TAIL_TIMEOUT_S)
        return self._tail.decode(errors="replace")

    def close(self) -> None:
        """Reads no more."""
        self._reading.cancel()

    async def _read(self) -> None:
        while data := await self._stream.read(_TAIL_BYTES):
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            with contextlib.suppress(OSError):
                os.write(STDERR_FILENO, data)


def how_it_ended(code: int, stderr: str) -> str:
    """The end of a process for people. code: as subprocess gives it, negative for a signal."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    words = last_words(stderr)
    return f"{how}: {words}" if words else how
