"""Keeps the price book filled from odds-service's watch."""

from __future__ import annotations

import asyncio

import structlog

from betting.bets.book import PriceBook
from betting.bets.clock import monotonic_us
from betting.clients.odds_watch import watch
from betting.runtime.client import Target
from betting.v1 import odds_pb2

log = structlog.get_logger(__name__)


class BookFeed:
    """Without an odds-service to watch the book stays stale, and no bet is taken."""

    def __init__(self, book: PriceBook, target: Target | None) -> None:
        self._book = book
        self._target = target

    async def run(self) -> None:
        if self._target is None:
            log.warning("no_odds_service", effect="no bets are taken", setting="BETTING_ODDS_SERVICE")
            await asyncio.Event().wait()
            return
        await watch(self._target, on_snapshot=self._replace, on_delta=self._change, on_beat=self._beat)

    def _replace(self, markets: list[odds_pb2.MarketPrices]) -> None:
        self._book.replace(markets, monotonic_us())
        log.info("price_book", markets=len(markets))

    def _change(self, markets: list[odds_pb2.MarketPrices]) -> None:
        self._book.change(markets, monotonic_us())

    def _beat(self, _at_us: int) -> None:
        self._book.beat(monotonic_us())
