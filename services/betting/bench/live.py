"""Socket.IO: price updates to many clients, and bettors who come back after a gateway has died."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc

from betting.bench.live_clients import Task
from betting.bench.report import Figure
from betting.bench.single import placed_bet, users
from betting.bench.world import FAR_US, FIRST_MARKET, PRICE, World
from betting.embedded.ports import HOST, held_ports
from betting.embedded.readiness import grpc_serving
from betting.embedded.topology import GATEWAY
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.v1 import event_pb2, odds_pb2

BUDGET_DELIVERIES = 60_000
CLIENTS = 1_000
ROOMS = 50
CLIENTS_IN_ROOMS = 200
# Deliveries offered a second: more than can be made, and a load at which delays mean something. Every update changes
# all rooms.
FULL = 400_000
EASY = 20_000


async def measure(world: World, seconds: float) -> list[Figure]:
    """Deliveries as clients counted them; delays from the moment that odds-service made the version."""
    url = f"http://{world.running.topology.http_address()}"
    tokens = await users(url)
    one_room = [[["subscribe:odds", {"eventId": str(FIRST_MARKET)}]]]
    many = [[["subscribe:odds", {"eventId": str(FIRST_MARKET + room)}] for room in range(ROOMS)]]
    figures = []
    for name, clients, subscriptions, rooms in (
        (f"{CLIENTS} clients in one room", CLIENTS, one_room, 1),
        (f"{CLIENTS_IN_ROOMS} clients in {ROOMS} rooms each", CLIENTS_IN_ROOMS, many, ROOMS),
    ):
        task = Task(_port(world), tokens, clients, subscriptions, seconds)
        full = await _counted(world, task, rooms, FULL / clients / rooms)
        easy = await _counted(world, task, rooms, EASY / clients / rooms)
        figures += [
            Figure(
                f"Socket.IO deliveries/s, {name}",
                full["received"] / full["took_s"],
                "/s",
                BUDGET_DELIVERIES,
                note=f"{FULL:,} offered; p99 delay {full['p99_ms']:,.0f} ms",
            ),
            Figure(
                f"— p99 delay at {easy['received'] / easy['took_s']:,.0f} deliveries/s", easy["p99_ms"], "ms",
                note=f"p50 {easy['p50_ms']:,.0f} ms",
            ),
        ]  # fmt: skip
    return [*figures, await _resumed(world, tokens)]


async def _counted(world: World, task: Task, rooms: int, updates_s: float) -> dict[str, Any]:
    """What the clients received while the prices of all rooms changed, so many times a second."""
    async with _clients(task) as process:
        publishing = asyncio.create_task(_publish(world, rooms, updates_s))
        await asyncio.sleep(1.0)
        result = await _result(process)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    assert result["lost"] == 0, f"{result['lost']} connections were lost"
    return result


async def _resumed(world: World, tokens: Sequence[str]) -> Figure:
    """From the death of a gateway until all its clients follow their bets at another one."""
    url = f"http://{world.running.topology.http_address()}"
    async with aiohttp.ClientSession(url) as session:
        bets = [await placed_bet(session, token) for token in tokens]
    follow = [[["subscribe:bet", {"betId": bet}]] for bet in bets]
    async with _second_gateway(world) as port:
        task = Task(_port(world), list(tokens), CLIENTS, follow, 0.0, port, follow)
        async with _clients(task) as process:
            asyncio.get_running_loop().call_later(0.5, world.running.supervisor.signal, GATEWAY, signal.SIGKILL)
            result = await _result(process)
    return Figure(
        "bettors resumed/s at another gateway after theirs died",
        result["received"] / result["took_s"],
        "/s",
        note=f"{CLIENTS} connections, all back after {result['took_s']:.1f} s",
    )


@asynccontextmanager
async def _clients(task: Task) -> AsyncIterator[asyncio.subprocess.Process]:
    """The clients, ready, in a process of their own."""
    command = (sys.executable, "-m", "betting.bench.live_clients", task.text())
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line == b"ready\n", f"the clients did not become ready: {line!r}"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _result(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    result: dict[str, Any] = json.loads(await process.stdout.readline())
    return result


@asynccontextmanager
async def _second_gateway(world: World) -> AsyncIterator[int]:
    """Another gateway of the same platform; its HTTP port."""
    topology = world.running.topology
    with held_ports(2) as [grpc_port, http_port]:
        environment = topology.environment(GATEWAY) | {
            "BETTING_INSTANCE": f"{GATEWAY}-2",
            "BETTING_GRPC_ADDRESS": f"{HOST}:{grpc_port}",
            "BETTING_HTTP_ADDRESS": f"{HOST}:{http_port}",
        }
        environment.pop("BETTING_METRICS_ADDRESS")
        command = (sys.executable, "-P", "-m", "betting.runtime.launch", "betting.gateway")
        log = topology.folder.path / "logs" / f"{GATEWAY}-2.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | environment, cwd=topology.folder.path, stdout=output, stderr=output
            )
        try:
            while not await grpc_serving(f"{HOST}:{grpc_port}")():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
            yield http_port
        finally:
            process.kill()
            await process.wait()


async def _publish(world: World, rooms: int, updates_s: float) -> None:
    """Changes the prices of all rooms, for ever, so many times a second."""
    interval_s, number = 1 / updates_s, 0
    async with grpc.aio.insecure_channel(world.running.topology.address("odds-service")) as channel:
        stub = feed_pb2_grpc.PriceFeedServiceStub(channel)
        next_s = asyncio.get_running_loop().time()
        while True:
            number += 1
            request = feed_pb2.PublishPricesRequest(
                producer_id="bench",
                producer_name="bench",
                changes=[_market(FIRST_MARKET + room, number) for room in range(rooms)],
            )
            await stub.PublishPrices(request, metadata=world.service_metadata(), timeout=10)
            next_s += interval_s
            await asyncio.sleep(max(0.0, next_s - asyncio.get_running_loop().time()))


def _market(market: int, number: int) -> odds_pb2.MarketPrices:
    """Another price each time."""
    prices = [
        odds_pb2.SelectionPrice(
            selection_id=each, price={"numerator": PRICE[0] + number % 100, "denominator": PRICE[1]}
        )
        for each in (1, 2, 3)
    ]
    return odds_pb2.MarketPrices(
        market_id=market,
        event_id=market,
        status=event_pb2.MARKET_STATUS_OPEN,
        closes_at_us=FAR_US,
        producer_id="bench",
        prices=prices,
    )


def _port(world: World) -> int:
    return int(world.running.topology.http_address().rpartition(":")[2])
