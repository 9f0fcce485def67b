"""The gRPC services of odds-service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds import inputs
from betting.odds.hub import Hub, Watcher
from betting.odds.quotes import Quote, to_protos
from betting.odds.store import Store
from betting.odds.writer import PriceWriter
from betting.runtime import errors, paging
from betting.runtime.principal import Role, require_role
from betting.v1 import odds_pb2, odds_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_NEWEST = 2**63 - 1


class OddsServicer(odds_pb2_grpc.OddsServiceServicer):
    """betting.v1.OddsService: public."""

    def __init__(self, writer: PriceWriter, hub: Hub, store: Store) -> None:
        self._writer = writer
        self._hub = hub
        self._store = store

    async def GetPrices(self, request: odds_pb2.GetPricesRequest, context: Context) -> odds_pb2.GetPricesResponse:
        quote = await self._quote(inputs.market_id(request.market_id))
        return odds_pb2.GetPricesResponse(prices=quote.to_proto())

    async def BulkGetPrices(
        self, request: odds_pb2.BulkGetPricesRequest, context: Context
    ) -> odds_pb2.BulkGetPricesResponse:
        """Markets without a quote are left out of the reply."""
        quotes = await self._writer.quotes(inputs.market_ids(request.market_ids))
        return odds_pb2.BulkGetPricesResponse(prices=to_protos(quotes))

    async def WatchPrices(self, request: odds_pb2.WatchPricesRequest, context: Context) -> None:
        events = inputs.watched_events(request.event_ids)
        task = asyncio.current_task()
        assert task is not None
        watcher = self._hub.join(events, self._writer.all_quotes(), task)
        try:
            await _feed(watcher, context)
        except asyncio.CancelledError:
            if watcher.ended is None:
                raise
            task.uncancel()
            raise watcher.ended from None
        finally:
            self._hub.leave(watcher)

    async def ListPriceHistory(
        self, request: odds_pb2.ListPriceHistoryRequest, context: Context
    ) -> odds_pb2.ListPriceHistoryResponse:
        market_id, size = inputs.market_id(request.market_id), paging.page_size(request.page_size)
        before = _before(request.page_token, market_id)
        found = await self._store.history(market_id, before, size + 1)
        if not found and before == _NEWEST:
            raise _no_prices(market_id)
        token = paging.encode_token(market_id, found[size - 1].version) if len(found) > size else ""
        return odds_pb2.ListPriceHistoryResponse(prices=to_protos(found[:size]), next_page_token=token)

    async def ListProducers(
        self, request: odds_pb2.ListProducersRequest, context: Context
    ) -> odds_pb2.ListProducersResponse:
        producers = [producer.to_proto(markets) for producer, markets in self._writer.producers()]
        return odds_pb2.ListProducersResponse(producers=producers)

    async def _quote(self, market_id: int) -> Quote:
        found = await self._writer.quotes([market_id])
        if not found:
            raise _no_prices(market_id)
        return found[0]


class PriceFeedServicer(feed_pb2_grpc.PriceFeedServiceServicer):
    """PriceFeedService, for services and operators."""

    def __init__(self, writer: PriceWriter, store: Store) -> None:
        self._writer = writer
        self._store = store

    async def ListPricedMarkets(
        self, request: feed_pb2.ListPricedMarketsRequest, context: Context
    ) -> feed_pb2.ListPricedMarketsResponse:
        require_role(context, Role.SERVICE)
        return feed_pb2.ListPricedMarketsResponse(market_ids=await self._store.priced(request.changed_since_us))

    async def PublishPrices(
        self, request: feed_pb2.PublishPricesRequest, context: Context
    ) -> feed_pb2.PublishPricesResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        wants_snapshot = await self._writer.publish(inputs.publication(request))
        return feed_pb2.PublishPricesResponse(wants_snapshot=wants_snapshot)


def add_odds_service(servicer: OddsServicer, server: Any) -> None:
    """Registers OddsService so that WatchPrices may write messages that are encoded already."""
    register: Callable[[object, object], None] = odds_pb2_grpc.add_OddsServiceServicer_to_server
    register(servicer, _EncodedWatch(server))


class _EncodedWatch:
    """Stands before the server while generated code registers: changes the serializer of one method."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        watch = handlers["WatchPrices"]
        encoded: Any = grpc.unary_stream_rpc_method_handler(
            watch.unary_stream, request_deserializer=watch.request_deserializer, response_serializer=None
        )
        self._server.add_registered_method_handlers(service, {**handlers, "WatchPrices": encoded})


async def _feed(watcher: Watcher, context: Context) -> None:
    for part in watcher.snapshot():
        await context.write(part)
    while True:
        await context.write(await watcher.next())


def _before(page_token: str, market_id: int) -> int:
    key = paging.decode_token(page_token, int, int)
    if key is None:
        return _NEWEST
    if key[0] != market_id:
        raise errors.invalid_argument(
            "PAGE_TOKEN_INVALID", f"page_token is of market {key[0]}, not of {market_id}: start again without it"
        )
    return int(key[1])


def _no_prices(market_id: int) -> errors.ServiceError:
    return errors.not_found(
        "MARKET_NOT_FOUND", f"market {market_id} has no prices: list an event's markets to find one"
    )
