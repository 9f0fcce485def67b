"""Dates of a season file. How they are written is decided once for the file: 8/4 and 8/14 are read the same way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from betting.feeds.seasons.rows import ProblemList, Refusal

YEAR_MIN, YEAR_MAX = 1888, 2100  # the first league season; the century is a typing error after that
# strptime's rule for years of two digits.
_CENTURY_ENDS = 69
_MONTHS = 12
# One date in so many may be mistyped, and one in a small file; with more the file mixes two ways of writing.
_MISTYPED_PART = 100
_SURE = 5  # dates that all say the same

_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[T ]00:00(?::00)?)?", re.ASCII)
_YEAR_LAST = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})", re.ASCII)
_WANTED = "write them as dd/mm/yyyy or as yyyy-mm-dd, or download the file again from football-data.co.uk"


class DateCell(NamedTuple):
    """A date as it stands in the file."""

    line: int
    column: str
    text: str


def check_order(cells: Iterable[DateCell], problems: ProblemList) -> None:
    """Makes sure that the dates are day first or year first, on the whole.

    Raises Refusal when they are month first, a mixture, or can be read both ways.
    """
    day_first: list[DateCell] = []
    month_first: list[DateCell] = []
    unsure: list[DateCell] = []
    year_first: list[DateCell] = []
    for cell in cells:
        if _YEAR_FIRST.fullmatch(cell.text):
            year_first.append(cell)
        elif match := _YEAR_LAST.fullmatch(cell.text):
            first, second = int(match[1]), int(match[3])
            kind = day_first if first > _MONTHS else month_first if second > _MONTHS else unsure
            kind.append(cell)
    if year_first:
        problems.add(*year_first[0][:2], "the dates are written year first (yyyy-mm-dd): read as such")
    if _are_mistyped(month_first, day_first):
        if not day_first and unsure:
            _check_unsure(unsure)
    elif _are_mistyped(day_first, month_first):
        raise _refused(month_first[0], f"the dates are month first ({month_first[0].text[:12]}), as in America")
    else:
        mixed = f"some dates are day first ({day_first[0].text[:12]} in line {day_first[0].line}), some month first"
        raise _refused(month_first[0], f"{mixed} ({month_first[0].text[:12]})")


def parse_date(text: str) -> datetime | None:
    """Midnight of the day, read day first or year first; None when it is no date."""
    if match := _YEAR_FIRST.fullmatch(text):
        return _day(int(match[1]), int(match[3]), int(match[4]))
    if match := _YEAR_LAST.fullmatch(text):
        return _day(_year(match[4]), int(match[3]), int(match[1]))
    return None


def _are_mistyped(few: list[DateCell], many: list[DateCell]) -> bool:
    return not few or (len(many) >= _SURE and len(few) <= 1 + len(many) // _MISTYPED_PART)


def _check_unsure(cells: list[DateCell]) -> None:
    """No day is over 12. football-data writes two digits, day first; anything else is not guessed.

    A season's first weeks read month first would spread over the year, so day first must not be the longer reading.
    """
    matches = [match for cell in cells if (match := _YEAR_LAST.fullmatch(cell.text)) is not None]
    if all(match[1] == match[3] for match in matches):
        return
    padded = all(len(match[1]) == len(match[3]) == 2 for match in matches)
    day_first = _span_s(_day(_year(match[4]), int(match[3]), int(match[1])) for match in matches)
    month_first = _span_s(_day(_year(match[4]), int(match[1]), int(match[3])) for match in matches)
    if not padded or day_first > month_first:
        raise _refused(cells[0], f"the dates can be read day first and month first ({cells[0].text[:12]})")


def _refused(cell: DateCell, what: str) -> Refusal:
    return Refusal(cell.line, cell.column, f"{what}: {_WANTED}")


def _span_s(days: Iterable[datetime | None]) -> float:
    stamps = [day.timestamp() for day in days if day is not None]
    return max(stamps) - min(stamps) if stamps else 0.0


def _year(text: str) -> int:
    year = int(text)
    return year if len(text) > 2 else year + (1900 if year >= _CENTURY_ENDS else 2000)


def _day(year: int, month: int, day: int) -> datetime | None:
    if not YEAR_MIN <= year <= YEAR_MAX:
        return None
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None
