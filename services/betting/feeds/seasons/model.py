"""What a season file holds once read: matches with exact prices, what is odd in it, and why a file is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.feeds.decimals import Odds

PROBLEMS_IN_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class PricedSelection:
    """One answer with the price a market opens with and the price it closes with."""

    selection_id: int
    opening: Odds
    closing: Odds


@dataclass(frozen=True, slots=True)
class SeasonMarket:
    """A market of a match. `kind` is a betting.v1.MarketKind; `bookmaker` the column prefix the prices are from."""

    market_id: int
    kind: int
    line_quarters: int
    bookmaker: str
    selections: tuple[PricedSelection, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """One row. `kick_off_us` is the file's local date and time read as if it were UTC (season time).

    `certain` is False when the file contradicts itself about the score; such a match has no markets.
    """

    event_id: int
    line: int
    kick_off_us: int
    home: str
    away: str
    home_goals: int
    away_goals: int
    markets: tuple[SeasonMarket, ...]
    certain: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong where. `line` counts from 1, the header's line; 0 means the file as a whole, which was not read.

    `column` is empty when the whole line is meant.
    """

    line: int
    column: str
    message: str

    def __str__(self) -> str:
        if not self.line:
            return self.message
        place = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Season:
    """A division's season, its matches in the order of kick-off (ties by event id)."""

    division: str
    label: str
    matches: tuple[Match, ...]
    bookmakers: dict[str, int] = field(compare=False)  # how many markets each bookmaker's columns gave
    # What is odd in the file and what was made of it, in the order of the lines: the first of `warnings_total`.
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    warnings_total: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """As in file names: E0-2024-25."""
        return f"{self.division}-{self.label}"


class SeasonError(Exception):
    """A season file that cannot be used: first why, then the odd lines that led to it; the first ones of `total`.

    The message names a few of them.
    """

    def __init__(self, source: str, problems: list[Problem], total: int) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = total
        shown = problems[:PROBLEMS_IN_MESSAGE]
        more = f" (and {total - len(shown)} more)" if total > len(shown) else ""
        super().__init__(f"{source}: " + "; ".join(str(problem) for problem in shown) + more)
