"""Conditions in which the healer must do nothing: a busy machine, load peaks, packet loss, pauses, clock jumps.

Each lasts a while, under load, on a platform of its own. Afterwards the flight record must have no disruptive action.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from betting.drills import acks
from betting.drills.bettor_pool import BettorPool, betting_pool, gateway_of
from betting.drills.measure import ACCEPTED
from betting.drills.target import DATABASES, HEALER, POSTGRES, Capability, RunTarget, Target
from betting.supervision.errors import PlatformError

HOGS = 4
RUSH = 10.0
DATABASE_STOPS_S = 5.0
# The first is shorter than the supervisor's patience with a silent healer, the second longer.
HEALER_STOPS_S = (4.0, 10.0)
BEFORE_S = 3.0
_HOG = "while True: pass"


@dataclass(frozen=True)
class Scenario:
    """Something that must stay quiet. `unrest` lasts for the length of its block; needs: without what it cannot be."""

    name: str
    unrest: Callable[[Target, BettorPool], AbstractAsyncContextManager[None]]
    needs: Capability | None = None


@dataclass(frozen=True)
class Quiet:
    """What the healer did in a scenario.

    destructive: its actions besides placing shards and alerts, as text; slowest_s: the slowest accepted bet that waited
    for the platform and not for a limit of its own bettor.
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
        """Whether the healer was running and took no disruptive action."""
        return bool(self.skipped) or (not self.destructive and self.ticks > 0 and self.accepted > 0)


async def stay_quiet(
    run: RunTarget, folder: Path, scenarios: Sequence[Scenario], duration_s: float, note: Callable[[str], None]
) -> list[Quiet]:
    """Runs the scenarios one after the other. Raises PlatformError when the platform cannot run here.

    folder: where the acknowledgements are written, once the platform runs.
    """
    async with (
        run(frozenset(each.needs for each in scenarios if each.needs is not None)) as target,
        acks.writing(folder / "acknowledgements.jsonl") as ack_file,
        gateway_of(target) as client,
        betting_pool(target, client, ack_file, note) as pool,
    ):
        await asyncio.sleep(BEFORE_S)
        return [await watch(target, pool, each, duration_s, note) for each in scenarios]


async def watch(
    target: Target, pool: BettorPool, scenario: Scenario, duration_s: float, note: Callable[[str], None]
) -> Quiet:
    """Runs one scenario; it is skipped if the platform under test does not support it."""
    why = target.lacks(scenario.needs)
    if why:
        return Quiet(scenario.name, skipped=why)
    note(f"quiet: {scenario.name}, {duration_s:.0f} s")
    since_us, since_s = time.time_ns() // 1_000, time.monotonic()
    async with scenario.unrest(target, pool):
        await asyncio.sleep(duration_s)
    await asyncio.sleep(BEFORE_S)  # what it led to
    seen = await asyncio.to_thread(lambda: [tick for tick in target.ticks() if tick.wall_us >= since_us])
    kinds = sorted({diagnosis for tick in seen for diagnosis in tick.diagnoses})
    accepted = [each for each in pool.attempts if each.outcome == ACCEPTED and each.sent_s >= since_s]
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
async def _hogs(_target: Target, _pool: BettorPool) -> AsyncIterator[None]:
    command = (sys.executable, "-I", "-S", "-c", _HOG)
    hogs = [await asyncio.create_subprocess_exec(*command) for _ in range(HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            await hog.wait()


@asynccontextmanager
async def _rush(_target: Target, pool: BettorPool) -> AsyncIterator[None]:
    pool.pace = RUSH
    try:
        yield
    finally:
        pool.pace = 1.0


@asynccontextmanager
async def _lost_packets(target: Target, _pool: BettorPool) -> AsyncIterator[None]:
    async with target.losing_packets():
        yield


@asynccontextmanager
async def _stepped_clock(target: Target, _pool: BettorPool) -> AsyncIterator[None]:
    """Steps the clocks of all services and the healer against the database's, and back."""
    lives = [each.life for each in target.instances() if each.workload not in DATABASES and each.life is not None]
    for life in lives:
        await target.step_clock(life)
    try:
        yield
    finally:
        for life in lives:
            with suppress(PlatformError):  # it is over: the next one's clock is right
                await target.step_clock(life)


def _paused(workload: str, for_s: float) -> Callable[[Target, BettorPool], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def pause(target: Target, _pool: BettorPool) -> AsyncIterator[None]:
        lives = target.lives_of(workload)
        for life in lives:
            await target.pause(life)
        try:
            await asyncio.sleep(for_s)
        finally:
            for life in lives:
                with suppress(PlatformError):  # it was replaced meanwhile
                    await target.unpause(life)
        yield

    return pause


SCENARIOS = (
    Scenario(f"{HOGS} processes that use all processor time", _hogs, Capability.SAME_MACHINE),
    Scenario(f"{RUSH:g} times the bets", _rush),
    Scenario("30% of the healer's packets lost", _lost_packets, Capability.LOSE_PACKETS),
    Scenario(
        f"Postgres stops for {DATABASE_STOPS_S:g} s", _paused(POSTGRES, DATABASE_STOPS_S), Capability.PAUSE_DATABASE
    ),
    *(
        Scenario(f"the healer stops for {for_s:g} s", _paused(HEALER, for_s), Capability.PAUSE)
        for for_s in HEALER_STOPS_S
    ),
    Scenario("clocks jump by 5 s against the database's", _stepped_clock, Capability.STEP_CLOCKS),
)
