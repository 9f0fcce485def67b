"""Fixtures: a real bet-service in this process, on real Postgres and Valkey, and an odds-service with a few markets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import in_process
import pytest
from owner_calls import SHARDS, Owners, keep_publishing

from betting.bets.main import compose
from betting.bets.settings import BetSettings
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings


@pytest.fixture
async def owners(database: Any) -> AsyncIterator[Owners]:
    """Calls to whoever owns a shard."""
    found = Owners(database.dsn)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def odds(database: Any, valkey: Any) -> AsyncIterator[str]:
    """A running odds-service with one open market per event; yields its address."""
    settings = in_process.settings(
        OddsSettings, instance="odds-service", postgres_dsn=database.dsn, redis_url=valkey.url
    )
    async with in_process.running(compose_odds, settings, service="odds-service") as address:
        alive = asyncio.create_task(keep_publishing(address))
        yield address
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)


Starter = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def bet_service(database: Any, valkey: Any, odds: str, unused_tcp_port_factory: Callable[[], int]) -> Starter:
    """Starts bet-service instances: `async with bet_service("bet-service-1") as address`."""

    @asynccontextmanager
    async def start(name: str = "bet-service-1", **overrides: Any) -> AsyncIterator[str]:
        address = f"127.0.0.1:{unused_tcp_port_factory()}"
        defaults = {
            "instance": name,
            "grpc_address": address,
            "postgres_dsn": database.dsn,
            "redis_url": valkey.url,
            "odds_service": odds,
            "shard_count": SHARDS,
        }
        settings = in_process.settings(BetSettings, **(defaults | overrides))
        in_process.install(settings.postgres_dsn, settings.shard_count)
        async with in_process.running(compose, settings, service="bet-service"):
            yield address

    return start
