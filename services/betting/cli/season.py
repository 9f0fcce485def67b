"""`betting season`: lists the seasons that come with the platform, or checks a season file and says what is in it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from betting.feeds.seasons import Match, Season, SeasonError, load_season, shipped_seasons
from betting.v1 import event_pb2

_KINDS = {
    event_pb2.MARKET_KIND_MATCH_RESULT: "match result",
    event_pb2.MARKET_KIND_OVER_UNDER: "over/under 2.5",
    event_pb2.MARKET_KIND_ASIAN_HANDICAP: "Asian handicap",
}


def season(
    file: Annotated[
        str | None, typer.Argument(help="A season file of football-data.co.uk, or the name of a shipped season.")
    ] = None,
) -> None:
    """List the shipped seasons, or check FILE: a summary, or every problem with its line (exit code 1)."""
    console = Console()
    if file is None:
        _list_shipped(console)
        return
    try:
        found = load_season(file)
    except SeasonError as error:
        _show_problems(console, error)
        raise typer.Exit(1) from None
    console.print(_summary(found))


def _list_shipped(console: Console) -> None:
    table = Table("season", "matches", "from", "to", "markets", title="Shipped seasons")
    for name in shipped_seasons():
        found = load_season(name)
        markets = sum(len(match.markets) for match in found.matches)
        first, last = _day(found.matches[0]), _day(found.matches[-1])
        table.add_row(name, str(len(found.matches)), first, last, str(markets))
    console.print(table)
    console.print("Check another file with: betting season FILE", highlight=False)


def _summary(found: Season) -> Table:
    kinds = Counter(market.kind for match in found.matches for market in match.markets)
    without = sum(not match.markets for match in found.matches)
    moved = sum(_has_two_handicaps(match) for match in found.matches)
    table = Table("what", "", title=f"Season {found.name}", show_header=False)
    table.add_row("matches", str(len(found.matches)))
    table.add_row("teams", str(len({match.home for match in found.matches} | {match.away for match in found.matches})))
    table.add_row("dates", f"{_day(found.matches[0])} to {_day(found.matches[-1])}")
    for kind, name in _KINDS.items():
        table.add_row(f"{name} markets", str(kinds[kind]))
    table.add_row("matches whose handicap closed on another line (two markets)", str(moved))
    table.add_row("matches without prices", str(without))
    books = ", ".join(f"{name} ({count})" for name, count in found.bookmakers.items())
    table.add_row("bookmaker columns used (markets)", books)
    table.add_row("problems", "none")
    return table


def _show_problems(console: Console, error: SeasonError) -> None:
    heading = f"{error.source}: {error.total} problem{'s' if error.total != 1 else ''}"
    console.print(Text(heading), soft_wrap=True)
    table = Table("line", "column", "what is wrong, and what to do")
    for problem in error.problems:
        # Text, not markup: cells of a broken file may hold anything.
        table.add_row(str(problem.line or "–"), Text(problem.column or "–"), Text(problem.message))
    console.print(table)
    if error.total > len(error.problems):
        console.print(f"… and {error.total - len(error.problems)} more", highlight=False)


def _has_two_handicaps(match: Match) -> bool:
    return sum(market.kind == event_pb2.MARKET_KIND_ASIAN_HANDICAP for market in match.markets) > 1


def _day(match: Match) -> str:
    return datetime.fromtimestamp(match.kick_off_us / 1_000_000, UTC).strftime("%Y-%m-%d")
