"""Reads markets and events from event-service."""

from __future__ import annotations

from collections.abc import Callable

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.client import Target
from betting.v1 import event_pb2, event_pb2_grpc

TIMEOUT_S = 2.0


class Catalogue:
    """Markets and events by id. Raises ServiceError: NOT_FOUND, UNAVAILABLE."""

    def __init__(self, target: Target, token: Callable[[], bytes]) -> None:
        self._target = target
        self._token = token
        self._events = target.stub(event_pb2_grpc.EventServiceStub)
        self._feed = target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)

    async def market(self, market_id: int) -> event_pb2.Market:
        request = event_pb2.GetMarketRequest(market_id=market_id)
        reply: event_pb2.GetMarketResponse = await self._target.call(
            self._events.GetMarket, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return reply.market

    async def event(self, event_id: int) -> event_pb2.Event:
        request = event_pb2.GetEventRequest(event_id=event_id)
        reply: event_pb2.GetEventResponse = await self._target.call(
            self._events.GetEvent, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return reply.event

    async def close_market(self, market_id: int) -> None:
        """Closes a market that is being settled, whatever its closing time."""
        if (await self.market(market_id)).status in (event_pb2.MARKET_STATUS_OPEN, event_pb2.MARKET_STATUS_SUSPENDED):
            await self.set_market_status(market_id, event_pb2.MARKET_STATUS_CLOSED)

    async def set_market_status(self, market_id: int, status: event_pb2.MarketStatus) -> None:
        request = feed_pb2.SetMarketStatusRequest(market_id=market_id, status=status)
        await self._target.call(
            self._feed.SetMarketStatus, request, timeout_s=TIMEOUT_S, idempotent=True, principal=self._token()
        )
