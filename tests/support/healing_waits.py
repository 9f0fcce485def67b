"""Waiting for what the healer does to real processes, and bettors who keep their journals growing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import in_process
from owner_calls import Bettor, Owners, new_key

from betting.embedded.topology import SHARD_COUNT
from betting.placement import shard_of
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import wallet_pb2, wallet_pb2_grpc

TIMEOUT_S = 60.0
DEPOSIT_EVERY_S = 0.2


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds until it holds; fails after sixty."""
    began_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - began_s < TIMEOUT_S, f"it never came to this: {what}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


def bettor_in(shard: int, secret: str) -> Bettor:
    """A new user of this shard of an embedded platform with this internal secret."""
    user = os.urandom(16)
    while shard_of(user, SHARD_COUNT) != shard:
        user = os.urandom(16)
    bettor = Bettor(user)
    bettor.token = in_process.user_token(user, secret=secret)
    return bettor


@asynccontextmanager
async def depositing_at_the_wallet(running: Any, shards: Sequence[int]) -> AsyncIterator[None]:
    """The same through wallet-service, which calls the owners; what it cannot do for them is let be."""
    topology = running.platform.topology

    async def deposit(target: Target, shard: int) -> None:
        bettor = bettor_in(shard, topology.folder.internal_secret())
        method = target.stub(wallet_pb2_grpc.WalletServiceStub).Deposit
        while True:
            key = str(UUID(bytes=new_key()))
            request = wallet_pb2.DepositRequest(request_key=key, currency="GBP", amount_minor=100)
            with suppress(ServiceError):
                await target.call(method, request, timeout_s=1.0, idempotent=False, principal=bettor.token)
            await asyncio.sleep(DEPOSIT_EVERY_S)

    async with (
        in_process.calling(topology.address("wallet-service")) as target,
        _at_work(deposit(target, shard) for shard in shards),
    ):
        yield


@asynccontextmanager
async def depositing(running: Any, shards: Sequence[int]) -> AsyncIterator[None]:
    """A bettor in each of these shards deposits again and again, for the length of a block."""
    topology = running.platform.topology
    owners = Owners(topology.postgres.dsn())
    await owners.open()
    secret = topology.folder.internal_secret()

    async def deposit(shard: int) -> None:
        bettor = bettor_in(shard, secret)
        while True:
            with suppress(TimeoutError):
                await owners.one(shard, bettor.deposit(100))
            await asyncio.sleep(DEPOSIT_EVERY_S)

    try:
        async with _at_work(deposit(shard) for shard in shards):
            yield
    finally:
        await owners.close()


@asynccontextmanager
async def _at_work(pool: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in pool]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
