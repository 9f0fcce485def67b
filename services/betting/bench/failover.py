"""An owner killed: until the worst of its shards takes a bet again."""

from __future__ import annotations

import asyncio
import signal
import time

import grpc

from betting.bench.report import Figure
from betting.bench.settling import open_bets
from betting.bench.world import FIRST_MARKET, User, World, bet_of
from betting.embedded.topology import BET_SERVICES, SHARD_COUNT
from betting.internal.v1 import owner_pb2

OPEN_PER_SHARD = 20_000
BUDGET_S = 1.0
TIMEOUT_S = 60.0


async def measure(world: World, open_per_shard: int = OPEN_PER_SHARD) -> list[Figure]:
    """Kills one of two owners and bets on each of its shards until each has accepted one."""
    users = await open_bets(world, FIRST_MARKET + 11, open_per_shard * SHARD_COUNT)
    one_per_shard = {user.shard: user for user in users}
    victim = BET_SERVICES[0]
    address = world.running.topology.address(victim)
    orphaned = [shard for shard, route in (await world.routes()).items() if route.address == address]
    killed_at = time.monotonic()
    world.running.supervisor.signal(victim, signal.SIGKILL)
    waits = await asyncio.gather(*(_until_accepted(world, one_per_shard[shard], killed_at) for shard in orphaned))
    note = f"{len(orphaned)} shards of {open_per_shard:,} open bets; first shard after {min(waits):.2f} s"
    return [Figure("owner killed → first bet on its worst shard", max(waits), "s", BUDGET_S, at_most=True, note=note)]


async def _until_accepted(world: World, user: User, since: float) -> float:
    command = bet_of(user, FIRST_MARKET + 12, 10)
    while time.monotonic() - since < TIMEOUT_S:
        routes = await world.routes_once()
        if user.shard in routes:
            route = routes[user.shard]
            request = owner_pb2.ExecuteRequest(shard_id=user.shard, epoch=route.epoch, commands=[command])
            try:
                reply = await world.owner(route.address).Execute(request, timeout=2)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
                continue
            if reply.results[0].HasField("placed"):
                return time.monotonic() - since
        await asyncio.sleep(0.02)
    raise TimeoutError(f"shard {user.shard} took no bet within {TIMEOUT_S:.0f} s")
