"""The report as text for people and as JSON for programs."""

from __future__ import annotations

import json

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from betting.audit.report import CheckResult, Problem, Report


def table(report: Report) -> RenderableType:
    """Every check in one table, the first few problems of each failed one below, the verdict last."""
    parts: list[RenderableType] = [_checks(report)]
    parts += [_problems(check) for check in report.failed]
    parts += [Text(line) for line in (*_about(report), verdict(report))]
    return Group(*parts)


def show(report: Report, console: Console) -> None:
    """Prints the table."""
    console.print(table(report))


def verdict(report: Report) -> str:
    """One line: does everything hold, over what, how long it took."""
    scope = f"{report.entries:,} entries in {len(report.lags)} shards, {report.took_s:.1f} s"
    if report.holds:
        return f"Everything holds: {len(report.checks)} checks over {scope}."
    return f"{len(report.failed)} of {len(report.checks)} checks FAILED over {scope}."


def as_json(report: Report) -> str:
    """The report as one JSON object."""
    return json.dumps(_plain(report), indent=2)


def _checks(report: Report) -> Table:
    grid = Table(show_lines=False)
    grid.add_column("check", no_wrap=True)
    grid.add_column("what it means", ratio=1)
    grid.add_column("rows", justify="right", no_wrap=True)
    grid.add_column("problems", justify="right", no_wrap=True)
    for check in report.checks:
        style = "" if check.holds else "bold red"
        found = "0" if check.holds else f"{check.problems:,}"
        grid.add_row(escape(check.name), escape(check.meaning), f"{check.examined:,}", found, style=style)
    return grid


def _problems(check: CheckResult) -> Text:
    lines = [f"{check.name}: {check.problems:,} problems, the first {len(check.examples)}:"]
    for problem in check.examples:
        lines.append(f"  {problem.where}")
        lines.append(f"    {problem.subject}: expected {problem.expected}; found {problem.found}")
    return Text("\n".join(lines))


def _about(report: Report) -> list[str]:
    lines = []
    if report.lag_entries:
        worst = max(report.lags, key=lambda lag: lag.entries)
        lines.append(
            f"Read models are {report.lag_entries:,} entries behind and were compared up to there "
            f"(worst: shard {worst.shard}, {worst.entries:,})."
        )
    else:
        lines.append("Read models are not behind.")
    read = report.acknowledgements
    if read is not None:
        lines.append(
            f"{read.path}: {read.bets:,} bets, {read.deposits:,} deposits, {read.withdrawals:,} withdrawals, "
            f"{read.refusals:,} refusals" + (", and a last line cut off, left out." if read.cut_off else ".")
        )
    return lines


def _plain(report: Report) -> dict[str, object]:
    read = report.acknowledgements
    return {
        "holds": report.holds,
        "entries": report.entries,
        "took_s": round(report.took_s, 3),
        "read_model_lag_entries": report.lag_entries,
        "shards": [{"shard": lag.shard, "head": lag.head, "watermark": lag.watermark} for lag in report.lags],
        "acknowledgements": None if read is None else {
            "path": read.path, "bets": read.bets, "deposits": read.deposits, "withdrawals": read.withdrawals,
            "refusals": read.refusals, "cut_off": read.cut_off,
        },
        "checks": [
            {
                "name": check.name, "means": check.meaning, "holds": check.holds, "examined": check.examined,
                "problems": check.problems, "examples": [_problem(problem) for problem in check.examples],
            }
            for check in report.checks
        ],
    }  # fmt: skip


def _problem(problem: Problem) -> dict[str, object]:
    return {
        "shard": problem.shard,
        "sequence": problem.sequence,
        "account": None if problem.account is None else str(problem.account),
        "bet": None if problem.bet is None else str(problem.bet),
        "subject": problem.subject,
        "expected": problem.expected,
        "found": problem.found,
    }
