"""Settling one market with many open bets, over all shards, and how long bets wait meanwhile."""

from __future__ import annotations

import asyncio
import time

from betting.bench.batch import quantile
from betting.bench.report import Figure
from betting.bench.world import FIRST_MARKET, User, World, bet_of
from betting.internal.v1 import owner_pb2

BATCH = 500
OPEN_PER_USER = 50
SHARDS_AT_ONCE = 32
# 1 million bets in 15 s, in proportion.
BUDGET_S_PER_MILLION = 15.0


async def open_bets(world: World, market: int, count: int) -> list[User]:
    """Places so many singles on one market."""
    users = world.users(max(world.shard_count * 4, count // OPEN_PER_USER))
    await world.fund(users)
    by_shard: dict[int, list[User]] = {}
    for user in users:
        by_shard.setdefault(user.shard, []).append(user)
    each = count // len(by_shard)
    at_once = asyncio.Semaphore(SHARDS_AT_ONCE)  # the feed of prices needs its turn too

    async def fill(shard: int, mine: list[User]) -> None:
        async with at_once:
            await _fill(world, shard, mine, market, each)

    await asyncio.gather(*(fill(shard, mine) for shard, mine in by_shard.items()))
    return users


async def _fill(world: World, shard: int, users: list[User], market: int, count: int) -> None:
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        reply = await world.execute(shard, [bet_of(users[(start + i) % len(users)], market, 10) for i in range(size)])
        refused = next((result.refusal for result in reply.results if result.HasField("refusal")), None)
        assert refused is None, refused


async def measure(world: World, count: int) -> list[Figure]:
    """Seconds from asking all owners until all are done, and what a bet placed meanwhile waited."""
    market = FIRST_MARKET + 7
    users = await open_bets(world, market, count)
    waits: list[float] = []
    stop = asyncio.Event()
    meanwhile = asyncio.create_task(_bet_meanwhile(world, users, waits, stop))
    began = time.monotonic()
    replies = await asyncio.gather(*(_settle(world, shard, market) for shard in range(world.shard_count)))
    elapsed = time.monotonic() - began
    stop.set()
    await meanwhile
    settled = sum(reply.settled_bets for reply in replies)
    assert settled >= count, f"{settled} of {count} bets were settled"
    note = f"{settled / elapsed:,.0f} bets/s; a bet placed meanwhile waited {quantile(waits, 0.99) * 1000:.0f} ms (p99)"
    budget = BUDGET_S_PER_MILLION * count / 1_000_000
    return [Figure(f"settle a market with {count:,} open bets", elapsed, "s", budget, at_most=True, note=note)]


async def _settle(world: World, shard: int, market: int) -> owner_pb2.SettleMarketResponse:
    route = (await world.routes_once())[shard]
    request = owner_pb2.SettleMarketRequest(
        shard_id=shard, epoch=route.epoch, market_id=market, version=1, outcomes={1: 5, 2: 1, 3: 1}
    )
    reply: owner_pb2.SettleMarketResponse = await world.owner(route.address).SettleMarket(
        request, metadata=world.service_metadata(), timeout=300
    )
    return reply


async def _bet_meanwhile(world: World, users: list[User], waits: list[float], stop: asyncio.Event) -> None:
    routes = await world.routes_once()
    number = 0
    while not stop.is_set():
        user = users[number % len(users)]
        number += 1
        request = owner_pb2.ExecuteRequest(
            shard_id=user.shard, epoch=routes[user.shard].epoch, commands=[bet_of(user, FIRST_MARKET + 9, 10)]
        )
        began = time.monotonic()
        await world.owner(routes[user.shard].address).Execute(request, timeout=60)
        waits.append(time.monotonic() - began)
