"""The price book: what it offers, and when it is too old to bet on."""

from __future__ import annotations

from betting.bets.book import PriceBook
from betting.bets.refusals import RefusalLimit
from betting.v1 import common_pb2, event_pb2, odds_pb2

STALE_AFTER_US = 3_000_000


def market(market_id: int = 7, version: int = 1, numerator: int = 91) -> odds_pb2.MarketPrices:
    """An open market with one selection."""
    price = common_pb2.Price(numerator=numerator, denominator=100)
    return odds_pb2.MarketPrices(
        market_id=market_id,
        event_id=70,
        status=event_pb2.MARKET_STATUS_OPEN,
        version=version,
        closes_at_us=10**15,
        prices=[odds_pb2.SelectionPrice(selection_id=1, price=price)],
    )


def test_a_book_that_never_heard_anything_is_stale() -> None:
    """No feed, no bets."""
    assert not PriceBook(STALE_AFTER_US).is_fresh(0)


def test_a_book_goes_stale_after_three_seconds_without_a_beat() -> None:
    """The boundary is inclusive: exactly three seconds is still fresh."""
    book = PriceBook(STALE_AFTER_US)
    book.replace([market()], 1_000_000)
    assert book.is_fresh(1_000_000 + STALE_AFTER_US)
    assert not book.is_fresh(1_000_001 + STALE_AFTER_US)
    book.beat(3_000_000)
    assert book.is_fresh(1_000_001 + STALE_AFTER_US)


def test_quotes_follow_deltas_and_snapshots_forget_what_they_leave_out() -> None:
    """A cached quote must not outlive a change."""
    book = PriceBook(STALE_AFTER_US)
    book.replace([market(7), market(8)], 0)
    quotes = book.quotes(0)
    assert quotes.get((7, 1)) is None
    first = book.quote(7, 1)
    assert first is not None
    assert book.quotes(0)[7, 1] is first
    book.change([market(7, version=2, numerator=95)], 10)
    changed = book.quotes(10).get((7, 1)) or book.quote(7, 1)
    assert changed is not None
    assert (changed.numerator, changed.version) == (95, 2)
    book.replace([market(7)], 20)
    assert book.quote(8, 1) is None


def test_a_quote_carries_the_age_of_the_book() -> None:
    """The entry keeps how old the knowledge was that a bet was taken on."""
    book = PriceBook(STALE_AFTER_US)
    book.replace([market()], 0)
    book.quotes(0)
    young = book.quote(7, 1)
    book.quotes(1_250_000)
    old = book.quote(7, 1)
    assert young is not None
    assert old is not None
    assert (young.age_ms, old.age_ms) == (0, 1_200)


def test_unknown_markets_and_selections_are_not_offered_and_not_remembered() -> None:
    """Inventing market ids must not grow memory."""
    book = PriceBook(STALE_AFTER_US)
    book.replace([market()], 0)
    assert book.quote(999, 1) is None
    assert book.quote(7, 2) is None
    assert not book.quotes(0)


def test_refusals_are_limited_per_account_and_come_back_with_time() -> None:
    """Recorded refusals cost a journal entry each."""
    limit = RefusalLimit(burst=2, per_second=1.0)
    for _ in range(2):
        assert not limit.blocked(b"a", 0)
        limit.record(b"a", 0)
    assert limit.blocked(b"a", 0)
    assert not limit.blocked(b"b", 0)
    assert not limit.blocked(b"a", 1_000_000)
