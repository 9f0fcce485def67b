"""Probes from outside, several times a second, which parts of the platform work. It does not ask the healer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import asyncpg
import grpc
import redis
from redis.asyncio import Redis

from betting.drills.bettors import CURRENCY, Bettor
from betting.drills.connect import CallFailed, ConnectClient
from betting.drills.measure import Mark
from betting.drills.target import Target
from betting.journal import consumers, directory
from betting.runtime.redis import open_client
from betting.v1 import odds_pb2, odds_pb2_grpc

BETS = "bets"  # told by the bets themselves, not asked for here
PROCESSES = "processes"
SHARDS = "shards"
WALLET = "wallet"
REDIS = "Redis"
FEED = "feed"
CONSUMERS = "consumers"
INTERVAL_S = 0.1
TIMEOUT_S = 1.0
_DOES_NOT_WORK = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    redis.RedisError,
    grpc.aio.AioRpcError,
    CallFailed,
)
# A consumer works if it has taken in what was there a moment ago.
_MOMENT_S = 2.0
_CALLER = "betting-demo"

T = TypeVar("T")
Probe = Callable[[], Awaitable[bool]]


class AvailabilityProbe:
    """Probes repeatedly; `marks` holds, for each part, when it started and stopped working."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self.marks: dict[str, list[Mark]] = {part: [] for part in probes}

    @property
    def wrong(self) -> list[str]:
        """The parts that do not work now, or were not probed yet."""
        return [part for part, marks in self.marks.items() if not marks or not marks[-1].works]

    async def run(self) -> None:
        """Probes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part, probe in self._probes.items():
                group.create_task(self._ask_for_ever(part, probe))

    async def _ask_for_ever(self, part: str, probe: Probe) -> None:
        while True:
            works = False
            with suppress(*_DOES_NOT_WORK):
                async with asyncio.timeout(TIMEOUT_S):
                    works = await probe()
            marks = self.marks[part]
            if not marks or marks[-1].works is not works:
                marks.append(Mark(time.monotonic(), works))
            await asyncio.sleep(INTERVAL_S)


@asynccontextmanager
async def watching(target: Target, client: ConnectClient, bettor: Bettor) -> AsyncIterator[AvailabilityProbe]:
    """Probes the parts of a platform, for the length of a block."""
    store = open_client(target.redis_url, _CALLER)
    channel = grpc.aio.insecure_channel(target.address("odds-service"))
    database, consumers = _Directory(target.postgres_dsn), _Consumers(target.postgres_dsn)
    probes: dict[str, Probe] = {
        PROCESSES: lambda: _processes(target),
        SHARDS: database.all_owned,
        CONSUMERS: consumers.keep_up,
        WALLET: lambda: _wallet(client, bettor),
        REDIS: lambda: _writes(store),
        FEED: lambda: _feeds(channel, target),
    }
    try:
        async with asking(AvailabilityProbe(probes)) as probe:
            yield probe
    finally:
        await channel.close()
        await store.aclose()


@asynccontextmanager
async def asking(probe: AvailabilityProbe) -> AsyncIterator[AvailabilityProbe]:
    """Runs the probe for the length of a block."""
    task = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _processes(target: Target) -> bool:
    return all(each.ready for each in target.instances())


async def _wallet(client: ConnectClient, bettor: Bettor) -> bool:
    body = {"currency": CURRENCY}
    await client.call("betting.v1.WalletService/GetBalance", body, token=bettor.token, timeout_s=TIMEOUT_S)
    return True


async def _writes(store: Redis) -> bool:
    return bool(await store.set("betting-demo", b"1", px=60_000))


async def _feeds(channel: grpc.aio.Channel, target: Target) -> bool:
    method = odds_pb2_grpc.OddsServiceStub(channel).ListProducers
    reply = await method(
        odds_pb2.ListProducersRequest(), timeout=TIMEOUT_S, metadata=tuple(target.credentials(_CALLER))
    )
    return bool(reply.producers) and all(each.status == odds_pb2.PRODUCER_STATUS_ALIVE for each in reply.producers)


class _Database:
    """Probes through one connection; connects again after every failure."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """The result of a query."""
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(self._dsn, timeout=TIMEOUT_S)
            return await question(self._connection)
        except BaseException:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            raise


class _Directory(_Database):
    """Probes the ownership of shards."""

    async def all_owned(self) -> bool:
        """Whether every shard has an owner."""
        return await self.ask(directory.unserved) == 0


class _Consumers(_Database):
    """Probes the consumers of the Redis streams."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._heads: deque[tuple[float, dict[int, int]]] = deque()

    async def keep_up(self) -> bool:
        """Whether all consumers have read the entries that existed a moment ago."""
        now_s = time.monotonic()
        self._heads.append((now_s, await self.ask(consumers.all_heads)))
        positions = await self.ask(consumers.all_lowest)
        while len(self._heads) > 1 and self._heads[1][0] <= now_s - _MOMENT_S:
            self._heads.popleft()
        heads = self._heads[0][1]
        return all(positions.get(shard, 0) >= head for shard, head in heads.items())
