"""A running event-service on a fresh database, with stubs and tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import in_process
import pytest
from clocks import ManualClock

from betting.events.main import compose
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.client import Target
from betting.runtime.principal import Role, service_principal
from betting.v1 import event_pb2, event_pb2_grpc

NOW_US = 1_800_000_000_000_000
HOUR_US = 3_600_000_000


@dataclass
class Catalogue:
    """Calls to event-service; feed calls carry a service principal."""

    target: Target
    clock: ManualClock
    token: bytes

    async def ask(self, method: str, request: Any) -> Any:
        stub = self.target.stub(event_pb2_grpc.EventServiceStub)
        return await self.target.call(getattr(stub, method), request, idempotent=False)

    async def feed(self, method: str, request: Any, token: bytes | None = None) -> Any:
        stub = self.target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
        principal = self.token if token is None else token
        return await self.target.call(getattr(stub, method), request, idempotent=False, principal=principal or None)


@pytest.fixture
async def catalogue(database: Any) -> AsyncIterator[Catalogue]:
    """event-service behind a real server."""
    clock = ManualClock(NOW_US)
    settings = in_process.settings(postgres_dsn=database.dsn)
    token = service_principal("feed-1", bytes.fromhex(in_process.SECRET), in_process.FAR_FUTURE_US - 4 * HOUR_US)
    async with (
        in_process.running(compose, settings, service="event-service", clock=clock) as address,
        in_process.calling(address, "event-service") as target,
    ):
        yield Catalogue(target, clock, token)


@pytest.fixture
def user_token() -> bytes:
    """A bettor's token."""
    return in_process.user_token(bytes(15) + b"\x01")


@pytest.fixture
def operator_token() -> bytes:
    """An operator's token."""
    return in_process.user_token(bytes(15) + b"\x02", role=Role.OPERATOR)


@pytest.fixture
def make_event() -> Callable[..., event_pb2.Event]:
    """Makes an event with one match-result market; keyword arguments override fields."""

    def make(event_id: int = 7, **fields: Any) -> event_pb2.Event:
        market = event_pb2.Market(
            market_id=event_id * 10,
            kind=event_pb2.MARKET_KIND_MATCH_RESULT,
            closes_at_us=NOW_US + event_id * HOUR_US,
            selections=[event_pb2.Selection(selection_id=i, name=n) for i, n in ((1, "A"), (2, "Draw"), (3, "B"))],
        )
        defaults: dict[str, Any] = {
            "event_id": event_id,
            "league_id": "E0",
            "home": f"Home {event_id}",
            "away": f"Away {event_id}",
            "starts_at_us": NOW_US + event_id * HOUR_US,
            "markets": [market],
        }
        return event_pb2.Event(**(defaults | fields))

    return make


@pytest.fixture
def make_upsert(make_event: Callable[..., event_pb2.Event]) -> Callable[..., feed_pb2.UpsertCatalogueRequest]:
    """Makes a whole catalogue around some events."""

    def make(*events: event_pb2.Event) -> feed_pb2.UpsertCatalogueRequest:
        return feed_pb2.UpsertCatalogueRequest(
            sports=[event_pb2.Sport(sport_id="football", name="Football")],
            leagues=[
                event_pb2.League(league_id="E0", sport_id="football", name="Premier League", country="England"),
                event_pb2.League(league_id="D1", sport_id="football", name="Bundesliga", country="Germany"),
            ],
            events=events,
        )

    return make
