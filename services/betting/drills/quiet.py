"""What must not alarm the healer: a busy machine, a rush of bets, lost packets, pauses, a clock that jumps.

Each lasts a while, under bets, on a platform of its own; afterwards the flight record must hold no destructive action.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from betting.drills import acks, lossy
from betting.drills.crowd import Crowd
from betting.drills.demo import betting_crowd, gateway_of
from betting.drills.flights import ReadTicks
from betting.drills.measure import ACCEPTED
from betting.embedded.platform import Options, Platform, running
from betting.embedded.ports_plan import POSTGRES
from betting.embedded.topology import HEALER
from betting.supervision.errors import LocalError
from betting.supervision.supervisor import Progress

HOGS = 4
RUSH = 10.0
DATABASE_STOPS_S = 5.0
# The first is shorter than the supervisor's patience with a silent healer, the second longer.
HEALER_STOPS_S = (4.0, 10.0)
BEFORE_S = 3.0
_HOG = "while True: pass"


@dataclass(frozen=True)
class Scenario:
    """Something that must stay quiet. `unrest` lasts for the length of its block."""

    name: str
    unrest: Callable[[Platform, Crowd], AbstractAsyncContextManager[None]]
    needs_lossy_path: bool = False


@dataclass(frozen=True)
class Quiet:
    """What the healer made of it.

    destructive: what it did besides placing shards and telling people, in words; slowest_s: of the accepted bets that
    waited for the platform and not for their bettor's own limits.
    """

    name: str
    ticks: int = 0
    diagnoses: tuple[str, ...] = ()
    destructive: tuple[str, ...] = ()
    accepted: int = 0
    slowest_s: float = 0.0
    skipped: str = ""

    @property
    def holds(self) -> bool:
        """Nothing was destroyed, and the healer was there to see."""
        return bool(self.skipped) or (not self.destructive and self.ticks > 0 and self.accepted > 0)


async def stay_quiet(
    options: Options,
    scenarios: Sequence[Scenario],
    duration_s: float,
    progress: Progress,
    note: Callable[[str], None],
    read_ticks: ReadTicks,
) -> list[Quiet]:
    """Runs the scenarios one after the other. Raises LocalError when the platform cannot run here."""
    can_lose = any(each.needs_lossy_path for each in scenarios) and lossy.is_possible()
    results = []
    with lossy.path() if can_lose else nullcontext(options.healer_host) as healer_host:
        async with (
            running(replace(options, healer_host=healer_host), progress, note) as platform,
            acks.writing(options.folder.path / "acknowledgements.jsonl") as ack_file,
            gateway_of(platform) as client,
            betting_crowd(platform, client, ack_file, note) as crowd,
        ):
            await asyncio.sleep(BEFORE_S)
            for scenario in scenarios:
                if scenario.needs_lossy_path and not can_lose:
                    results.append(Quiet(scenario.name, skipped="needs root and iptables (nat, statistic)"))
                    continue
                note(f"quiet: {scenario.name}, {duration_s:.0f} s")
                results.append(await _watched(platform, crowd, scenario, duration_s, read_ticks))
    return results


async def _watched(
    platform: Platform, crowd: Crowd, scenario: Scenario, duration_s: float, read_ticks: ReadTicks
) -> Quiet:
    since_us, since_s = time.time_ns() // 1_000, time.monotonic()
    async with scenario.unrest(platform, crowd):
        await asyncio.sleep(duration_s)
    await asyncio.sleep(BEFORE_S)  # what it led to
    seen = await asyncio.to_thread(lambda: [tick for tick in read_ticks() if tick.wall_us >= since_us])
    kinds = sorted({diagnosis for tick in seen for diagnosis in tick.diagnoses})
    accepted = [each for each in crowd.attempts if each.outcome == ACCEPTED and each.sent_s >= since_s]
    took_s = [each.answered_s - each.sent_s for each in accepted if each.answered_s is not None and not each.limited]
    return Quiet(
        scenario.name,
        ticks=len(seen),
        diagnoses=tuple(kinds),
        destructive=tuple(action for tick in seen for action in tick.destructive),
        accepted=len(accepted),
        slowest_s=max(took_s, default=0.0),
    )


@asynccontextmanager
async def _hogs(_platform: Platform, _crowd: Crowd) -> AsyncIterator[None]:
    command = (sys.executable, "-I", "-S", "-c", _HOG)
    hogs = [await asyncio.create_subprocess_exec(*command) for _ in range(HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            await hog.wait()


@asynccontextmanager
async def _rush(_platform: Platform, crowd: Crowd) -> AsyncIterator[None]:
    crowd.pace = RUSH
    try:
        yield
    finally:
        crowd.pace = 1.0


@asynccontextmanager
async def _lost_packets(_platform: Platform, _crowd: Crowd) -> AsyncIterator[None]:
    with lossy.losing():
        yield


@asynccontextmanager
async def _stepped_clock(platform: Platform, _crowd: Crowd) -> AsyncIterator[None]:
    """Of all services and the healer, against the database's; and back."""
    services = [each.name for each in platform.supervisor.processes if platform.supervisor.is_service(each.name)]
    for name in services:
        platform.supervisor.signal(name, signal.SIGUSR2)
    try:
        yield
    finally:
        for name in services:
            platform.supervisor.signal(name, signal.SIGUSR2)


def _stopped(process: str, for_s: float) -> Callable[[Platform, Crowd], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def stop(platform: Platform, _crowd: Crowd) -> AsyncIterator[None]:
        platform.supervisor.signal(process, signal.SIGSTOP)
        life = platform.supervisor.boot_id(process)
        try:
            await asyncio.sleep(for_s)
        finally:
            if platform.supervisor.boot_id(process) == life:  # else the supervisor has replaced it meanwhile
                with suppress(LocalError):
                    platform.supervisor.signal(process, signal.SIGCONT)
        yield

    return stop


SCENARIOS = (
    Scenario(f"{HOGS} processes that use all processor time", _hogs),
    Scenario(f"{RUSH:g} times the bets", _rush),
    Scenario(f"{lossy.LOSS:.0%} of the healer's packets lost", _lost_packets, needs_lossy_path=True),
    Scenario(f"Postgres stops for {DATABASE_STOPS_S:g} s", _stopped(POSTGRES, DATABASE_STOPS_S)),
    *(Scenario(f"the healer stops for {for_s:g} s", _stopped(HEALER, for_s)) for for_s in HEALER_STOPS_S),
    Scenario("clocks jump by 5 s against the database's", _stepped_clock),
)
