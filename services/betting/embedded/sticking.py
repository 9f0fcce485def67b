"""Makes the Postgres statements of a process wait without end, by stopping its idle backends.

It looks like a connection whose other end has disappeared. The process itself runs and answers; after a restart it gets
new connections, which work.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from betting.embedded import ports_plan
from betting.supervision import children
from betting.supervision.errors import PlatformError
from betting.supervision.supervisor import Supervisor

POLL_S = 0.05
# Time enough to find idle those that were busy at first.
FIND_S = 3.0
_CLIENT = re.compile(r"127\.0\.0\.1\((\d+)\) ")

_under_way: set[asyncio.Task[None]] = set()


def begin(supervisor: Supervisor, target: str, duration_s: float) -> None:
    """Begins to stick a process in the background, see `stick`. Raises PlatformError, with nothing done."""
    _check(supervisor, target)
    task = asyncio.get_running_loop().create_task(stick(supervisor, target, duration_s))
    _under_way.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # the process ended just now: nobody waits to hear it


def _check(supervisor: Supervisor, target: str) -> None:
    if not _backends(supervisor, target):
        raise PlatformError(f"{target} keeps no connection to Postgres: there is nothing to stick.")


async def stick(supervisor: Supervisor, target: str, duration_s: float) -> None:
    """Sticks a process until its life ends or this long has passed.

    Raises PlatformError for one that keeps no connection to Postgres, or is none of ours.
    """
    _check(supervisor, target)
    life = supervisor.boot_id(target)
    stopped: dict[int, psutil.Process] = {}
    began_s = time.monotonic()
    try:
        while supervisor.boot_id(target) == life and time.monotonic() - began_s < duration_s:
            if time.monotonic() - began_s < FIND_S:
                stopped |= {each.pid: each for each in _stopped(supervisor, target)}
            await asyncio.sleep(POLL_S)
    finally:
        children.unpause(stopped.values())


def _stopped(supervisor: Supervisor, target: str) -> Iterator[psutil.Process]:
    """Backends of this process that were idle, and are stopped now: one that works may hold what others need."""
    for backend in _backends(supervisor, target):
        with suppress(psutil.Error):
            if _is_idle(backend) and backend.status() != psutil.STATUS_STOPPED:
                backend.suspend()
                if _is_idle(backend):
                    yield backend
                else:
                    backend.resume()


def _backends(supervisor: Supervisor, target: str) -> list[psutil.Process]:
    """Those that serve a client at one of this process's ports."""
    ports = _local_ports(_pid(supervisor, target))
    found = []
    for backend in children.of(_pid(supervisor, ports_plan.POSTGRES)):
        with suppress(psutil.Error):
            client = _CLIENT.search(_title(backend))
            if client is not None and int(client[1]) in ports:
                found.append(backend)
    return found


def _is_idle(backend: psutil.Process) -> bool:
    return _title(backend).endswith(" idle")


def _title(backend: psutil.Process) -> str:
    """Like "postgres: betting betting 127.0.0.1(47112) idle"."""
    return " ".join(backend.cmdline()).strip()


def _local_ports(pid: int) -> set[int]:
    with suppress(psutil.Error):
        return {each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.laddr}
    return set()


def _pid(supervisor: Supervisor, name: str) -> int:
    pid = next((each.pid for each in supervisor.processes if each.name == name), None)
    if pid is None:
        raise PlatformError(f"{name} is not running.")
    return pid
