"""Start-up to the first bet, and what the whole platform costs when nobody bets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from betting.bench.report import Figure
from betting.bench.world import World
from betting.embedded.topology import HEALER

SETTLE_DOWN_S = 10.0
WATCH_S = 20.0
BUDGET_START_S = 10.0
BUDGET_BYTES = 1_500_000_000
BUDGET_CPU_SHARE = 0.10


def started(seconds: float) -> Figure:
    """From the command to the first accepted bet."""
    return Figure("start → first bet, whole platform", seconds, "s", BUDGET_START_S, at_most=True)


async def measure(world: World) -> list[Figure]:
    """PSS and CPU of everything the supervisor started (and of Postgres' own children), and the healer's part of it."""
    await asyncio.sleep(SETTLE_DOWN_S)
    healer = _healer(world)
    before, healer_before, began = _cpu_seconds(_processes()), _cpu_seconds([healer]), time.monotonic()
    await asyncio.sleep(WATCH_S)
    took_s = time.monotonic() - began
    share = (_cpu_seconds(_processes()) - before) / took_s
    healer_share = (_cpu_seconds([healer]) - healer_before) / took_s
    used = sum(_pss(process) for process in _processes())
    return [
        Figure("memory at rest (PSS)", used / 1e6, "MB", BUDGET_BYTES / 1e6, at_most=True),
        Figure("— of it the healer", _pss(healer) / 1e6, "MB"),
        Figure("CPU at rest", share * 100, "% of a core", BUDGET_CPU_SHARE * 100, at_most=True),
        Figure("— of it the healer", healer_share * 100, "% of a core"),
    ]


def _healer(world: World) -> psutil.Process:
    [pid] = [each.pid for each in world.running.supervisor.processes if each.name == HEALER]
    return psutil.Process(pid)


def _processes() -> list[psutil.Process]:
    return psutil.Process(os.getpid()).children(recursive=True)


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _pss(process: psutil.Process) -> int:
    """Proportional set size; where the system does not tell it, the resident size, which counts shared pages twice."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        for line in rollup.read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
