"""The price book: every selection's quote, as odds-service's watch brought it, and how old that knowledge is."""

from __future__ import annotations

from collections.abc import Iterable

from betting.engine.commands import Quote
from betting.v1 import odds_pb2

# A quote carries its age; ages are kept to this step so that a quote object serves many bets.
AGE_STEP_US = 100_000


class PriceBook:
    """Memory only: it is filled by a snapshot, then deltas, and is stale when nothing was heard for too long."""

    def __init__(self, stale_after_us: int) -> None:
        self._stale_after_us = stale_after_us
        self._markets: dict[int, odds_pb2.MarketPrices] = {}
        self._quotes: dict[tuple[int, int], Quote | None] = {}
        self._heard_at_us: int | None = None
        self._age_step = 0

    def __len__(self) -> int:
        return len(self._markets)

    def replace(self, markets: Iterable[odds_pb2.MarketPrices], heard_at_us: int) -> None:
        """A snapshot: what it leaves out is offered no more."""
        self._markets = {market.market_id: market for market in markets}
        self._quotes.clear()
        self._heard_at_us = heard_at_us

    def change(self, markets: Iterable[odds_pb2.MarketPrices], heard_at_us: int) -> None:
        """A delta."""
        for market in markets:
            self._markets[market.market_id] = market
        self._quotes.clear()
        self._heard_at_us = heard_at_us

    def beat(self, heard_at_us: int) -> None:
        """A sign of life: the book is as true as it was, now."""
        self._heard_at_us = heard_at_us

    def is_fresh(self, now_us: int) -> bool:
        """Whether bets may be taken on it. Times are this machine's monotonic microseconds."""
        return self._heard_at_us is not None and now_us - self._heard_at_us <= self._stale_after_us

    def age_ms(self, now_us: int) -> int | None:
        """How long ago prices were last heard of; None: never yet."""
        return None if self._heard_at_us is None else (now_us - self._heard_at_us) // 1000

    @property
    def stale_after_ms(self) -> int:
        """How old the last sign of life may be."""
        return self._stale_after_us // 1000

    def quotes(self, now_us: int) -> dict[tuple[int, int], Quote | None]:
        """The quotes made so far at this age; ask `quote` for one that is missing."""
        heard = self._heard_at_us if self._heard_at_us is not None else now_us
        step = (now_us - heard) // AGE_STEP_US
        if step != self._age_step:
            self._quotes.clear()
            self._age_step = step
        return self._quotes

    def quote(self, market_id: int, selection_id: int) -> Quote | None:
        """Makes and keeps the quote of one selection; None when it is not offered."""
        market = self._markets.get(market_id)
        if market is None:
            return None  # not kept: anybody can invent market ids
        quote: Quote | None = None
        for offered in market.prices:
            if offered.selection_id == selection_id:
                quote = self._make(market, offered)
                self._quotes[market_id, selection_id] = quote
        return quote

    def _make(self, market: odds_pb2.MarketPrices, offered: odds_pb2.SelectionPrice) -> Quote:
        return Quote(
            event=market.event_id,
            numerator=offered.price.numerator,
            denominator=offered.price.denominator,
            version=market.version,
            status=market.status,
            closes_at_us=market.closes_at_us,
            age_ms=max(0, self._age_step) * AGE_STEP_US // 1000,
        )
