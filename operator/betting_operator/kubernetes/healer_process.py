"""The healer as a child of the operator that leads: a process of its own, so that neither delays the other.

The healer judges others by time, and its own pauses void its evidence; a large list of objects must not make one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from betting.runtime import logs

STOP_TIMEOUT_S = 5.0
RESTART_MIN_S = 1.0
RESTART_MAX_S = 30.0
# A healer that ran this long has started well: its next end is a first one.
STEADY_AFTER_S = 60.0

_log = logs.get(__name__)


class HealerProcess:
    """Runs it while there is an environment for it, and starts it again when it ends."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] | None = None
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    def want(self, environment: Mapping[str, str] | None) -> None:
        """Its environment variables; None: it should not run. Another environment starts it anew."""
        wanted = None if environment is None else dict(environment)
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """For the life of the operator; a cancellation stops the healer."""
        pause_s = RESTART_MIN_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._changed.clear()
                if self._wanted is None:
                    await self._changed.wait()
                    continue
                began_s = loop.time()
                ended = await self._until_ended(self._wanted)
                if not ended:
                    pause_s = RESTART_MIN_S
                    continue
                pause_s = RESTART_MIN_S if loop.time() - began_s > STEADY_AFTER_S else min(2 * pause_s, RESTART_MAX_S)
                _log.error("healer ended", exit_code=ended, restarted_in_s=pause_s)
                await asyncio.sleep(pause_s)
        finally:
            await self._stop()

    def pids(self) -> tuple[int, ...]:
        """The process, if it runs: who loses the Lease kills it, from any thread, as another leader may act."""
        process = self._process
        return () if process is None or process.returncode is not None else (process.pid,)

    async def _until_ended(self, environment: dict[str, str]) -> str:
        """Its exit code, as text, or "" when it was stopped because another one is wanted."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "betting.runtime.launch",
            "betting_operator.healer",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
        )
        _log.info("healer started", pid=self._process.pid)
        ended = asyncio.ensure_future(self._process.wait())
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return str(ended.result())
            await self._stop()
            return ""
        finally:
            changed.cancel()
            ended.cancel()

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
