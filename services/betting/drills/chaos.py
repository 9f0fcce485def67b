"""Faults that a person injects into a running platform: `betting chaos`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from betting.drills.target import FEED, Target
from betting.life import Life
from betting.supervision.errors import PlatformError

FAULTS = {
    "kill": "kill -9: the process ends at once, its platform starts it again",
    "pause": "SIGSTOP: the process lives and does nothing, until --for has passed or it is continued",
    "continue": "SIGCONT: a paused process continues",
    "silence": f"SIGUSR1: {FEED} lives, answers and sends no prices, until it is started anew",
    "step": "SIGUSR2: a service's wall clock goes forward by 5 s, or back where it was",
    "stick": "its connections to Postgres return nothing until it is restarted or --for has passed",
}
DURATION_S_MAX = 3_600.0

_under_way: set[asyncio.Task[None]] = set()


async def inject(target: Target, fault: str, name: str, duration_s: float = 0.0) -> None:
    """Breaks one process; what ends after a while is ended in the background.

    name: of the instance. duration_s: of a pause or stick, 0: for good. Raises PlatformError, with nothing done.
    """
    if fault not in FAULTS:
        raise PlatformError(f"There is no fault {fault}: there are {', '.join(FAULTS)}.")
    if not 0 <= duration_s <= DURATION_S_MAX:
        raise PlatformError(f"A fault cannot last {duration_s:g} s: give 0 to {DURATION_S_MAX:g}.")
    life = target.life(name)
    match fault:
        case "kill":
            await target.end(life)
        case "pause":
            await target.pause(life)
            if duration_s:
                _later(target, life, duration_s)
        case "continue":
            await target.unpause(life)
        case "silence":
            await target.silence(life)
        case "step":
            await target.step_clock(life)
        case "stick":
            await target.stick(life, duration_s or DURATION_S_MAX)


def _later(target: Target, life: Life, duration_s: float) -> None:
    async def unpause() -> None:
        await asyncio.sleep(duration_s)
        with suppress(PlatformError):  # this life is over: a later one was never paused
            await target.unpause(life)

    task = asyncio.get_running_loop().create_task(unpause())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
