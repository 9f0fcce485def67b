"""Runs the benchmarks one after another, each on a platform of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from betting.bench import batch, failover, live, memory, resting, roll, settling, single
from betting.bench.report import Figure
from betting.bench.world import CORE, World, world
from betting.embedded.topology import HEALER, SERVICES
from betting.journal import preload

ALL = ("batch", "single", "live", "settle", "memory", "failover", "roll", "rest")
WHOLE = tuple(service.name for service in SERVICES if service.name != "season-replay")

Note = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the full sizes are the ones the budgets are for."""

    preloaded_entries: int = 10_000_000
    seconds: float = 20.0
    settled_bets: int = 200_000
    held_bets: int = 1_000_000
    open_per_shard: int = 20_000
    rolled_open_per_shard: int = 300


QUICK = Sizes(
    preloaded_entries=200_000,
    seconds=5.0,
    settled_bets=20_000,
    held_bets=100_000,
    open_per_shard=2_000,
    rolled_open_per_shard=20,
)


async def run(names: Sequence[str], sizes: Sizes, note: Note) -> list[Figure]:
    """The figures of the benchmarks named, in the order of `ALL`. Raises PlatformError when a tool is missing."""
    if "single" in names:
        single.wrk()
    figures: list[Figure] = []
    for name in ALL:
        if name in names:
            note(f"{name} …")
            began = time.monotonic()
            figures += await _RUN[name](sizes, note)
            note(f"{name} took {time.monotonic() - began:.0f} s")
    return figures


@contextmanager
def _folder() -> Iterator[Path]:
    """A data folder that goes away with its benchmark."""
    with tempfile.TemporaryDirectory(prefix="betting-bench-") as folder:
        yield Path(folder)


@asynccontextmanager
async def _fresh(names: Sequence[str]) -> AsyncIterator[World]:
    """These services on a data folder of their own."""
    with _folder() as folder:
        async with world(folder, names) as made:
            yield made


@asynccontextmanager
async def _loaded(sizes: Sizes, names: Sequence[str], note: Note) -> AsyncIterator[World]:
    async with _fresh(names) as made:
        note(f"preloading {sizes.preloaded_entries:,} journal entries")
        await preload.preload(made.database, sizes.preloaded_entries)
        note(await _settings(made))
        yield made


async def _settings(made: World) -> str:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    values = [f"{name}={await made.database.fetchval(f'SHOW {name}')}" for name in names]
    return ", ".join(values)


async def _batch(sizes: Sizes, note: Note) -> list[Figure]:
    async with _loaded(sizes, CORE, note) as made:
        return [figure for size in (200, 500) for figure in await batch.measure(made, size, sizes.seconds)]


async def _single(sizes: Sizes, note: Note) -> list[Figure]:
    async with _loaded(sizes, WHOLE, note) as made:
        return [figure for clients in (64, 256) for figure in await single.measure(made, clients, sizes.seconds)]


async def _live(sizes: Sizes, _note: Note) -> list[Figure]:
    async with _fresh(WHOLE) as made:
        return await live.measure(made, sizes.seconds)


async def _settle(sizes: Sizes, note: Note) -> list[Figure]:
    async with _fresh(CORE) as made:
        note(f"placing {sizes.settled_bets:,} bets on one market")
        return await settling.measure(made, sizes.settled_bets)


async def _memory(sizes: Sizes, _note: Note) -> list[Figure]:
    return memory.measure(sizes.held_bets)


async def _failover(sizes: Sizes, note: Note) -> list[Figure]:
    async with _fresh(CORE) as made:
        note(f"placing {sizes.open_per_shard:,} bets on each shard")
        return await failover.measure(made, sizes.open_per_shard)


async def _roll(sizes: Sizes, note: Note) -> list[Figure]:
    drain = {"BETTING_DRAIN_TIMEOUT": "20"}  # as on Kubernetes
    with _folder() as folder:
        async with world(folder, (*CORE, HEALER), roll.SHARDS, **drain) as made:
            note(f"placing {sizes.rolled_open_per_shard:,} bets on each of {roll.SHARDS:,} shards")
            return await roll.measure(made, sizes.rolled_open_per_shard)


async def _rest(_sizes: Sizes, _note: Note) -> list[Figure]:
    with _folder() as folder:
        async with world(folder, WHOLE):
            pass  # the first start initialises the database: that is not what a prepared checkout does
        began = time.monotonic()
        async with world(folder, WHOLE) as made:
            started = resting.started(time.monotonic() - began)
            return [started, *await resting.measure(made)]


_RUN = {
    "batch": _batch,
    "single": _single,
    "live": _live,
    "settle": _settle,
    "memory": _memory,
    "failover": _failover,
    "roll": _roll,
    "rest": _rest,
}
