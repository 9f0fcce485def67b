"""The supervisor of one machine keeps the contract of the platform port, on real processes."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import in_process
import pytest
from platform_contract import PlatformContract, World

from betting.runtime.principal import service_principal
from betting.supervision import control
from betting.supervision.process import ProcessSpec
from betting.supervision.spawning import Command
from betting.supervision.supervisor import Supervisor
from betting_operator.platforms.supervisor import SupervisorPlatform

WORKER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
SECRET = bytes.fromhex(in_process.SECRET)


class SupervisedWorld(World):
    def __init__(self, folder: Path, supervisor: Supervisor, address: str) -> None:
        self.platform = SupervisorPlatform(address, _token, folder)
        self._supervisor = supervisor
        self.serving = AsyncExitStack()

    async def crash(self, instance: str) -> None:
        self._supervisor.signal(instance, signal.SIGKILL)

    async def go_silent(self) -> None:
        await self.serving.aclose()

    def note_exit(self) -> None:
        self.exited += 1


def _token() -> bytes:
    return service_principal("test", SECRET, time.time_ns() // 1_000)


def _worker(folder: Path, name: str) -> ProcessSpec:
    log = folder / f"{name}.log"

    async def is_up() -> bool:
        return "up" in log.read_text()

    command = Command((sys.executable, "-I", "-S", "-c", WORKER), folder)
    return ProcessSpec(name, lambda: command, is_up, log, workload="worker", address="127.0.0.1:1")


class TestSupervisorPlatform(PlatformContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        supervisor = Supervisor(tmp_path / "state.json", {}, note=lambda _line: None)
        address = in_process.free_address()
        world = SupervisedWorld(tmp_path, supervisor, address)
        async with world.serving:
            await world.serving.enter_async_context(control.serving(supervisor, address, SECRET))
            watching = asyncio.create_task(world.platform.run(world.note_exit))
            try:
                await supervisor.start([_worker(tmp_path, f"worker-{n}") for n in (1, 2)], lambda _name, _s: None)
                yield world
            finally:
                watching.cancel()
                await asyncio.wait([watching])
                await world.platform.close()
                await supervisor.stop()
