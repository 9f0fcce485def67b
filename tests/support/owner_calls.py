"""Commands of test bettors, calls to whoever owns a shard, and a feed of test prices."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import in_process

from betting.internal.v1 import feed_pb2, feed_pb2_grpc, owner_pb2, owner_pb2_grpc
from betting.placement import shard_of
from betting.runtime.principal import METADATA_KEY, service_principal
from betting.v1 import event_pb2, odds_pb2

SHARDS = 4
MARKETS = range(1, 9)  # market m is of event m
PRICE = (3, 2)
# A frozen owner answers nobody: whoever waits looks for the next one, with the same request key.
ATTEMPT_TIMEOUT_S = 1.0
REPEATABLE = tuple(grpc.StatusCode[name] for name in ("UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED"))
FAR_US = 4_000_000_000_000_000


def new_key(age_ms: int = 0) -> bytes:
    """A UUIDv7 made this many milliseconds ago."""
    made = (time.time_ns() // 1_000_000 - age_ms).to_bytes(6)
    rest = bytearray(os.urandom(10))
    rest[0] = 0x70 | rest[0] & 0x0F
    rest[2] = 0x80 | rest[2] & 0x3F
    return made + bytes(rest)


def service_metadata() -> tuple[tuple[str, bytes], ...]:
    """What one service sends another."""
    secret = bytes.fromhex(in_process.SECRET)
    return ((METADATA_KEY, service_principal("test-1", secret, time.time_ns() // 1000)),)


def user_in(shard: int) -> bytes:
    """A new user of this shard."""
    while True:
        user = os.urandom(16)
        if shard_of(user, SHARDS) == shard:
            return user


@dataclass
class Bettor:
    """Makes commands of one user."""

    user: bytes
    token: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.token = in_process.user_token(self.user)

    @property
    def shard(self) -> int:
        return shard_of(self.user, SHARDS)

    def deposit(self, amount: int, key: bytes | None = None) -> owner_pb2.Command:
        command = self._command(key or new_key())
        command.deposit.amount_minor = amount
        return command

    def withdraw(self, amount: int, key: bytes | None = None) -> owner_pb2.Command:
        command = self._command(key or new_key())
        command.withdraw.amount_minor = amount
        return command

    def bet(
        self, stake: int, *markets: int, key: bytes | None = None, selection: int = 1, price: tuple[int, int] = PRICE
    ) -> owner_pb2.Command:
        command = self._command(key or new_key())
        command.place_bet.stake_minor = stake
        for market in markets or (1,):
            command.place_bet.legs.add(
                market_id=market, selection_id=selection, numerator=price[0], denominator=price[1]
            )
        return command

    def balance(self) -> owner_pb2.Command:
        command = self._command(b"")
        command.get_balance.SetInParent()
        return command

    def get_bet(self, bet: bytes) -> owner_pb2.Command:
        command = self._command(b"")
        command.get_bet.bet_id = bet
        return command

    def by_key(self, key: bytes) -> owner_pb2.Command:
        command = self._command(b"")
        command.get_by_request_key.request_key = key
        return command

    def open_bets(self, page_size: int = 0, after: bytes = b"") -> owner_pb2.Command:
        command = self._command(b"")
        command.list_open_bets.page_size = page_size
        command.list_open_bets.after_bet_id = after
        return command

    def _command(self, key: bytes) -> owner_pb2.Command:
        return owner_pb2.Command(request_key=key, principal=self.token, currency="GBP", correlation_id=bytes(16))


class Owners:
    """Finds owners through the directory, as the router does, and calls them."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.connection: asyncpg.Pool

    async def open(self) -> None:
        self.connection = await asyncpg.create_pool(self.dsn, min_size=1, max_size=4)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        await self.connection.close()

    async def route(self, shard: int) -> tuple[str | None, int]:
        row = await self.connection.fetchrow("SELECT address, epoch FROM betting.shards WHERE shard_id = $1", shard)
        return (row["address"], row["epoch"]) if row else (None, 0)

    def stub(self, address: str) -> owner_pb2_grpc.OwnerServiceStub:
        if address not in self._channels:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._channels[address] = grpc.aio.insecure_channel(address, options=options)
        return owner_pb2_grpc.OwnerServiceStub(self._channels[address])

    async def execute(self, shard: int, *commands: owner_pb2.Command, timeout_s: float = 10.0) -> list[Any]:
        """Results, after following the shard and retrying whatever is transient, with the same request keys."""
        end = time.monotonic() + timeout_s
        while True:
            address, epoch = await self.route(shard)
            if address is not None:
                request = owner_pb2.ExecuteRequest(shard_id=shard, epoch=epoch, commands=commands)
                try:
                    reply = await self.stub(address).Execute(request, timeout=ATTEMPT_TIMEOUT_S)
                except grpc.aio.AioRpcError as problem:
                    if problem.code() not in REPEATABLE:
                        raise
                else:
                    if not any(_transient(result) for result in reply.results):
                        return list(reply.results)
            if time.monotonic() > end:
                raise TimeoutError(f"shard {shard} gave no answer in {timeout_s} s")
            await asyncio.sleep(0.02)

    async def one(self, bettor_shard: int, command: owner_pb2.Command) -> Any:
        """The result of one command."""
        [result] = await self.execute(bettor_shard, command)
        return result

    async def settle(self, market: int, version: int, outcomes: dict[int, int]) -> list[Any]:
        """Settles a market on every shard."""
        return [await self.settle_shard(shard, market, version, outcomes) for shard in range(SHARDS)]

    async def settle_shard(self, shard: int, market: int, version: int, outcomes: dict[int, int]) -> Any:
        address, epoch = await self.route(shard)
        assert address is not None
        request = owner_pb2.SettleMarketRequest(
            shard_id=shard, epoch=epoch, market_id=market, version=version, outcomes=outcomes
        )
        return await self.stub(address).SettleMarket(request, timeout=20, metadata=service_metadata())

    async def all_served(self, timeout_s: float = 10.0) -> None:
        """Returns once every shard answers."""
        for shard in range(SHARDS):
            await self.execute(shard, Bettor(user_in(shard)).balance(), timeout_s=timeout_s)


def _transient(result: Any) -> bool:
    return bool(result.refusal.code in (40, 41, 42))


async def keep_publishing(address: str) -> None:
    """Feeds an odds-service for ever: a snapshot, then a sign of life every second."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = feed_pb2_grpc.PriceFeedServiceStub(channel)
        snapshot = True
        while True:
            request = feed_pb2.PublishPricesRequest(
                producer_id="test", producer_name="test", changes=market_prices() if snapshot else [], snapshot=snapshot
            )
            reply = await stub.PublishPrices(request, metadata=service_metadata())
            snapshot = reply.wants_snapshot
            await asyncio.sleep(1)


def market_prices() -> list[odds_pb2.MarketPrices]:
    """Every test market, open, all selections at the same price."""
    return [
        odds_pb2.MarketPrices(
            market_id=market,
            event_id=market,
            status=event_pb2.MARKET_STATUS_OPEN,
            closes_at_us=FAR_US,
            producer_id="test",
            prices=[
                odds_pb2.SelectionPrice(selection_id=selection, price={"numerator": PRICE[0], "denominator": PRICE[1]})
                for selection in (1, 2, 3)
            ],
        )
        for market in MARKETS
    ]
