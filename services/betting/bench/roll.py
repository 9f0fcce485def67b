"""Half of all shards handed over, as when a bet-service is stopped and its successor takes its share: under load."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from betting import life
from betting.bench.batch import quantile
from betting.bench.report import Figure
from betting.bench.settling import open_bets
from betting.bench.world import FIRST_MARKET, User, World, bet_of, shared_out
from betting.clients.owners.connections import GrpcOwnerConnection
from betting.clients.owners.directory import Directory
from betting.clients.owners.postgres_source import PostgresSource
from betting.clients.owners.router import OwnerRouter
from betting.embedded.topology import BET_SERVICES
from betting.runtime.errors import ServiceError
from betting.runtime.outcomes import PeerRecords

SHARDS = 2_048
BETS_S = 1_000
BUDGET_S = 15.0
BUDGET_P99_S = 1.0
SETTLE_S = 3.0
TIMEOUT_S = 180.0


@dataclass
class Load:
    """Bets at a steady rate, whether or not the ones before are answered; each waits for its answer in the router."""

    router: OwnerRouter
    users: list[User]
    waits_s: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _placing: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: bool = False

    async def run(self) -> None:
        """Until it is stopped."""
        next_s, number = time.monotonic(), 0
        while not self._stopping:
            task = asyncio.create_task(self._place(self.users[number % len(self.users)]))
            self._placing.add(task)
            task.add_done_callback(self._placing.discard)
            number += 1
            next_s += 1 / BETS_S
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))

    async def stop(self) -> None:
        """Returns once every bet has its answer."""
        self._stopping = True
        await asyncio.gather(*self._placing)

    async def _place(self, user: User) -> None:
        began = time.monotonic()
        try:
            result = await self.router.execute(user.user, bet_of(user, FIRST_MARKET + 12, 10))
        except ServiceError as error:
            self.refused.append(error.reason)
            return
        if result.HasField("placed"):
            self.waits_s.append(time.monotonic() - began)
        else:
            self.refused.append(str(result.refusal.code))


async def measure(world: World, open_per_shard: int) -> list[Figure]:
    """Stops one of two owners in order, then lets its successor take its share."""
    users = await open_bets(world, FIRST_MARKET + 11, open_per_shard * world.shard_count)
    stopped = BET_SERVICES[1]
    address = world.running.topology.address(stopped)

    async def left() -> bool:
        routes = await world.routes()
        return len(routes) == world.shard_count and all(route.address != address for route in routes.values())

    async def returned() -> bool:
        return shared_out(await world.routes(), world.shard_count)

    async def begun() -> bool:
        return any(route.address == address for route in (await world.routes()).values())

    async with _loaded(world, users) as load:
        quiet = await _measured(load, lambda: asyncio.sleep(SETTLE_S))
        world.running.supervisor.signal(stopped, signal.SIGTERM)
        drained = await _measured(load, lambda: _until(left))
        await _until(begun)
        taken = await _measured(load, lambda: _until(returned))
        await load.stop()
    half = f"half of {world.shard_count:,} shards"
    note = f"{open_per_shard} open bets on each, {BETS_S:,} bets/s offered"
    return [
        Figure("p99 of a bet before", quiet[1], "s", note=f"p50 {quiet[2] * 1000:.0f} ms, {note}"),
        *_figures(f"{half} handed over by a bet-service that stops", drained),
        *_figures(f"{half} handed over to a bet-service that starts", taken),
        Figure("bets refused meanwhile", len(load.refused), "", 0, at_most=True, note=", ".join(set(load.refused))),
    ]


def _figures(what: str, measured: tuple[float, float, float, float]) -> list[Figure]:
    took_s, p99_s, p50_s, worst_s = measured
    note = f"p50 {p50_s * 1000:.0f} ms, worst {worst_s:.2f} s"
    return [
        Figure(what, took_s, "s", BUDGET_S, at_most=True),
        Figure("— p99 of a bet meanwhile", p99_s, "s", BUDGET_P99_S, at_most=True, note=note),
    ]


async def _measured(load: Load, work: Callable[[], Awaitable[object]]) -> tuple[float, float, float, float]:
    """Seconds it took; p99, p50 and the longest wait of the bets answered meanwhile, in seconds."""
    began, first = time.monotonic(), len(load.waits_s)
    await work()
    took_s = time.monotonic() - began
    waits = load.waits_s[first:] or [took_s]
    return took_s, quantile(waits, 0.99), quantile(waits, 0.5), max(waits)


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not await true():  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _loaded(world: World, users: list[User]) -> AsyncIterator[Load]:
    """Bettors behind a router as gateways have it."""
    pool = await asyncpg.create_pool(world.running.topology.postgres.dsn(), min_size=1, max_size=4)
    source = PostgresSource(pool)
    directory = Directory(source.fetch)
    await directory.refresh()
    peers = PeerRecords()
    router = OwnerRouter(
        directory,
        lambda owner, address: GrpcOwnerConnection(address, life.Life.parse("bet-service", owner), lambda: b"", peers),
        shard_count=world.shard_count,
    )
    load = Load(router, users)
    work = [*router.background, lambda: source.listen(directory.want), load.run]
    tasks = [asyncio.ensure_future(each()) for each in work]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await router.close()
        await pool.close()
