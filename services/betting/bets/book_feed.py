"""Fills the price book from the watch of odds-service, and with the ids of earlier markets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc

from betting.bets.book import PriceBook
from betting.bets.clock import monotonic_us
from betting.clients.odds_watch import watch
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime import logs
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2

_log = logs.get(__name__)

PAST_TIMEOUT_S = 10.0
PAST_RETRY_S = 1.0
# Asked again after a gap, it is asked for what changed since the last time, and by this much more: clocks differ.
PAST_OVERLAP_US = 10 * 60 * 1_000_000


class BookFeed:
    """Without an odds-service the book stays stale, and no bet is accepted."""

    def __init__(self, book: PriceBook, target: Target | None, token: Callable[[], bytes]) -> None:
        self._book = book
        self._target = target
        self._token = token
        self._snapshots = asyncio.Event()

    async def run(self) -> None:
        if self._target is None:
            _log.warning("no odds-service configured", effect="no bets are taken", setting="BETTING_ODDS_SERVICE")
            await asyncio.Event().wait()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._learn_past(self._target))
            tasks.create_task(watch(self._target, on_snapshot=self._replace, on_delta=self._change, on_beat=self._beat))

    async def _learn_past(self, target: Target) -> None:
        """After every snapshot: reads the ids of the markets that are not in it any more."""
        stub = target.stub(feed_pb2_grpc.PriceFeedServiceStub)
        since_us = 0
        while True:
            await self._snapshots.wait()
            self._snapshots.clear()
            asked_at_us = time.time_ns() // 1_000
            request = feed_pb2.ListPricedMarketsRequest(changed_since_us=since_us)
            try:
                reply: feed_pb2.ListPricedMarketsResponse = await target.call(
                    stub.ListPricedMarkets,
                    request,
                    idempotent=True,
                    principal=self._token(),
                    timeout_s=PAST_TIMEOUT_S,
                )
            except ServiceError as problem:
                if problem.code is grpc.StatusCode.UNIMPLEMENTED:  # the release before: it cannot tell
                    self._book.past(())
                    continue
                _log.warning("past markets not read", effect="unknown markets are BOOK_STALE", problem=problem.message)
                self._snapshots.set()
                await asyncio.sleep(PAST_RETRY_S)
                continue
            self._book.past(reversed(reply.market_ids))  # the newest are kept longest
            since_us = asked_at_us - PAST_OVERLAP_US

    def _replace(self, markets: list[odds_pb2.MarketPrices]) -> None:
        self._book.replace(markets, monotonic_us())
        self._snapshots.set()
        _log.info("price snapshot received", markets=len(markets))

    def _change(self, markets: list[odds_pb2.MarketPrices]) -> None:
        self._book.change(markets, monotonic_us())

    def _beat(self, _at_us: int) -> None:
        self._book.beat(monotonic_us())
