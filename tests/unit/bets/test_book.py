"""The price book: what it offers, and when it is too old to bet on."""

from __future__ import annotations

import pytest

from betting.bets.book import CERTAIN_WITHIN_US, PriceBook
from betting.bets.instance import RefusalLimit
from betting.v1 import common_pb2, event_pb2, odds_pb2

STALE_AFTER_US = 3_000_000


CLOSED, OPEN = int(event_pb2.MARKET_STATUS_CLOSED), int(event_pb2.MARKET_STATUS_OPEN)


def status_of(book: PriceBook, market_id: int, selection: int = 1) -> int:
    """The status in a selection's quote."""
    quote = book.quote(market_id, selection)
    assert quote is not None
    return quote.status


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
    assert book.quotes(20).get((8, 1)) is None
    assert status_of(book, 8) == CLOSED


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


@pytest.mark.parametrize("status", [event_pb2.MARKET_STATUS_RESULTED, event_pb2.MARKET_STATUS_VOID])
def test_a_market_that_is_over_is_closed_for_good_whatever_was_bet_on_it(status: event_pb2.MarketStatus) -> None:
    """Its prices are dropped, the market is not: also without prices, in a delta, in a snapshot or left out of one."""
    over = odds_pb2.MarketPrices(market_id=7, event_id=70, status=status, version=2)
    book = PriceBook(STALE_AFTER_US)
    book.replace([market(7), market(8)], 0)
    book.change([over], 1)
    assert (len(book), status_of(book, 7), status_of(book, 7, selection=2)) == (1, CLOSED, CLOSED)
    fresh = PriceBook(STALE_AFTER_US)
    fresh.replace([over], 0)
    assert status_of(fresh, 7) == CLOSED
    fresh.replace([], 1)
    assert status_of(fresh, 7) == CLOSED


def test_a_new_book_knows_of_markets_that_were_over_before_it_began() -> None:
    """What odds-service ever priced and does not offer any more is closed; two such legs do not share an event."""
    book = PriceBook(STALE_AFTER_US)
    book.replace([market(7)], 0)
    book.past([5, 6, 7])
    assert (status_of(book, 5), status_of(book, 6), status_of(book, 7)) == (CLOSED, CLOSED, OPEN)
    five, six = book.quote(5, 1), book.quote(6, 1)
    assert five is not None
    assert six is not None
    assert five.event != six.event
    book.change([market(5)], 1)  # it was only suspended for a while
    assert status_of(book, 5) == OPEN


def test_a_selection_that_was_taken_out_is_closed_and_one_that_never_was_is_unknown() -> None:
    """The market itself goes on."""
    two = market()
    two.prices.add(selection_id=2).price.CopyFrom(two.prices[0].price)
    book = PriceBook(STALE_AFTER_US)
    book.replace([two], 0)
    book.change([market()], 1)
    book.change([market()], 2)
    assert (status_of(book, 7), status_of(book, 7, selection=2)) == (OPEN, CLOSED)
    assert book.quote(7, 3) is None


def test_a_book_knows_all_only_with_the_past_and_a_recent_beat() -> None:
    """Before that, a market it has not heard of may well exist."""
    book = PriceBook(STALE_AFTER_US)
    assert not book.knows_all(0)
    book.replace([market()], 1_000_000)
    assert not book.knows_all(1_000_000)
    book.past(())
    assert book.knows_all(1_000_000 + CERTAIN_WITHIN_US)
    assert not book.knows_all(1_000_001 + CERTAIN_WITHIN_US)
    book.beat(3_000_000)
    assert book.knows_all(3_000_000)


def test_memory_of_the_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first."""
    monkeypatch.setattr("betting.bets.book.PAST_MARKETS_MAX", 2)
    book = PriceBook(STALE_AFTER_US)
    book.replace([], 0)
    book.past([1, 2, 3])
    assert book.quote(1, 1) is None
    assert (status_of(book, 2), status_of(book, 3)) == (CLOSED, CLOSED)


def test_refusals_are_limited_per_account_and_come_back_with_time() -> None:
    """Recorded refusals cost a journal entry each."""
    limit = RefusalLimit(burst=2, per_second=1.0)
    for _ in range(2):
        assert not limit.blocked(b"a", 0)
        limit.record(b"a", 0)
    assert limit.blocked(b"a", 0)
    assert not limit.blocked(b"b", 0)
    assert not limit.blocked(b"a", 1_000_000)


def test_a_refused_account_is_told_how_long_to_wait() -> None:
    """In whole seconds, also where refusals of one batch have gone beyond the limit; then it may be refused again."""
    limit, now_us = RefusalLimit(burst=2, per_second=2.0), 1_790_000_000_000_000
    assert limit.wait_s(b"a", now_us) == 1
    for _ in range(5):
        limit.record(b"a", now_us)
    assert limit.wait_s(b"a", now_us) == 2
    assert limit.blocked(b"a", now_us + 1_900_000)
    assert not limit.blocked(b"a", now_us + 2_100_000)


def test_accounts_whose_refusals_are_long_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is still limited stays limited."""
    monkeypatch.setattr("betting.bets.instance.MAX_ACCOUNTS_WATCHED", 2)
    limit = RefusalLimit(burst=1, per_second=1.0)
    limit.record(b"old", 0)
    limit.record(b"new", 5_000_000)
    limit.record(b"newest", 5_000_000)
    assert limit.blocked(b"new", 5_000_000)
    assert limit.blocked(b"newest", 5_000_000)
    assert not limit.blocked(b"old", 5_000_000)
