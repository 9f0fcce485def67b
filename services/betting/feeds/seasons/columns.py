"""Which columns of a football-data.co.uk file hold which prices (their notes.txt names them).

Bookmakers are asked in this order, separately for each match and kind of market; the first whose opening prices are
complete is taken, and its closing prices if it has them: Bet365 first (in nearly every file since 2002), then Pinnacle,
then the other houses from common to rare, then the average, and only last the best price of all houses, which no single
house offered.
"""

from __future__ import annotations

from typing import NamedTuple

from betting.v1 import event_pb2

_HOUSES = (
    *("B365", "PS", "BW", "IW", "WH", "VC", "LB", "SB", "GB", "SJ", "SO", "SY", "BS", "1XB", "BF", "BFD", "BMGM"),
    *("BV", "CL", "BbAv", "Avg", "BbMx", "Max"),
)
# The books whose totals and handicaps football-data carries; P is Pinnacle.
_LINE_HOUSES = ("B365", "P", "GB", "LB", "BbAv", "Avg", "BbMx", "Max")

OVER_UNDER_LINE_QUARTERS = 10  # every file's totals are at 2.5 goals


class Book(NamedTuple):
    """One bookmaker's columns for one kind of market; without a line, `line` and `closing_line` are empty."""

    bookmaker: str
    opening: tuple[str, ...]
    closing: tuple[str, ...]
    line: str = ""
    closing_line: str = ""


def _result(house: str) -> Book:
    return Book(house, tuple(house + side for side in "HDA"), tuple(f"{house}C{side}" for side in "HDA"))


def _total(house: str) -> Book:
    return Book(house, (f"{house}>2.5", f"{house}<2.5"), (f"{house}C>2.5", f"{house}C<2.5"))


def _handicap(house: str, line: str) -> Book:
    opening = (f"{house}AHH", f"{house}AHA")
    return Book(house, opening, (f"{house}CAHH", f"{house}CAHA"), line, "AHCh" if line == "AHh" else "")


# Before 2019 the line stood in a column of the house's own (B365AH) or of Betbrain (BbAHh).
_HANDICAPS = [_handicap(house, "AHh") for house in _LINE_HOUSES if not house.startswith("Bb")]
_OLD_HANDICAPS = [_handicap(house, f"{house}AH") for house in ("B365", "GB", "LB")]
_BETBRAIN_HANDICAPS = [_handicap(house, "BbAHh") for house in ("BbAv", "BbMx")]

BOOKS: dict[int, tuple[Book, ...]] = {
    event_pb2.MARKET_KIND_MATCH_RESULT: tuple(_result(house) for house in _HOUSES),
    event_pb2.MARKET_KIND_OVER_UNDER: tuple(_total(house) for house in _LINE_HOUSES),
    event_pb2.MARKET_KIND_ASIAN_HANDICAP: (*_HANDICAPS, *_OLD_HANDICAPS, *_BETBRAIN_HANDICAPS),
}

# First name found in the header counts; the second names are those of a few early files.
DIVISION = ("Div",)
DATE = ("Date",)
TIME = ("Time",)
HOME = ("HomeTeam", "HT")
AWAY = ("AwayTeam", "AT")
HOME_GOALS = ("FTHG", "HG")
AWAY_GOALS = ("FTAG", "AG")
RESULT = ("FTR", "Res")
HALF_HOME, HALF_AWAY, HALF_RESULT = "HTHG", "HTAG", "HTR"
REQUIRED = (DIVISION, DATE, HOME, AWAY, HOME_GOALS, AWAY_GOALS)


def known_columns() -> frozenset[str]:
    """Every column name that means something to the reader."""
    names = {name for group in (*REQUIRED, TIME, RESULT) for name in group} | {HALF_HOME, HALF_AWAY, HALF_RESULT}
    for books in BOOKS.values():
        for book in books:
            names.update(book.opening, book.closing, filter(None, (book.line, book.closing_line)))
    return frozenset(names)
