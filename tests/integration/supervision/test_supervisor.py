"""The supervisor with real processes: restarts, backoff, pausing, stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from betting.supervision import state
from betting.supervision.errors import PlatformError, SettingsRefused
from betting.supervision.process import ProcessSpec
from betting.supervision.spawning import Command
from betting.supervision.state import ProcessPhase
from betting.supervision.supervisor import Supervisor

TIMEOUT_S = 10.0
SLEEPER = "import signal; print('up', flush=True); signal.pause()"
# Its child is in a session of its own, as Postgres' are, and ends when nobody reads its lines any more: it has to go on
# writing, now and then, to find that out.
PARENT = r"""
import subprocess, sys
code = "import time\nwhile True: print('beat', flush=True); time.sleep(0.02)"
child = subprocess.Popen([sys.executable, '-I', '-S', '-c', code], stdout=-1, start_new_session=True)
print('up', flush=True)
for _line in child.stdout: pass
"""
SLOW_STARTER = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A supervisor without processes; it leaves none behind."""
    created = Supervisor(tmp_path / "state.json", {"http": 1}, note=lambda _line: None)
    yield created
    created.kill_now()
    await created.stop()


def python(folder: Path, name: str, code: str, stop_timeout_s: float = 5.0) -> ProcessSpec:
    """A process that is ready once its log says "up"."""
    log = folder / f"{name}.log"

    async def is_up() -> bool:
        return "up" in log.read_text()

    return ProcessSpec(
        name=name,
        command=lambda: Command((sys.executable, "-I", "-S", "-c", code), folder),
        is_ready=is_up,
        log=log,
        stop_timeout_s=stop_timeout_s,
    )


def quiet(_name: str, _seconds: float) -> None:
    """Nobody watches the progress of a test."""


def only_child(supervisor: Supervisor) -> psutil.Process:
    """The child of the only process."""
    (process,) = supervisor.processes
    (child,) = psutil.Process(process.pid).children()
    return child


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until a condition of real processes holds; fails after ten seconds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def test_files_that_cannot_be_written_are_noted_once_and_stop_nothing(tmp_path: Path) -> None:
    """As on a full disk: no unhandled errors; one line when it begins and one when it is over."""
    noted: list[str] = []
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    folder = tmp_path / "data"
    supervisor = Supervisor(folder / "state.json", {}, noted.append)
    try:
        await supervisor.start([python(tmp_path, "service", SLEEPER)], quiet)
        for line in "abc":
            supervisor.report_healing([line])
            await asyncio.sleep(0)
        told = [line for line in noted if "state.json" in line]
        assert told == [
            f"{folder}/state.json is not written (No such file or directory): `betting status` shows an older state"
        ]
        folder.mkdir()
        supervisor.report_healing(["d"])
        await eventually(lambda: noted[-1] == f"{folder}/state.json is not written: over")
        assert state.load(folder / "state.json").healing == ["a", "b", "c", "d"]
        assert not unhandled
    finally:
        await supervisor.stop()


async def test_settings_that_are_refused_are_not_tried_again(tmp_path: Path) -> None:
    """The start fails at once with the reason, once; nobody hears of further starts."""
    noted: list[str] = []
    supervisor = Supervisor(tmp_path / "state.json", {}, noted.append)
    code = "print('service: BETTING_X is wrong', flush=True); raise SystemExit(2)"
    specs = [
        replace(python(tmp_path, name, code), is_ready=never, exit_code_of_refusal=2) for name in ("service", "other")
    ]
    try:
        with pytest.raises(SettingsRefused, match=r"^service: BETTING_X is wrong\.$"):
            await supervisor.start(specs, quiet)
        await eventually(lambda: all(each.phase is ProcessPhase.STOPPED for each in supervisor.processes))
        assert not noted
        assert all(each.last_exit == "exit code 2" for each in supervisor.processes)
    finally:
        await supervisor.stop()


async def never() -> bool:
    """It does not become ready."""
    return False


async def test_a_killed_process_is_started_again_as_a_new_one(supervisor: Supervisor, tmp_path: Path) -> None:
    """kill -9: new process id and boot id, one restart counted, the exit told, all of it in the state file."""
    await supervisor.start([python(tmp_path, "service", SLEEPER)], quiet)
    (process,) = supervisor.processes
    first_pid, first_boot = process.pid, process.boot_id
    supervisor.signal("service", signal.SIGKILL)
    await eventually(lambda: process.phase is ProcessPhase.READY and process.pid != first_pid)
    assert process.boot_id not in {first_boot, ""}
    assert (process.restarts, process.last_exit) == (1, "killed by SIGKILL")
    await eventually(lambda: state.load(tmp_path / "state.json").processes == [process])


async def test_a_crash_loop_slows_down(supervisor: Supervisor, tmp_path: Path) -> None:
    """Waits between starts at least double, less the jitter; the start is given up with the process's last words."""
    starts = tmp_path / "starts"
    code = f"import time; open({str(starts)!r}, 'a').write(f'{{time.time()}}\\n'); raise SystemExit('no way')"
    with pytest.raises(PlatformError, match=r"crashing did not start \(no way\)"):
        await supervisor.start([python(tmp_path, "crashing", code)], quiet)
    await eventually(lambda: len(starts.read_text().splitlines()) >= 5)
    times = [float(line) for line in starts.read_text().splitlines()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(gap >= 0.1 * 2**number * 0.8 for number, gap in enumerate(gaps))


async def test_a_paused_process_continues_and_keeps_its_identity(supervisor: Supervisor, tmp_path: Path) -> None:
    """SIGSTOP shows as paused in the system and the state; SIGCONT brings the same process back."""
    await supervisor.start([python(tmp_path, "service", SLEEPER)], quiet)
    (process,) = supervisor.processes
    pid = process.pid
    supervisor.signal("service", signal.SIGSTOP)
    await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    assert process.phase is ProcessPhase.PAUSED
    supervisor.signal("service", signal.SIGCONT)
    await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING)
    assert (process.phase, process.pid, process.restarts) == (ProcessPhase.READY, pid, 0)


async def test_a_pause_reaches_the_children_and_so_does_its_end(supervisor: Supervisor, tmp_path: Path) -> None:
    """Postgres works in its children: a paused postmaster alone would go on serving whoever is connected."""
    await supervisor.start([python(tmp_path, "parent", PARENT)], quiet)
    child = only_child(supervisor)
    supervisor.signal("parent", signal.SIGSTOP)
    await eventually(lambda: child.status() == psutil.STATUS_STOPPED)
    supervisor.signal("parent", signal.SIGCONT)
    await eventually(lambda: child.status() == psutil.STATUS_SLEEPING)


@pytest.mark.parametrize("how", ["kill", "kill_life", "stop"])
async def test_what_ends_while_paused_leaves_no_paused_child(supervisor: Supervisor, tmp_path: Path, how: str) -> None:
    """It would live on for good and keep what the next life needs: Postgres' shared memory."""
    await supervisor.start([python(tmp_path, "parent", PARENT)], quiet)
    child = only_child(supervisor)
    supervisor.signal("parent", signal.SIGSTOP)
    await eventually(lambda: child.status() == psutil.STATUS_STOPPED)
    if how == "stop":
        await supervisor.stop(["parent"])
    elif how == "kill":
        supervisor.signal("parent", signal.SIGKILL)
    else:
        supervisor.kill_life("parent", supervisor.boot_id("parent"))
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_thawing_what_still_starts_does_not_make_it_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    """Frozen or not: only its own probe says that it is ready."""
    starting = asyncio.create_task(supervisor.start([python(tmp_path, "slow", SLOW_STARTER)], quiet))
    await eventually(lambda: [each.phase for each in supervisor.processes] == [ProcessPhase.STARTING])
    supervisor.signal("slow", signal.SIGCONT)
    assert supervisor.processes[0].phase is ProcessPhase.STARTING
    supervisor.signal("slow", signal.SIGSTOP)
    supervisor.signal("slow", signal.SIGCONT)
    assert supervisor.processes[0].phase is ProcessPhase.STARTING
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_stopping_ends_even_the_paused_and_the_stubborn(supervisor: Supervisor, tmp_path: Path) -> None:
    """A paused process is continued to end in order; one that ignores SIGTERM is killed after its stop timeout."""
    specs = [python(tmp_path, "paused", SLEEPER), python(tmp_path, "stubborn", STUBBORN, stop_timeout_s=0.2)]
    await supervisor.start(specs, quiet)
    pids = [process.pid for process in supervisor.processes]
    supervisor.signal("paused", signal.SIGSTOP)
    await supervisor.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids if pid is not None)
    assert [process.phase for process in state.load(tmp_path / "state.json").processes] == [ProcessPhase.STOPPED] * 2


async def test_a_process_that_cannot_even_be_started_is_tried_again(supervisor: Supervisor, tmp_path: Path) -> None:
    """Its program is missing: the start says so; once it is there the same supervisor brings the process up."""
    program = tmp_path / "program"
    plain = python(tmp_path, "service", SLEEPER)

    def command() -> Command:
        if not program.exists():
            raise PlatformError(f"{program} is missing")
        return plain.command()

    with pytest.raises(PlatformError, match="program is missing"):
        await supervisor.start([replace(plain, command=command)], quiet)
    program.touch()
    await eventually(lambda: supervisor.processes[0].phase is ProcessPhase.READY)
    assert supervisor.processes[0].restarts >= 1


async def test_an_unknown_process_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    """A typo in a fault says which processes there are."""
    await supervisor.start([python(tmp_path, "service", SLEEPER)], quiet)
    with pytest.raises(PlatformError, match=r"no process servce: there are service"):
        supervisor.signal("servce", signal.SIGKILL)


async def test_children_have_a_process_group_of_their_own(supervisor: Supervisor, tmp_path: Path) -> None:
    """Ctrl-C in the terminal goes to the supervisor's group only."""
    await supervisor.start([python(tmp_path, "service", SLEEPER)], quiet)
    pid = supervisor.processes[0].pid
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)
