"""The healer as a child of the operator: how its end is told, and what it says is passed on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from betting.runtime.launch import ENVIRONMENT_FOLLOWS
from betting_operator.kubernetes import healer_process
from betting_operator.kubernetes.healer_process import HealerProcess, how_it_ended
from betting_operator.kubernetes.status import Healer

TIMEOUT_S = 60.0


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BETTING_")} | more


@asynccontextmanager
async def running(healer: HealerProcess) -> AsyncIterator[None]:
    task = asyncio.create_task(healer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(healer: HealerProcess, holds: Callable[[Healer], bool]) -> Healer:
    async with asyncio.timeout(TIMEOUT_S):
        while not holds(state := healer.state()):  # noqa: ASYNC110  (a process starts or ends)
            await asyncio.sleep(0.02)
    return state


async def test_a_healer_that_ends_is_told_with_its_exit_code_and_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    """They are in the operator's own output too. Another environment is another start."""
    healer = HealerProcess()
    assert healer.state() == Healer(), "nothing was wanted yet"
    healer.want(environment(BETTING_HEAL_BUDGET="many"))
    async with running(healer):
        state = await until(healer, lambda state: bool(state.ended))
        assert state.ended.startswith("exit code 2: ")
        assert "BETTING_HEAL_BUDGET" in state.ended
        healer.want(environment(BETTING_HEAL_BUDGET="more"))
        assert healer.state() == Healer()
    assert "BETTING_HEAL_BUDGET" in capfd.readouterr().err


async def test_a_healer_that_was_killed_counts_as_ended_until_it_has_run_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may end again: a condition that is True between two ends would tell nothing."""
    monkeypatch.setattr(healer_process, "STARTED_AFTER_S", 0.001)
    healer = HealerProcess()
    healer.want(
        environment(
            BETTING_INTERNAL_SECRET="s" * 64,
            BETTING_POSTGRES_DSN="postgresql://127.0.0.1:1/d",
            BETTING_REDIS_URL="redis://127.0.0.1:1",
            BETTING_SUPERVISOR="127.0.0.1:1",
            BETTING_GRPC_ADDRESS="127.0.0.1:0",
            BETTING_INSTANCE="healer-1",
            BETTING_FLIGHT_FOLDER=str(tmp_path / "flight"),
        )
    )
    async with running(healer):
        assert await until(healer, lambda state: state.runs) == Healer(runs=True)
        assert healer.running
        [pid] = healer.pids()
        os.kill(pid, signal.SIGKILL)
        killed = await until(healer, lambda state: not state.runs)
        assert killed.ended.startswith("signal 9")
        async with asyncio.timeout(TIMEOUT_S):
            while healer.pids() == (pid,) or not healer.running:  # noqa: ASYNC110  (a process starts)
                await asyncio.sleep(0.02)
        assert healer.state() == killed
        monkeypatch.setattr(healer_process, "STEADY_AFTER_S", 0.001)
        assert await until(healer, lambda state: state.runs) == Healer(runs=True)


async def test_the_process_is_there_before_it_is_wanted_and_is_the_one_that_then_works() -> None:
    """An operator that stands by saves its start, which is most of what the next leader's healer takes."""
    healer = HealerProcess()
    async with running(healer):
        async with asyncio.timeout(TIMEOUT_S):
            while not healer.pids():  # noqa: ASYNC110  (a process starts)
                await asyncio.sleep(0.02)
        waiting = healer.pids()
        assert (healer.running, healer.state()) == (False, Healer())
        healer.want(environment(BETTING_HEAL_BUDGET="many"))
        async with asyncio.timeout(TIMEOUT_S):
            while not healer.running:  # noqa: ASYNC110  (it is told)
                await asyncio.sleep(0)
        assert healer.pids() == waiting
        await until(healer, lambda state: "BETTING_HEAL_BUDGET" in state.ended)


def test_one_that_was_never_wanted_ends_with_its_operator() -> None:
    command = (sys.executable, "-m", "betting.runtime.launch", "betting_operator.healer", ENVIRONMENT_FOLLOWS)
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("code", "stderr", "words"),
    [
        (1, "", "exit code 1"),
        (-11, "Traceback\n  line\nImportError: no module x\n\n", "signal 11: ImportError: no module x"),
        (2, "healer: " + "x" * 500, "exit code 2: healer: " + "x" * 192),
    ],
)
def test_an_end_is_told_in_one_line(code: int, stderr: str, words: str) -> None:
    assert how_it_ended(code, stderr) == words
