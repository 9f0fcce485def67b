"""A platform to measure: real processes on a folder of its own, fsync on, steady prices, users with money."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import asyncpg
import grpc

from betting.embedded import platform
from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, Platform
from betting.embedded.topology import BET_SERVICES, SERVICES, SHARD_COUNT
from betting.internal.v1 import feed_pb2, feed_pb2_grpc, owner_pb2, owner_pb2_grpc
from betting.journal import directory
from betting.placement import shard_of
from betting.runtime.ids import new_uuid7
from betting.runtime.principal import METADATA_KEY, Principal, Role, service_principal, sign
from betting.v1 import common_pb2, event_pb2, odds_pb2

CURRENCY = "GBP"
PRICE = (91, 100)
MARKETS = 400
FIRST_MARKET = 1_000_001
FAR_US = 4_000_000_000_000_000
DEPOSIT_MINOR = 1_000_000_000
ALIVE_EVERY_S = 5.0
READY_TIMEOUT_S = 120.0
MOVING_PAUSE_S = 0.05
# One address stands for thousands of bettors: its limits are raised (the limiter stays on the path). Their passwords,
# which are not what is measured, are hashed cheaply.
LOADED = {
    "BETTING_MONEY_PER_USER_S": "100000",
    "BETTING_MONEY_PER_USER_BURST": "100000",
    "BETTING_REQUESTS_PER_ADDRESS_S": "1000000",
    "BETTING_REQUESTS_PER_ADDRESS_BURST": "1000000",
    "BETTING_SIGN_INS_PER_ADDRESS_S": "1000",
    "BETTING_SIGN_INS_PER_ADDRESS_BURST": "1000",
    "BETTING_ARGON2_TIME_COST": "1",
    "BETTING_ARGON2_MEMORY_KIB": "64",
    "BETTING_ARGON2_PARALLELISM": "1",
    "BETTING_MAX_OPEN_BETS": "100000",
}
CORE = ("event-service", "odds-service", "bet-service")


class User(NamedTuple):
    """A bettor; `token` is the principal the gateway would forward."""

    user: bytes
    token: bytes
    shard: int


class Route(NamedTuple):
    """The owner of a shard and its address."""

    address: str
    epoch: int


@dataclass
class World:
    """A running platform and what is needed to load it."""

    running: Platform
    database: asyncpg.Connection
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known: dict[int, Route] = field(default_factory=dict)

    @property
    def shard_count(self) -> int:
        return self.running.topology.shard_count

    @property
    def secret(self) -> bytes:
        return bytes.fromhex(self.running.topology.folder.internal_secret())

    def service_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """What a service sends a service."""
        return ((METADATA_KEY, service_principal("bench", self.secret, time.time_ns() // 1000)),)

    def users(self, count: int) -> list[User]:
        """Registers new bettors; the shards get about the same number of them."""
        made = []
        for _ in range(count):
            user = new_uuid7().bytes
            token = sign(Principal(user, Role.BETTOR, bytes(16), FAR_US), self.secret)
            made.append(User(user, token, shard_of(user, self.shard_count)))
        return made

    async def routes(self) -> dict[int, Route]:
        """The owner of every shard that has one."""
        rows = await directory.shards(self.database)
        return {row.shard: Route(row.address, row.epoch) for row in rows if row.address is not None}

    async def routes_once(self) -> dict[int, Route]:
        """`routes`, shared by all concurrent callers."""
        async with self._asking:
            return await self.routes()

    def owner(self, address: str) -> owner_pb2_grpc.OwnerServiceStub:
        if address not in self.channels:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20)]
            self.channels[address] = grpc.aio.insecure_channel(address, options=options)
        return owner_pb2_grpc.OwnerServiceStub(self.channels[address])

    async def execute(self, shard: int, commands: Sequence[owner_pb2.Command]) -> owner_pb2.ExecuteResponse:
        """One call to the owner, following the shard while it moves."""
        while True:
            route = self._known.get(shard)
            if route is not None:
                request = owner_pb2.ExecuteRequest(shard_id=shard, epoch=route.epoch, commands=commands)
                reply: owner_pb2.ExecuteResponse = await self.owner(route.address).Execute(request, timeout=30)
                if reply.results[0].refusal.code != common_pb2.REFUSAL_CODE_NOT_OWNER:
                    return reply
                await asyncio.sleep(MOVING_PAUSE_S)
            async with self._asking:
                if self._known.get(shard) == route:
                    self._known = await self.routes()
                    await asyncio.sleep(MOVING_PAUSE_S if shard not in self._known else 0)

    async def fund(self, users: Sequence[User]) -> None:
        """Deposits money for each user."""
        by_shard: dict[int, list[owner_pb2.Command]] = {}
        for user in users:
            command = command_of(user)
            command.deposit.amount_minor = DEPOSIT_MINOR
            by_shard.setdefault(user.shard, []).append(command)
        await asyncio.gather(*(self._execute_all(shard, commands) for shard, commands in by_shard.items()))

    async def _execute_all(self, shard: int, commands: Sequence[owner_pb2.Command]) -> None:
        for start in range(0, len(commands), 500):
            reply = await self.execute(shard, commands[start : start + 500])
            assert all(result.HasField("balance") for result in reply.results), reply.results[0]

    async def wait_until_bettable(self) -> None:
        """Returns once the shards are shared out and every one takes bets."""
        end = time.monotonic() + READY_TIMEOUT_S
        while not shared_out(await self.routes(), self.shard_count):
            if time.monotonic() > end:
                raise TimeoutError(f"the shards were not shared out within {READY_TIMEOUT_S:.0f} s")
            await asyncio.sleep(0.1)
        probes = {user.shard: user for user in self.users(self.shard_count * 40)}
        waiting = set(range(self.shard_count))
        while waiting:
            asked = sorted(waiting)
            replies = await asyncio.gather(*(self.execute(s, [bet_of(probes[s], FIRST_MARKET)]) for s in asked))
            stale = [reply.results[0].refusal.code == common_pb2.REFUSAL_CODE_BOOK_STALE for reply in replies]
            waiting = {shard for shard, is_stale in zip(asked, stale, strict=True) if is_stale}
            if waiting and time.monotonic() > end:
                raise TimeoutError(f"shards {sorted(waiting)} take no bets after {READY_TIMEOUT_S:.0f} s")
            await asyncio.sleep(0.1)


def shared_out(routes: dict[int, Route], shard_count: int) -> bool:
    """Whether every shard has an owner and all bet-services own as many of them."""
    owned = Counter(route.address for route in routes.values())
    return (
        len(owned) == len(BET_SERVICES)
        and max(owned.values()) - min(owned.values()) <= 1
        and owned.total() == shard_count
    )


def command_of(user: User) -> owner_pb2.Command:
    """An empty command with a new request key."""
    return owner_pb2.Command(
        request_key=new_uuid7().bytes, principal=user.token, currency=CURRENCY, correlation_id=os.urandom(16)
    )


def bet_of(user: User, market: int, stake_minor: int = 500) -> owner_pb2.Command:
    """A single at the price there is."""
    command = command_of(user)
    command.place_bet.stake_minor = stake_minor
    command.place_bet.legs.add(market_id=market, selection_id=1, numerator=PRICE[0], denominator=PRICE[1])
    return command


@asynccontextmanager
async def world(
    folder: Path, names: Sequence[str] = CORE, shard_count: int = SHARD_COUNT, **more: str
) -> AsyncIterator[World]:
    """Brings up the services named (with the databases) and feeds them prices. more: further settings, by variable."""
    services = tuple(service for service in SERVICES if service.name in names)
    options = Options(
        DataFolder.at(folder), free_ports=True, services=services, extra=LOADED | more, shard_count=shard_count
    )
    async with platform.running(options, lambda _name, _s: None, lambda _line: None) as running:
        database = await asyncpg.connect(running.topology.postgres.dsn())
        made = World(running, database)
        feeding = asyncio.create_task(_feed(made))
        try:
            await made.wait_until_bettable()
            yield made
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            for channel in made.channels.values():
                await channel.close()
            await database.close()


async def _feed(made: World) -> None:
    """A producer like any other: a snapshot, then a sign of life every few seconds."""
    snapshot = True
    async with grpc.aio.insecure_channel(made.running.topology.address("odds-service")) as channel:
        stub = feed_pb2_grpc.PriceFeedServiceStub(channel)
        while True:
            request = feed_pb2.PublishPricesRequest(
                producer_id="bench", producer_name="bench", changes=_markets() if snapshot else [], snapshot=snapshot
            )
            reply = await stub.PublishPrices(request, metadata=made.service_metadata(), timeout=10)
            snapshot = reply.wants_snapshot
            await asyncio.sleep(ALIVE_EVERY_S)


def _markets() -> list[odds_pb2.MarketPrices]:
    price = {"numerator": PRICE[0], "denominator": PRICE[1]}
    return [
        odds_pb2.MarketPrices(
            market_id=market,
            event_id=market,
            status=event_pb2.MARKET_STATUS_OPEN,
            closes_at_us=FAR_US,
            producer_id="bench",
            prices=[odds_pb2.SelectionPrice(selection_id=selection, price=price) for selection in (1, 2, 3)],
        )
        for market in range(FIRST_MARKET, FIRST_MARKET + MARKETS)
    ]
