"""Durable bets/s: batches of singles through gRPC to the owners, everything on, everything on this machine."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import grpc

from betting.bench.report import Figure
from betting.bench.world import FIRST_MARKET, MARKETS, Route, User, World, bet_of
from betting.engine.entries import Kind
from betting.internal.v1 import owner_pb2
from betting.journal import reader

USERS = 4_000
# Calls in flight: enough that every owner always has work waiting.
CALLERS = 16
# More than this machine will take; when it runs out the measurement ends early.
PREPARED_PER_S = 70_000
EXECUTE = "/betting.internal.v1.OwnerService/Execute"
CATCH_UP_TIMEOUT_S = 300.0
BUDGET = 60_000

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, owner_pb2.ExecuteResponse]


@dataclass(frozen=True)
class Sent:
    """The results that the load generator recorded. Latencies are per call, in seconds."""

    accepted: int
    elapsed_s: float
    latencies_s: list[float]


async def measure(world: World, batch: int, seconds: float) -> list[Figure]:
    """Peak and sustained rate (accepted ÷ time until projector and outbox have caught up), and latencies per call."""
    users = world.users(USERS)
    await world.fund(users)
    await caught_up(world)
    before = await journal_size(world)
    wal_before = await world.database.fetchval("SELECT pg_current_wal_insert_lsn()")
    sent = await _from_another_process(users, await world.routes(), batch, seconds)
    catching_up = time.monotonic()
    await caught_up(world)
    sustained_s = sent.elapsed_s + time.monotonic() - catching_up
    accepted = await journal_size(world) - before
    assert accepted >= sent.accepted, f"{sent.accepted} bets acknowledged, {accepted} in the journal"
    wal = await world.database.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::bigint", wal_before)
    p50, p99 = quantile(sent.latencies_s, 0.5), quantile(sent.latencies_s, 0.99)
    note = f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms a call; {wal / accepted:.0f} B of WAL a bet"
    name = f"durable bets/s, batches of {batch}"
    return [
        Figure(f"{name}, peak", sent.accepted / sent.elapsed_s, "/s", BUDGET, note=note),
        Figure(f"{name}, sustained", accepted / sustained_s, "/s", note="until read models and streams have caught up"),
    ]


async def journal_size(world: World) -> int:
    """Accepted bets in the journal: the only ones that count."""
    return await reader.count_of_kind(world.database, Kind.BET_PLACED)


async def caught_up(world: World) -> None:
    """Returns once projector and outbox of every owner have nothing left."""
    end = time.monotonic() + CATCH_UP_TIMEOUT_S
    while True:
        addresses = {route.address for route in (await world.routes()).values()}
        statuses = [
            await world.owner(address).GetOwnerStatus(
                owner_pb2.GetOwnerStatusRequest(), metadata=world.service_metadata(), timeout=30
            )
            for address in addresses
        ]
        if all(shard.projector_lag <= 0 and shard.outbox_lag <= 0 for status in statuses for shard in status.shards):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"read models and streams did not catch up in {CATCH_UP_TIMEOUT_S:.0f} s")
        await asyncio.sleep(0.05)


async def _from_another_process(users: list[User], routes: dict[int, Route], batch: int, seconds: float) -> Sent:
    """Runs the load generator in a process of its own, as a gateway would be."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_generate, args=(sender, users, routes, batch, seconds), daemon=True
    )
    process.start()
    sent: Sent = await asyncio.to_thread(receiver.recv)
    process.join()
    return sent


def _generate(results: Connection, users: list[User], routes: dict[int, Route], batch: int, seconds: float) -> None:
    results.send(asyncio.run(_load(users, routes, batch, seconds)))


async def _load(users: list[User], routes: dict[int, Route], batch: int, seconds: float) -> Sent:
    requests = _prepared(users, routes, batch, seconds)
    channels = {route.address: grpc.aio.insecure_channel(route.address) for route in routes.values()}
    calls: dict[str, Call] = {
        address: channel.unary_unary(EXECUTE, response_deserializer=owner_pb2.ExecuteResponse.FromString)
        for address, channel in channels.items()
    }
    sent = Sent(0, 0.0, [])
    end = time.monotonic() + seconds

    async def caller() -> int:
        accepted = 0
        while time.monotonic() < end and requests:
            address, request = requests.pop()
            began = time.monotonic()
            reply = await calls[address](request, timeout=30)
            sent.latencies_s.append(time.monotonic() - began)
            accepted += sum(1 for result in reply.results if result.HasField("placed"))
        return accepted

    began = time.monotonic()
    accepted = sum(await asyncio.gather(*(caller() for _ in range(CALLERS))))
    for channel in channels.values():
        await channel.close()
    return Sent(accepted, time.monotonic() - began, sent.latencies_s)


def _prepared(users: list[User], routes: dict[int, Route], batch: int, seconds: float) -> list[tuple[str, bytes]]:
    """Address and bytes of every call, made beforehand: what is measured is the platform, not its load generator."""
    by_shard: dict[int, list[User]] = {}
    for user in users:
        by_shard.setdefault(user.shard, []).append(user)
    shards = itertools.cycle(sorted(by_shard))
    count = int(seconds * PREPARED_PER_S / batch)
    chosen = [shard for shard, _ in zip(shards, range(count), strict=False)]
    return [
        (routes[shard].address, _request(shard, routes[shard].epoch, by_shard[shard], batch).SerializeToString())
        for shard in chosen
    ]


_markets = itertools.cycle(range(FIRST_MARKET, FIRST_MARKET + MARKETS))


def _request(shard: int, epoch: int, users: list[User], batch: int) -> owner_pb2.ExecuteRequest:
    commands = [bet_of(users[number % len(users)], next(_markets), stake_minor=10) for number in range(batch)]
    return owner_pb2.ExecuteRequest(shard_id=shard, epoch=epoch, commands=commands)


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
