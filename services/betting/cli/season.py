"""`betting season`: lists the seasons that come with the platform, or checks a season file and says what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from betting.cli.options import TrustGoals
from betting.feeds.seasons import Match, Problem, Season, SeasonError, load_season, shipped_seasons
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
    trust_goals: TrustGoals = False,
) -> None:
    """List the shipped seasons, or check FILE: a summary and what is odd, or why it cannot be used (exit code 1)."""
    console = Console()
    if file is None:
        _list_shipped(console)
        return
    try:
        found = load_season(file, trust_goals=trust_goals)
    except SeasonError as error:
        heading = f"{error.source}: {_counted(error.total, 'problem')}"
        _show(console, heading, error.problems, error.total)
        raise typer.Exit(1) from None
    console.print(_summary(found))
    if found.warnings:
        _show(console, f"{_counted(found.warnings_total, 'warning')}:", found.warnings, found.warnings_total)


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
    table.add_row("matches without bets", str(without))
    books = ", ".join(f"{name} ({count})" for name, count in found.bookmakers.items())
    table.add_row("bookmaker columns used (markets)", books)
    table.add_row("warnings", str(found.warnings_total) if found.warnings_total else "none")
    return table


def _show(console: Console, heading: str, problems: Sequence[Problem], total: int) -> None:
    """One line each, never wrapped: they may go into a pipe."""
    console.print(Text(heading), soft_wrap=True)
    for problem in problems:
        # Text, not markup: cells of a broken file may hold anything.
        console.print(Text(str(problem)), soft_wrap=True)
    if total > len(problems):
        console.print(f"… and {total - len(problems)} more", highlight=False)


def _counted(total: int, what: str) -> str:
    return f"{total} {what}{'s' if total != 1 else ''}"


def _has_two_handicaps(match: Match) -> bool:
    return sum(market.kind == event_pb2.MARKET_KIND_ASIAN_HANDICAP for market in match.markets) > 1


def _day(match: Match) -> str:
    return datetime.fromtimestamp(match.kick_off_us / 1_000_000, UTC).strftime("%Y-%m-%d")
