"""Finds and ends what a killed supervisor left running on a data folder.

A process counts as left over only if it says so itself: our services and Valkey carry the folder in their environment,
Postgres works inside its data directory. A process id from a file is never enough. Call with the folder's lock held:
then whoever started them is gone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from betting.supervision.errors import PlatformError
from betting.supervision.spawning import FOLDER_VARIABLE

GRACE_S = 5.0
POLL_S = 0.02
_POSTGRES = "postgres"


def find(folder: Path) -> list[psutil.Process]:
    """Every process that belongs to this data folder."""
    return [each for each in psutil.process_iter() if _belongs_to(each, folder)]


def end(folder: Path) -> list[str]:
    """Ends them (Postgres by immediate shutdown: the next start recovers). The names of what it ended.

    Raises PlatformError when one does not go.
    """
    found = find(folder)
    names = sorted({_name(each) for each in found})
    for each in found:
        _try(lambda each=each: each.send_signal(signal.SIGCONT))  # type: ignore[misc]
        _try(lambda each=each: each.send_signal(_ending(each)))  # type: ignore[misc]
    stubborn = wait_gone(found, GRACE_S)
    for each in stubborn:
        _try(each.kill)
    immortal = wait_gone(stubborn, GRACE_S)
    if immortal:
        listed = ", ".join(str(each.pid) for each in immortal)
        raise PlatformError(
            f"An earlier run on {folder} left processes that cannot be ended ({listed}): end them and try again."
        )
    return names


def wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Waits until they have ended; those that have not in time. A zombie has: its new parent may never collect it."""
    deadline = time.monotonic() + timeout_s
    alive = [each for each in processes if _is_alive(each)]
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_S)  # whether psutil.wait_procs waits for zombies, too, depends on the system
        alive = [each for each in alive if _is_alive(each)]
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.environ().get(FOLDER_VARIABLE) == str(folder):
            return True
        return process.name() == _POSTGRES and Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def _ending(process: psutil.Process) -> signal.Signals:
    return signal.SIGQUIT if _name(process) == _POSTGRES else signal.SIGKILL


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process"


def _try(action: Callable[[], object]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return
