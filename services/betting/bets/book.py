"""The price book: every selection's quote, as odds-service's watch brought it, and how old that knowledge is.

What it says of a selection:

- on offer: the quote there is, whatever the market's status;
- not on offer any more (the market is over, a snapshot left it out, the selection was taken out of the market): the
  quote of a closed market, so that the bet is refused for the market and not as a mistake of the client;
- never heard of: nothing. That is only the truth while the book knows all there ever was (`knows_all`).
"""

from __future__ import annotations

from collections.abc import Iterable

from betting.engine.commands import MarketStatus, Quote
from betting.v1 import odds_pb2

# A quote carries its age; ages are kept to this step so that a quote object serves many bets.
AGE_STEP_US = 100_000
# Beats come every second. Without one for longer, a market may have come that this book has not heard of yet.
CERTAIN_WITHIN_US = 1_500_000
# Markets that are over are remembered by id: some 60 bytes each. A season of one league has about 1,500.
PAST_MARKETS_MAX = 200_000

_OPEN = int(MarketStatus.OPEN)
_OVER = frozenset({int(MarketStatus.RESULTED), int(MarketStatus.VOID)})


class PriceBook:
    """Memory only: it is filled by a snapshot, then deltas, and is stale when nothing was heard for too long."""

    def __init__(self, stale_after_us: int) -> None:
        self._stale_after_us = stale_after_us
        self._markets: dict[int, odds_pb2.MarketPrices] = {}
        self._quotes: dict[tuple[int, int], Quote | None] = {}
        self._past: dict[int, None] = {}
        # Selections that were taken out of a market which goes on.
        self._withdrawn: dict[int, frozenset[int]] = {}
        self._past_known = False
        self._heard_at_us: int | None = None
        self._age_step = 0

    def __len__(self) -> int:
        return len(self._markets)

    def replace(self, markets: Iterable[odds_pb2.MarketPrices], heard_at_us: int) -> None:
        """Applies a snapshot: markets that are not in it are no longer on offer."""
        before, self._markets = self._markets, {}
        for market in markets:
            self._put(market, before.get(market.market_id))
        self._forget(before.keys() - self._markets.keys())
        self._quotes.clear()
        self._heard_at_us = heard_at_us

    def change(self, markets: Iterable[odds_pb2.MarketPrices], heard_at_us: int) -> None:
        """Applies a delta."""
        for market in markets:
            self._put(market, self._markets.get(market.market_id))
        self._quotes.clear()
        self._heard_at_us = heard_at_us

    def beat(self, heard_at_us: int) -> None:
        """Applies a heartbeat: the prices in the book are current."""
        self._heard_at_us = heard_at_us

    def past(self, market_ids: Iterable[int]) -> None:
        """Every market there was up to the last snapshot, the oldest first; those on offer may be among them."""
        self._forget(market_id for market_id in market_ids if market_id not in self._markets)
        self._past_known = True

    def is_fresh(self, now_us: int) -> bool:
        """Whether bets may be taken on it. Times are this machine's monotonic microseconds."""
        return self._heard_at_us is not None and now_us - self._heard_at_us <= self._stale_after_us

    def knows_all(self, now_us: int) -> bool:
        """Whether a market that is not in the book never was: the past is known and nothing can have come since."""
        heard = self._heard_at_us
        return self._past_known and heard is not None and now_us - heard <= CERTAIN_WITHIN_US

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
        """Makes and keeps the quote of one selection; None when there is none and never was."""
        market = self._markets.get(market_id)
        if market is None:
            # Not kept: anybody can invent market ids.
            return self._closed(-market_id) if market_id in self._past else None
        for offered in market.prices:
            if offered.selection_id == selection_id:
                quote = self._quotes[market_id, selection_id] = self._make(market, offered)
                return quote
        if market.status == _OPEN and selection_id not in self._withdrawn.get(market_id, ()):
            return None
        return self._closed(market.event_id)

    def _put(self, market: odds_pb2.MarketPrices, before: odds_pb2.MarketPrices | None) -> None:
        market_id = market.market_id
        if market.status in _OVER:
            self._markets.pop(market_id, None)
            self._forget([market_id])
            return
        self._markets[market_id] = market
        if before is not None and len(market.prices) < len(before.prices):
            offered = {each.selection_id for each in market.prices}
            gone = {each.selection_id for each in before.prices} - offered
            self._withdrawn[market_id] = self._withdrawn.get(market_id, frozenset()) | gone

    def _forget(self, market_ids: Iterable[int]) -> None:
        """Keeps only that these were there."""
        for market_id in market_ids:
            self._past[market_id] = None
            self._withdrawn.pop(market_id, None)
        while len(self._past) > PAST_MARKETS_MAX:
            del self._past[next(iter(self._past))]

    def _closed(self, event_id: int) -> Quote:
        """Of something that cannot be bet on any more; of an event long over only the market's id is known."""
        return Quote(event_id, 1, 1, 0, MarketStatus.CLOSED, 0, max(0, self._age_step) * AGE_STEP_US // 1000)

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
