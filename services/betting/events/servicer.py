"""gRPC methods of event-service: check, ask the store, answer."""

from __future__ import annotations

from typing import Any

import grpc

from betting.events import inputs, words
from betting.events.store import Key, Store
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime import paging
from betting.runtime.clock import Clock
from betting.runtime.principal import Role, require_role
from betting.v1 import event_pb2, event_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_FROM_THE_FIRST: Key = (0, 0)


class EventServicer(event_pb2_grpc.EventServiceServicer):
    """betting.v1.EventService: public."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ListSports(self, request: event_pb2.ListSportsRequest, context: Context) -> event_pb2.ListSportsResponse:
        return event_pb2.ListSportsResponse(sports=await self._store.sports())

    async def ListLeagues(
        self, request: event_pb2.ListLeaguesRequest, context: Context
    ) -> event_pb2.ListLeaguesResponse:
        sport_id = inputs.optional_text_id("sport_id", request.sport_id)
        return event_pb2.ListLeaguesResponse(leagues=await self._store.leagues(sport_id))

    async def ListEvents(self, request: event_pb2.ListEventsRequest, context: Context) -> event_pb2.ListEventsResponse:
        league_id = inputs.optional_text_id("league_id", request.league_id)
        status = inputs.optional_event_status(request.status)
        size, after = paging.page_size(request.page_size), _after(request.page_token)
        found = await self._store.events(league_id, status, after, size + 1, self._clock.now_us())
        return event_pb2.ListEventsResponse(events=found[:size], next_page_token=_next(found, size))

    async def GetEvent(self, request: event_pb2.GetEventRequest, context: Context) -> event_pb2.GetEventResponse:
        event_id = inputs.positive_id("event_id", request.event_id)
        return event_pb2.GetEventResponse(event=await self._store.event(event_id, self._clock.now_us()))

    async def GetMarket(self, request: event_pb2.GetMarketRequest, context: Context) -> event_pb2.GetMarketResponse:
        market_id = inputs.positive_id("market_id", request.market_id)
        return event_pb2.GetMarketResponse(market=await self._store.market(market_id, self._clock.now_us()))

    async def SearchEvents(
        self, request: event_pb2.SearchEventsRequest, context: Context
    ) -> event_pb2.SearchEventsResponse:
        patterns = words.patterns(request.text)
        size, after = paging.page_size(request.page_size), _after(request.page_token)
        found = await self._store.search(patterns, after, size + 1, self._clock.now_us())
        return event_pb2.SearchEventsResponse(events=found[:size], next_page_token=_next(found, size))


class CatalogueFeedServicer(feed_pb2_grpc.CatalogueFeedServiceServicer):
    """CatalogueFeedService, for services and operators."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def UpsertCatalogue(
        self, request: feed_pb2.UpsertCatalogueRequest, context: Context
    ) -> feed_pb2.UpsertCatalogueResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        inputs.catalogue(request)
        return feed_pb2.UpsertCatalogueResponse(changed=await self._store.upsert(request, self._clock.now_us()))

    async def SetEventStatus(
        self, request: feed_pb2.SetEventStatusRequest, context: Context
    ) -> feed_pb2.SetEventStatusResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        event_id, wanted = inputs.positive_id("event_id", request.event_id), inputs.event_status(request)
        event = await self._store.set_event_status(event_id, *wanted, self._clock.now_us())
        return feed_pb2.SetEventStatusResponse(event=event)

    async def SetMarketStatus(
        self, request: feed_pb2.SetMarketStatusRequest, context: Context
    ) -> feed_pb2.SetMarketStatusResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        market_id, status = inputs.positive_id("market_id", request.market_id), inputs.market_status(request.status)
        market = await self._store.set_market_status(market_id, status, self._clock.now_us())
        return feed_pb2.SetMarketStatusResponse(market=market)


def _after(page_token: str) -> Key:
    key = paging.decode_token(page_token, int, int)
    return _FROM_THE_FIRST if key is None else (key[0], key[1])


def _next(found: list[event_pb2.Event], size: int) -> str:
    """The token of the page after the first `size` events; empty when nothing follows."""
    if len(found) <= size:
        return ""
    last = found[size - 1]
    return paging.encode_token(last.starts_at_us, last.event_id)
