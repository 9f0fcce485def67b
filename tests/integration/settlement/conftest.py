"""settlement-service with the event-service it asks and the bet-service it drives, all real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import in_process
import pytest
from owner_calls import SHARDS
from platform_fixtures import bet_service, odds, owners
from settlement_calls import EVENT, RESULT_MARKET, SERVICE, STARTED_AT_US, TOTAL_MARKET, Settlements

from betting.events.main import compose as compose_events
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.client import Target
from betting.settlement.main import compose
from betting.v1 import event_pb2, event_pb2_grpc

__all__ = ["bet_service", "events", "odds", "owners", "settlement"]


@dataclass
class Events:
    """The catalogue as the event-service has it."""

    address: str
    target: Target

    async def starts_at(self, starts_at_us: int) -> None:
        """Lists the event with this start (microseconds since 1970), as a feed does."""
        feed = self.target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
        await self.target.call(feed.UpsertCatalogue, _catalogue(starts_at_us), idempotent=True, principal=SERVICE)

    async def market(self, market_id: int) -> event_pb2.Market:
        stub = self.target.stub(event_pb2_grpc.EventServiceStub)
        request = event_pb2.GetMarketRequest(market_id=market_id)
        reply = await self.target.call(stub.GetMarket, request, idempotent=True)
        return reply.market


@pytest.fixture
async def events(database: Any) -> AsyncIterator[Events]:
    """event-service that knows one event, past its start, with a result market and a total of 2.5 goals."""
    async with (
        in_process.running(
            compose_events, in_process.settings(postgres_dsn=database.dsn), service="event-service"
        ) as address,
        in_process.calling(address) as target,
    ):
        events = Events(address, target)
        await events.starts_at(STARTED_AT_US)
        yield events


def _catalogue(starts_at_us: int) -> feed_pb2.UpsertCatalogueRequest:
    def market(market_id: int, kind: event_pb2.MarketKind, line: int, names: list[str]) -> event_pb2.Market:
        return event_pb2.Market(
            market_id=market_id,
            event_id=EVENT,
            kind=kind,
            line_quarters=line,
            status=event_pb2.MARKET_STATUS_OPEN,
            closes_at_us=in_process.FAR_FUTURE_US,
            selections=[event_pb2.Selection(selection_id=i, name=name) for i, name in enumerate(names, 1)],
        )

    return feed_pb2.UpsertCatalogueRequest(
        sports=[event_pb2.Sport(sport_id="football", name="Football")],
        leagues=[event_pb2.League(league_id="E0", sport_id="football", name="Premier League", country="England")],
        events=[
            event_pb2.Event(
                event_id=EVENT,
                league_id="E0",
                home="Home",
                away="Away",
                starts_at_us=starts_at_us,
                status=event_pb2.EVENT_STATUS_SCHEDULED,
                markets=[
                    market(RESULT_MARKET, event_pb2.MARKET_KIND_MATCH_RESULT, 0, ["Home", "Draw", "Away"]),
                    market(TOTAL_MARKET, event_pb2.MARKET_KIND_OVER_UNDER, 10, ["Over 2.5", "Under 2.5"]),
                ],
            )
        ],
    )


SettlementStarter = Callable[[], AbstractAsyncContextManager[Settlements]]


@pytest.fixture
def settlement(database: Any, events: Events) -> SettlementStarter:
    """Starts settlement-service: `async with settlement() as calls`."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Settlements]:
        settings = in_process.settings(
            instance="settlement-service",
            postgres_dsn=database.dsn,
            event_service=events.address,
            shard_count=SHARDS,
        )
        async with (
            in_process.running(compose, settings, service="settlement-service") as address,
            in_process.calling(address) as target,
        ):
            yield Settlements(target)

    return start
