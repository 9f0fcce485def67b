"""From text to rows of named cells: separators, headers, blank tails and ragged lines of real files."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from betting.feeds.seasons import columns
from betting.feeds.seasons.model import Problem

MAX_ROWS = 5_000  # the longest league season is 552 matches
MAX_PROBLEMS = 200

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# str.splitlines also splits at characters that may stand in a cell.
_LINE_END = re.compile("\r\n|\n|\r")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)", re.ASCII)
# Zero-width characters and soft hyphens: invisible, so never meant.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


class Refusal(Exception):
    """The file as a whole cannot be used; `problem` says what it is and what to do."""

    def __init__(self, line: int, column: str, message: str) -> None:
        self.problem = Problem(line, column, message)
        super().__init__(message)


class ProblemList:
    """What is odd in a file, each once; keeps the first `MAX_PROBLEMS` and counts the rest."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.total = 0
        self._known: set[Problem] = set()

    def add(self, line: int, column: str, message: str) -> None:
        problem = Problem(line, column, message)
        if problem in self._known:
            return
        self._known.add(problem)
        self.total += 1
        if len(self.kept) < MAX_PROBLEMS:
            self.kept.append(problem)


@dataclass(frozen=True, slots=True)
class Row:
    """One line's cells by column name, stripped; a column the file lacks reads as blank."""

    line: int
    cells: dict[str, str]
    decimal_commas: bool = False

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def number(self, column: str) -> str:
        """The cell with a dot as its decimal point."""
        text = self[column]
        return _DECIMAL_COMMA.sub(".", text) if self.decimal_commas else text

    def first(self, names: tuple[str, ...]) -> tuple[str, str]:
        """(the column's name in this file, its cell) for the first of `names` that the file has."""
        present = next((name for name in names if name in self.cells), names[0])
        return present, self[present]


class _Header(NamedTuple):
    line: int
    names: list[str]
    separator: str


def clean(text: str) -> str:
    """Every kind of space is one space (a no-break space too), nothing invisible stays, no space at the ends."""
    return " ".join(_INVISIBLE.sub("", text).split())


def read_rows(text: str, problems: ProblemList) -> list[Row]:
    """The lines that hold anything, below the header; odd ones go to `problems`.

    Raises Refusal when this is no season file.
    """
    lines = _LINE_END.split(text)
    header = _header(lines)
    if header.separator != ",":
        named = _SEPARATORS[header.separator]
        problems.add(header.line, "", f"the cells are separated by {named}, not by commas: read as such")
    rows = list(_rows(lines, header, problems))
    if len(rows) > MAX_ROWS:
        raise Refusal(
            rows[MAX_ROWS].line, "", f"more than {MAX_ROWS} matches: give one season of one division per file"
        )
    return rows


def _header(lines: list[str]) -> _Header:
    line, text = next(((number, text) for number, text in enumerate(lines, 1) if text.strip()), (1, ""))
    found = [_Header(line, _names(text, separator), separator) for separator in _SEPARATORS]
    header = next((each for each in found if not _missing(each.names)), None)
    if header is None:
        raise Refusal(line, "", _no_season(text, found))
    known = columns.known_columns()
    for name in header.names:
        if name in known and header.names.count(name) > 1:
            raise Refusal(line, name, "the column appears more than once: keep one")
    return header


def _names(text: str, separator: str) -> list[str]:
    names = [clean(cell) for cell in _cells(text, separator) or ()]
    return names if separator == "," else [_DECIMAL_COMMA.sub(".", name) for name in names]


def _missing(names: list[str]) -> list[str]:
    return [group[0] for group in columns.REQUIRED if not any(name in names for name in group)]


def _no_season(text: str, headers: list[_Header]) -> str:
    if any({"Country", "League", "Season"} <= set(header.names) for header in headers):
        return (
            "this is one of football-data's extra-league files (many seasons in one); "
            "take a file of the main leagues, which start with the column Div"
        )
    best = max(headers, key=lambda header: (len(header.names) - len(_missing(header.names)), header.separator == ","))
    return (
        f"the header lacks {', '.join(_missing(best.names))} (the file begins {text[:40].strip()!r}): "
        "expected a football-data.co.uk results file"
    )


def _rows(lines: list[str], header: _Header, problems: ProblemList) -> Iterator[Row]:
    blank = dict.fromkeys(filter(None, header.names), "")
    width, separator, decimal_commas = len(header.names), header.separator, header.separator != ","
    cut_off_below = _usual_width(lines, header) if lines[-1] else 0
    for line, text in enumerate(lines[header.line :], header.line + 1):
        if not text.strip(separator + " "):
            continue
        cells = _cells(text, separator)
        if cells is None:
            problems.add(line, "", "not readable as CSV: check the quotes; the line is left out")
            continue
        if line == len(lines) and len(cells) < cut_off_below:
            _drop_cut_cell(line, cells, cut_off_below, header, problems)
        # Cells beyond the header have no name and mean nothing; missing ones read as blank.
        named = {name: cell.strip() for name, cell in zip(header.names, cells, strict=False) if name}
        if not any(named.values()):
            continue
        if any(cell.strip() for cell in cells[width:]):
            problems.add(line, "", f"{len(cells)} cells below a header of {width}: those beyond it are not read")
        yield Row(line, blank | named, decimal_commas)


def _usual_width(lines: list[str], header: _Header) -> int:
    """How many cells most lines before the last one have; as many as the header has when there are none."""
    rows = (_cells(text, header.separator) for text in lines[header.line : -1] if text.strip(header.separator + " "))
    widths = Counter(len(cells) for cells in rows if cells is not None)
    return widths.most_common(1)[0][0] if widths else len(header.names)


def _drop_cut_cell(line: int, cells: list[str], usual: int, header: _Header, problems: ProblemList) -> None:
    """Takes away the last cell of a last line that ends too early and without a line end: 3.7 may be cut to 3."""
    count, last = len(cells), cells.pop()
    column = header.names[count - 1] if count <= len(header.names) else ""
    message = (
        f"the line seems cut off: the file ends in it without a line end, after {count} cells where other lines have "
        f"{usual}; {last.strip()[:40]!r} is not read: download the file again"
    )
    problems.add(line, column, message)


def _cells(text: str, separator: str) -> list[str] | None:
    """The cells of one line, or None. No cell of a season file spans lines: an open quote ends with its line."""
    if '"' not in text:
        return text.split(separator)
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None
