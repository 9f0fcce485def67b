"""From bytes to rows of named cells: encodings, byte order marks, blank tails and ragged lines of real files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from betting.feeds.seasons import columns
from betting.feeds.seasons.model import Problem

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_ROWS = 5_000  # the longest league season is 552 matches
MAX_PROBLEMS = 50


class ProblemList:
    """Collects what is wrong with a file; keeps the first `MAX_PROBLEMS` and counts the rest."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.total = 0

    def add(self, line: int, column: str, message: str) -> None:
        self.total += 1
        if len(self.kept) < MAX_PROBLEMS:
            self.kept.append(Problem(line, column, message))

    def __bool__(self) -> bool:
        return self.total > 0


@dataclass(frozen=True, slots=True)
class Row:
    """One match's cells by column name, stripped; a column the file lacks reads as blank."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def first(self, names: tuple[str, ...]) -> tuple[str, str]:
        """(the column's name in this file, its cell) for the first of `names` that the file has."""
        present = next((name for name in names if name in self.cells), names[0])
        return present, self[present]


def read_rows(content: bytes, problems: ProblemList) -> list[Row]:
    """The rows that hold anything; problems of the file as a whole go to `problems` and give no rows."""
    text = _decode(content, problems)
    if text is None:
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=False)
    rows: list[Row] = []
    try:
        header = _header(next(reader, []), problems)
        for row in _rows(((reader.line_num, cells) for cells in reader), header) if header else ():
            if len(rows) >= MAX_ROWS:
                problems.add(row.line, "", f"more than {MAX_ROWS} matches: give one season of one division per file")
                break
            rows.append(row)
    except csv.Error as error:
        problems.add(reader.line_num, "", f"not readable as CSV ({error}): check the quotes in this line")
    return rows


def _decode(content: bytes, problems: ProblemList) -> str | None:
    if len(content) > MAX_FILE_BYTES:
        problems.add(1, "", f"the file has {len(content)} bytes; a season file has at most {MAX_FILE_BYTES}")
        return None
    if b"\x00" in content:
        line = content[: content.index(b"\x00")].count(b"\n") + 1
        problems.add(line, "", "holds a zero byte: this is not a text file; save the sheet as CSV")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # older files; every byte has a meaning there


def _header(cells: list[str], problems: ProblemList) -> list[str]:
    header = [cell.strip() for cell in cells]
    known = columns.known_columns()
    repeated = sorted({name for name in header if name in known and header.count(name) > 1})
    for name in repeated:
        problems.add(1, name, "the column appears more than once: keep one")
    missing = [names[0] for names in columns.REQUIRED if not any(name in header for name in names)]
    if missing:
        problems.add(1, "", _missing(missing, header))
    return [] if repeated or missing else header


def _missing(missing: list[str], header: list[str]) -> str:
    if {"Country", "League", "Season"} <= set(header):
        return (
            "this is one of football-data's extra-league files (many seasons in one); "
            "take a file of the main leagues, which start with the column Div"
        )
    return f"the header lacks {', '.join(missing)}: expected a football-data.co.uk results file"


def _rows(numbered: Iterator[tuple[int, list[str]]], header: list[str]) -> Iterator[Row]:
    blank = dict.fromkeys(filter(None, header), "")
    for line, cells in numbered:
        # Cells beyond the header have no name and mean nothing; missing ones read as blank.
        named = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
        if any(named.values()):
            yield Row(line, blank | named)
