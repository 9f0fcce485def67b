"""Services around the feed of The Odds API, its source, and questions to ask of them again and again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import in_process
from odds_api_server import KEY, OddsApiServer
from settlement_recorder import SettlementRecorder

from betting.events.main import compose as compose_events
from betting.feeds.seasons import identity
from betting.feeds.the_odds_api import fixtures
from betting.feeds.the_odds_api.main import compose as compose_feed
from betting.feeds.the_odds_api.settings import OddsApiSettings
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds.main import compose as compose_odds
from betting.odds.settings import OddsSettings
from betting.runtime.errors import ServiceError
from betting.runtime.principal import Role
from betting.v1 import event_pb2, event_pb2_grpc, odds_pb2, odds_pb2_grpc

S = 1_000_000
HOUR_US = 3600 * S
ID_1, ID_2 = "36808dc52374b40df08cab6b1d5664d1", "9b878684a95cdcd7b77ba588f916b483"
EPL = "soccer_epl"
RESULT, TOTAL, HANDICAP = 1, 2, 3
OPEN, SUSPENDED, CLOSED, RESULTED = 1, 2, 3, 4
SILENCE_S = 2.0


Eventually = Callable[..., Awaitable[Any]]


class ShiftedClock:
    """The machine's clock, some time ahead."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.ahead_us

    def monotonic_s(self) -> float:
        return time.monotonic()


class World:
    """The services around the feed, and its source."""

    def __init__(self, dsn: str, port: Callable[[], int]) -> None:
        self.dsn = dsn
        self.clock = ShiftedClock()
        self.source = OddsApiServer(self.clock.now_us)
        self.settlement = SettlementRecorder()
        self.addresses = {name: f"127.0.0.1:{port()}" for name in ("events", "odds", "settlement")}
        self.source_port = port()

    def events(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(postgres_dsn=self.dsn, grpc_address=self.addresses["events"])
        return in_process.running(compose_events, settings, service="event-service", clock=self.clock)

    def odds(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(
            OddsSettings,
            postgres_dsn=self.dsn,
            grpc_address=self.addresses["odds"],
            tick="0.02",
            producer_silence=str(SILENCE_S),
        )
        return in_process.running(compose_odds, settings, service="odds-service", clock=self.clock)

    def settling(self) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(grpc_address=self.addresses["settlement"])
        return in_process.running(self.settlement.compose, settings, service="settlement-service", clock=self.clock)

    @asynccontextmanager
    async def all_services(self) -> AsyncIterator[None]:
        async with self.events(), self.odds(), self.settling(), self.source.running(self.source_port):
            yield

    def feed(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        defaults: dict[str, Any] = {
            "postgres_dsn": self.dsn,
            "event_service": self.addresses["events"],
            "odds_service": self.addresses["odds"],
            "settlement_service": self.addresses["settlement"],
            "odds_api_key": KEY,
            "odds_api_url": f"http://127.0.0.1:{self.source_port}",
            "odds_api_poll": "0.2",
            "odds_api_pulse": "0.3",
            "odds_api_timeout": "0.8",
            "odds_api_spacing": "0.02",
            "odds_api_tick": "0.02",
        }
        configured = in_process.settings(OddsApiSettings, **(defaults | settings))
        return in_process.running(compose_feed, configured, service="the-odds-api", clock=self.clock)

    def in_us(self, hours: float) -> int:
        """A whole second some hours ahead."""
        return (self.clock.now_us() + int(hours * HOUR_US)) // S * S

    async def event(self, source_id: str = ID_1) -> Any:
        """The catalogue's event, None where there is none."""
        async with in_process.calling(self.addresses["events"]) as target:
            request = event_pb2.GetEventRequest(event_id=fixtures.event_id(source_id))
            try:
                return (
                    await target.call(target.stub(event_pb2_grpc.EventServiceStub).GetEvent, request, idempotent=True)
                ).event
            except ServiceError:
                return None

    async def abandon(self, source_id: str = ID_1) -> None:
        """What an operator may do."""
        async with in_process.calling(self.addresses["events"]) as target:
            request = feed_pb2.SetEventStatusRequest(
                event_id=fixtures.event_id(source_id), status=event_pb2.EVENT_STATUS_ABANDONED
            )
            token = in_process.user_token(bytes(15) + b"\x01", role=Role.OPERATOR)
            stub = target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
            await target.call(stub.SetEventStatus, request, idempotent=True, principal=token)

    async def quotes(self, source_id: str = ID_1) -> dict[tuple[int, int], odds_pb2.MarketPrices]:
        """What odds-service has on an event's usual markets, by kind and line."""
        lines = ((RESULT, 0), (TOTAL, 10), (HANDICAP, -2), (HANDICAP, -3))
        ids = {market_id(source_id, *line): line for line in lines}
        async with in_process.calling(self.addresses["odds"]) as target:
            request = odds_pb2.BulkGetPricesRequest(market_ids=list(ids))
            stub = target.stub(odds_pb2_grpc.OddsServiceStub)
            try:
                reply = await target.call(stub.BulkGetPrices, request, idempotent=True)
            except ServiceError:
                return {}
        return {ids[quote.market_id]: quote for quote in reply.prices}

    async def statuses(self, source_id: str = ID_1) -> set[int]:
        return {quote.status for quote in (await self.quotes(source_id)).values()}

    async def history(self, source_id: str = ID_1) -> list[odds_pb2.MarketPrices]:
        """The match result's versions, oldest first."""
        async with in_process.calling(self.addresses["odds"]) as target:
            request = odds_pb2.ListPriceHistoryRequest(market_id=market_id(source_id, RESULT, 0), page_size=500)
            stub = target.stub(odds_pb2_grpc.OddsServiceStub)
            return list(reversed((await target.call(stub.ListPriceHistory, request, idempotent=True)).prices))

    async def producer(self) -> odds_pb2.Producer | None:
        async with in_process.calling(self.addresses["odds"]) as target:
            stub = target.stub(odds_pb2_grpc.OddsServiceStub)
            reply = await target.call(stub.ListProducers, odds_pb2.ListProducersRequest(), idempotent=True)
        return next((each for each in reply.producers if each.producer_id == "the-odds-api"), None)


def market_id(source_id: str, kind: int, line_quarters: int) -> int:
    """Of a match that the source knows by this id."""
    return identity.market_id(fixtures.event_id(source_id), kind, line_quarters)


def fractions(quote: odds_pb2.MarketPrices) -> list[tuple[int, int]]:
    """The prices, exact."""
    return [(each.price.numerator, each.price.denominator) for each in quote.prices]


def asked_total(world: World) -> Callable[[], Awaitable[int]]:
    """How many questions the source was asked."""

    async def count() -> int:
        return world.source.asked.total()

    return count


def asked(world: World, kind: str) -> Callable[[], Awaitable[int]]:
    """How many of one kind."""

    async def count() -> int:
        return world.source.asked[kind]

    return count


def settled(world: World) -> Callable[[], Awaitable[int]]:
    """How often settlement was asked for."""

    async def count() -> int:
        return world.settlement.asked.total()

    return count
