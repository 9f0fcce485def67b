"""A running odds-service on a fresh database, with a clock only tests move, stubs, tokens and a stream reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import in_process
import pytest
from clocks import ManualClock

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds.main import compose
from betting.odds.settings import OddsSettings
from betting.runtime.breaker import BreakerPolicy
from betting.runtime.client import Target
from betting.runtime.principal import service_principal
from betting.v1 import event_pb2, odds_pb2, odds_pb2_grpc

NOW_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
# Tests make services fail on purpose; their client must not stop asking.
_PATIENT = BreakerPolicy(calls_min=100_000)


@dataclass
class Odds:
    """Calls to one odds-service."""

    address: str
    target: Target
    clock: ManualClock
    token: bytes

    async def ask(self, method: str, request: Any) -> Any:
        stub = self.target.stub(odds_pb2_grpc.OddsServiceStub)
        return await self.target.call(getattr(stub, method), request, idempotent=False)

    async def publish(
        self,
        *changes: odds_pb2.MarketPrices,
        snapshot: bool = False,
        producer: str = "feed",
        token: bytes | None = None,
    ) -> bool:
        request = feed_pb2.PublishPricesRequest(
            producer_id=producer, producer_name="A feed", changes=changes, snapshot=snapshot
        )
        return bool((await self.publish_raw(request, token)).wants_snapshot)

    async def publish_raw(self, request: feed_pb2.PublishPricesRequest, token: bytes | None = None) -> Any:
        stub = self.target.stub(feed_pb2_grpc.PriceFeedServiceStub)
        principal = self.token if token is None else token
        return await self.target.call(stub.PublishPrices, request, idempotent=False, principal=principal or None)

    async def prices(self, market_id: int) -> Any:
        return (await self.ask("GetPrices", odds_pb2.GetPricesRequest(market_id=market_id))).prices

    def watch(self, *event_ids: int) -> AsyncIterator[odds_pb2.WatchPricesResponse]:
        stub = self.target.stub(odds_pb2_grpc.OddsServiceStub)
        return self.target.stream(stub.WatchPrices, odds_pb2.WatchPricesRequest(event_ids=event_ids))


Start = Callable[..., AbstractAsyncContextManager[Odds]]


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test's services."""
    return ManualClock(NOW_US)


@pytest.fixture
def start_odds(database: Any, clock: ManualClock) -> Start:
    """Starts an odds-service; settings by name. More than one may run on the test's database."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Odds]:
        defaults: dict[str, Any] = {
            "postgres_dsn": database.dsn,
            "tick": timedelta(milliseconds=10),
            "beat": timedelta(milliseconds=50),
        }
        configured = in_process.settings(OddsSettings, **(defaults | settings))
        token = service_principal(
            "feed-1", bytes.fromhex(in_process.SECRET), in_process.FAR_FUTURE_US - 7200 * SECOND_US
        )
        async with (
            in_process.running(compose, configured, service="odds-service", clock=clock) as address,
            in_process.calling(address, "odds-service", breaker=_PATIENT) as target,
        ):
            yield Odds(address, target, clock, token)

    return start


@pytest.fixture
async def odds(start_odds: Start) -> AsyncIterator[Odds]:
    """One odds-service."""
    async with start_odds() as running:
        yield running


@pytest.fixture
def make_prices() -> Callable[..., odds_pb2.MarketPrices]:
    """Makes the offer of a two-way market; `price` is the first selection's numerator over 100."""

    def make(market_id: int = 11, price: int = 91, **fields: Any) -> odds_pb2.MarketPrices:
        defaults: dict[str, Any] = {
            "market_id": market_id,
            "event_id": market_id // 10,
            "status": event_pb2.MARKET_STATUS_OPEN,
            "closes_at_us": NOW_US + 60 * MINUTE_US,
        }
        message = odds_pb2.MarketPrices(**(defaults | fields))
        if "prices" not in fields:
            for selection_id, numerator in ((1, price), (2, 105)):
                offered = message.prices.add(selection_id=selection_id)
                offered.price.numerator, offered.price.denominator = numerator, 100
        return message

    return make
