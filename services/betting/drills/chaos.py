"""Faults that a person injects into a running platform. Everything goes through the supervisor's own child handles."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from betting.drills import sticking
from betting.embedded.topology import FEED
from betting.supervision.errors import LocalError
from betting.supervision.supervisor import Supervisor

FAULTS = {
    "kill": "kill -9: the process ends at once, the supervisor starts it again",
    "freeze": "SIGSTOP: the process lives and does nothing, until --for has passed or it is thawed",
    "thaw": "SIGCONT: a frozen process goes on",
    "silence": f"SIGUSR1: {FEED} lives, answers and sends no prices, until it is started anew",
    "step": "SIGUSR2: a service's wall clock goes forward by 5 s, or back where it was",
    "stick": "its connections to Postgres bring nothing any more, until it is restarted or --for has passed",
}
DURATION_S_MAX = 3_600.0

_under_way: set[asyncio.Task[None]] = set()


def inject(supervisor: Supervisor, fault: str, target: str, duration_s: float = 0.0) -> None:
    """Breaks one process. duration_s: of a freeze, 0: for good. Raises LocalError, with nothing done."""
    if fault not in FAULTS:
        raise LocalError(f"There is no fault {fault}: there are {', '.join(FAULTS)}.")
    if not 0 <= duration_s <= DURATION_S_MAX:
        raise LocalError(f"A fault cannot last {duration_s:g} s: give 0 to {DURATION_S_MAX:g}.")
    if fault == "kill":
        supervisor.signal(target, signal.SIGKILL)
    elif fault == "thaw":
        supervisor.signal(target, signal.SIGCONT)
    elif fault == "silence":
        if target != FEED:
            raise LocalError(f"Only a feed can be silenced: {FEED}, not {target}.")
        supervisor.signal(target, signal.SIGUSR1)
    elif fault == "step":
        if not supervisor.is_service(target):
            raise LocalError(f"Only a service's clock can be stepped: {target} is none.")
        supervisor.signal(target, signal.SIGUSR2)
    elif fault == "stick":
        _stick(supervisor, target, duration_s)
    else:
        _freeze(supervisor, target, duration_s)


def _stick(supervisor: Supervisor, target: str, duration_s: float) -> None:
    sticking.check(supervisor, target)
    task = asyncio.get_running_loop().create_task(sticking.stick(supervisor, target, duration_s or DURATION_S_MAX))
    _under_way.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[None]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # the process ended just now: nobody waits to hear it


def _freeze(supervisor: Supervisor, target: str, duration_s: float) -> None:
    supervisor.signal(target, signal.SIGSTOP)
    boot_id = supervisor.boot_id(target)
    if duration_s == 0:
        return

    def thaw() -> None:
        if supervisor.boot_id(target) == boot_id:  # a later life was never frozen
            with suppress(LocalError):
                supervisor.signal(target, signal.SIGCONT)

    asyncio.get_running_loop().call_later(duration_s, thaw)
