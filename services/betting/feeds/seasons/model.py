"""What a season file holds once read: matches with exact prices, and the problems that keep a file from being used."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.feeds.decimals import Odds


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
    """One row. `kick_off_us` is the file's local date and time read as if it were UTC (season time)."""

    event_id: int
    line: int
    kick_off_us: int
    home: str
    away: str
    home_goals: int
    away_goals: int
    markets: tuple[SeasonMarket, ...]


@dataclass(frozen=True, slots=True)
class Season:
    """A division's season, its matches in the order of kick-off (ties by event id)."""

    division: str
    label: str
    matches: tuple[Match, ...]
    bookmakers: dict[str, int] = field(compare=False)  # how many markets each bookmaker's columns gave

    @property
    def name(self) -> str:
        """As in file names: E0-2024-25."""
        return f"{self.division}-{self.label}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong where. `line` counts from 1, the header's line; `column` is empty when the whole line is meant."""

    line: int
    column: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{place}: {self.message}"


class SeasonError(Exception):
    """A season file that cannot be used: every problem found, up to `MAX_PROBLEMS` of `total`."""

    def __init__(self, source: str, problems: list[Problem], total: int) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = total
        more = f" (and {total - len(problems)} more)" if total > len(problems) else ""
        super().__init__(f"{source}: " + "; ".join(str(problem) for problem in problems) + more)
