"""The markets of one row: which bookmaker's prices are taken, and how a moved handicap line is offered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from betting.feeds.decimals import Odds, parse_line_quarters, parse_odds
from betting.feeds.seasons import columns, identity
from betting.feeds.seasons.columns import Book
from betting.feeds.seasons.model import PricedSelection, SeasonMarket
from betting.feeds.seasons.rows import ProblemList, Row
from betting.v1 import event_pb2


class DraftMarket(NamedTuple):
    """A market before it has ids."""

    kind: int
    line_quarters: int
    bookmaker: str
    selections: tuple[PricedSelection, ...]


def read_markets(row: Row, problems: ProblemList) -> tuple[DraftMarket, ...]:
    """The row's markets, one of each kind that any bookmaker priced completely; unreadable cells go to `problems`.

    A handicap that closed on another line is two markets: the opening line at its opening prices, and the closing
    line at its closing prices.
    """
    markets: list[DraftMarket] = []
    for kind, books in columns.BOOKS.items():
        for book in books:
            found = _read_book(row, kind, book, problems)
            if found:
                markets.extend(found)
                break
    return tuple(markets)


def with_ids(event_id: int, drafts: tuple[DraftMarket, ...]) -> Iterator[SeasonMarket]:
    """The markets with the ids that follow from their event, kind and line."""
    for draft in drafts:
        yield SeasonMarket(identity.market_id(event_id, draft.kind, draft.line_quarters), *draft)


def _read_book(row: Row, kind: int, book: Book, problems: ProblemList) -> list[DraftMarket]:
    opening = _read_prices(row, book.opening, problems)
    closing = _read_prices(row, book.closing, problems)
    if opening is None and closing is None:
        return []
    if kind != event_pb2.MARKET_KIND_ASIAN_HANDICAP:
        line = columns.OVER_UNDER_LINE_QUARTERS if kind == event_pb2.MARKET_KIND_OVER_UNDER else 0
        return [_draft(kind, line, book, opening or closing, closing or opening)]
    return _handicaps(row, kind, book, opening, closing, problems)


def _handicaps(
    row: Row,
    kind: int,
    book: Book,
    opening: tuple[Odds, ...] | None,
    closing: tuple[Odds, ...] | None,
    problems: ProblemList,
) -> list[DraftMarket]:
    line = _read_line(row, book.line, problems)
    closing_line = _read_line(row, book.closing_line, problems) if book.closing_line else line
    if opening is not None and line is not None and closing is not None and line == closing_line:
        return [_draft(kind, line, book, opening, closing)]
    found = []
    if opening is not None and line is not None:
        found.append(_draft(kind, line, book, opening, opening))
    if closing is not None and closing_line is not None:
        found.append(_draft(kind, closing_line, book, closing, closing))
    return found


def _draft(
    kind: int, line: int, book: Book, opening: tuple[Odds, ...] | None, closing: tuple[Odds, ...] | None
) -> DraftMarket:
    assert opening is not None
    assert closing is not None
    selections = [PricedSelection(index, *pair) for index, pair in enumerate(zip(opening, closing, strict=True), 1)]
    return DraftMarket(kind, line, book.bookmaker, tuple(selections))


def _read_prices(row: Row, names: tuple[str, ...], problems: ProblemList) -> tuple[Odds, ...] | None:
    """Prices of all the columns, or None when one of them is blank or unreadable."""
    prices = []
    for column in names:
        text = row[column]
        if not text:
            continue
        try:
            prices.append(parse_odds(text))
        except ValueError as error:
            problems.add(row.line, column, str(error))
    return tuple(prices) if len(prices) == len(names) else None


def _read_line(row: Row, column: str, problems: ProblemList) -> int | None:
    text = row[column]
    if not text:
        return None
    try:
        return parse_line_quarters(text)
    except ValueError as error:
        problems.add(row.line, column, str(error))
        return None
