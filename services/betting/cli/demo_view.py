"""The table at the end of the demo."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.table import Table

from betting.drills.availability import BETS
from betting.drills.demo import Result
from betting.drills.measure import FaultResult

TITLE = "What broke, and when it was back: seconds after the fault"
LEGEND = (
    "bets: until the worst shard accepted a bet again; part: until what the fault took away worked again; detected:",
    "until the healer had confirmed it; healed: until everything worked, without an operator.",
)
PIPE_WIDTH = 150
# Two times that differ by less are the same on a machine that does other things too.
SAME_SHARE = 0.25
SAME_S = 0.5


def show(result: Result, without: Result | None) -> None:
    """Prints the table, the audit's verdict and the conclusion; `without`: the same faults without the healer."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(_table(result, without))
    for line in (*LEGEND, *lines(result), *(_lines_without(without) if without is not None else ())):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def lines(result: Result) -> list[str]:
    """The lines below the table: refused bets, the audit, and the conclusion."""
    checks = result.report.checks
    unsettled = "all settlements finished" if result.unsettled == 0 else f"{result.unsettled} settlements still pending"
    return [
        f"{result.bettors} bettors, {result.bets_accepted:,} bets accepted, {result.bets_delayed:,} after over 1 s",
        f"refused by the rules: {refusals(result)}",
        f"settled by real results: {result.bets_settled:,} bets on {result.events_settled} matches; {unsettled}",
        *(f"never answered: {count} × {problem}" for problem, count in result.unanswered.most_common()),
        *(f"skipped: {each.name}: {each.why}" for each in result.skipped),
        *(f"not healed: {each.name}" for each in result.outcomes if each.healed_s is None),
        f"acknowledged: {result.acks_written:,}; lost: {result.acknowledged_lost}",
        f"audit: {len(checks)} checks over {result.report.entries:,} journal entries: {verdict(result)}",
        f"{'PROVEN' if result.holds else 'NOT PROVEN'} in {result.took_s:.0f} s",
    ]


def _lines_without(without: Result) -> list[str]:
    return [
        f"without the healer: {without.bets_accepted:,} bets accepted, {without.bets_delayed:,} after over 1 s; "
        f"acknowledged: {without.acks_written:,}; lost: {without.acknowledged_lost}; audit: {verdict(without)}; "
        f"{without.took_s:.0f} s"
    ]


def verdict(result: Result) -> str:
    """One line with the audit's verdict and what it examined."""
    failed = ", ".join(each.name for each in result.report.failed)
    return "holds" if result.report.holds else f"BROKEN: {failed}"


def cells(outcome: FaultResult, without: FaultResult | None) -> tuple[str, ...]:
    """The cells of one fault's row. without: the same fault without the healer, None when that was not run."""
    refused = sum(outcome.refused.values())
    return (
        outcome.name,
        _seconds(outcome.worst_s, outcome),
        "" if outcome.part == BETS else f"{outcome.part} {_seconds(outcome.part_s, outcome)}",
        budget(outcome),
        "" if outcome.detected_s is None else f"{outcome.detected_s:.2f}",
        _seconds(outcome.healed_s, outcome) + (" by hand" if outcome.by_hand else ""),
        "" if without is None else compared(outcome, without),
        f"{outcome.delayed:,}",
        f"{refused:,}",
        f"{outcome.lost:,}",
    )


def budget(outcome: FaultResult) -> str:
    """The recovery budget of a fault, and whether it was kept."""
    return "" if outcome.budget_s is None else f"≤ {outcome.budget_s:g} {'kept' if outcome.is_kept else 'MISSED'}"


def compared(healed: FaultResult, without: FaultResult) -> str:
    """The time without the healer; says so if it made no difference."""
    shown = _seconds(without.healed_s, without)
    return f"{shown} (same)" if is_same(healed.healed_s, without.healed_s) else shown


def is_same(one_s: float | None, other_s: float | None) -> bool:
    """Whether two durations are too close to tell apart."""
    if one_s is None or other_s is None:
        return one_s is other_s
    return abs(one_s - other_s) <= max(SAME_S, SAME_SHARE * max(one_s, other_s))


def refusals(result: Result) -> str:
    """Refused bets by code, over all faults."""
    codes: Counter[str] = sum((each.refused for each in result.outcomes), Counter())
    return ", ".join(f"{code} {count:,}" for code, count in codes.most_common()) or "none"


def _seconds(seconds: float | None, outcome: FaultResult) -> str:
    return f"> {outcome.watched_s:.0f}" if seconds is None else f"{seconds:.2f}"


def _table(result: Result, without: Result | None) -> Table:
    table = Table(title=TITLE, title_justify="left")
    table.add_column("fault", no_wrap=True)
    for name in ("bets", "part", "budget", "detected", "healed", "no healer", "over 1 s", "refused", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    others = {} if without is None else {each.name: each for each in without.outcomes}
    for each in result.outcomes:
        table.add_row(*cells(each, others.get(each.name)))
    return table
