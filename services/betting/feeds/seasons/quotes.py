"""The markets of one row: which bookmaker's prices are taken, and how a moved handicap line is offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from betting.feeds.decimals import Odds, parse_line_quarters, parse_odds
from betting.feeds.seasons import columns, identity
from betting.feeds.seasons.columns import Book
from betting.feeds.seasons.model import PricedSelection, SeasonMarket
from betting.feeds.seasons.rows import ProblemList, Row
from betting.v1 import event_pb2

# A price's parts are at most a million, so more decimals than these never fit.
_DECIMALS_MAX = 6
_LONG = re.compile(r"(\d{1,6})\.(\d{1,40})", re.ASCII)
# "-1,-1.5": half of the stake on each of two lines, which is the line between them.
_SPLIT_LINE = re.compile(r"([+-]?\d{1,3}(?:\.\d{1,4})?) ?[,/] ?([+-]?\d{1,3}(?:\.\d{1,4})?)", re.ASCII)
_HALF_GOAL_QUARTERS = 2
# What a market's prices imply adds up to a little over the whole (in a best-of-all-houses column a little under).
# Less than this and backing every selection wins, so that a cell is wrong; each in parts of a thousand.
IMPLIED_MIN = 900


class DraftMarket(NamedTuple):
    """A market before it has ids."""

    kind: int
    line_quarters: int
    bookmaker: str
    selections: tuple[PricedSelection, ...]


class _ImpossibleError(Exception):
    """A cell holds what no price or line can be; it has been said."""


def read_markets(row: Row, problems: ProblemList) -> tuple[DraftMarket, ...]:
    """The row's markets, one of each kind that any bookmaker priced completely.

    A bookmaker with an impossible cell is passed over for that kind of market, and the cell goes to `problems`. A
    handicap that closed on another line is two markets: the opening line at its opening prices, and the closing line
    at its closing prices.
    """
    markets: list[DraftMarket] = []
    for kind, books in columns.BOOKS.items():
        for book in books:
            try:
                found = _read_book(row, kind, book, problems)
            except _ImpossibleError:
                continue
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
    """Prices of all the columns, or None when one of them is blank. Raises _ImpossibleError."""
    prices = [_read_price(row, column, problems) for column in names if row[column]]
    if len(prices) < len(names):
        return None
    implied = sum(1_000 * price.denominator // (price.numerator + price.denominator) for price in prices)
    if implied < IMPLIED_MIN:
        shown = ", ".join(row[column][:12] for column in names)
        message = f"backing all of {shown} is a sure win, so one of them is wrong: this bookmaker is passed over"
        problems.add(row.line, names[0], message)
        raise _ImpossibleError
    return tuple(prices)


def _read_price(row: Row, column: str, problems: ProblemList) -> Odds:
    text = row.number(column)
    try:
        return parse_odds(text)
    except ValueError as error:
        cut = _cut(text)
        if cut is None:
            problems.add(row.line, column, f"{error}; this bookmaker is passed over")
            raise _ImpossibleError from None
        problems.add(row.line, column, f"{text[:40]} has more decimals than a price can have: read as {cut[0]}")
        return cut[1]


def _cut(text: str) -> tuple[str, Odds] | None:
    """A price with as many of its decimals as a price can have, and how it is written then."""
    match = _LONG.fullmatch(text)
    if match is None:
        return None
    for kept in range(min(len(match[2]), _DECIMALS_MAX), 0, -1):
        shorter = f"{match[1]}.{match[2][:kept]}"
        try:
            return shorter, parse_odds(shorter)
        except ValueError:
            continue
    return None


def _read_line(row: Row, column: str, problems: ProblemList) -> int | None:
    text = row.number(column)
    if not text:
        return None
    try:
        if match := _SPLIT_LINE.fullmatch(text):
            quarters = _between(parse_line_quarters(match[1]), parse_line_quarters(match[2]), text)
            problems.add(row.line, column, f"{text!r} is two lines, half a stake on each: read as {quarters / 4:g}")
            return quarters
        return parse_line_quarters(text)
    except ValueError as error:
        problems.add(row.line, column, f"{error}; no handicap at it")
        return None


def _between(first: int, second: int, text: str) -> int:
    if abs(first - second) != _HALF_GOAL_QUARTERS or first % _HALF_GOAL_QUARTERS:
        raise ValueError(f"{text[:40]!r} is not a line: the two parts of a split line are half a goal apart")
    return (first + second) // 2
