"""What healing was measured: a table for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import os
import platform as machine
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bettors import Bets
from evidence import Evidence
from heal_fault import Fault
from heal_quiet import Quiet
from rich.console import Console
from rich.table import Table
from tools import RESULTS

WORST_TIMES = 2  # no run may take more than so many times the budget


@dataclass
class Run:
    """One injection. outage_s: see heal_fault; None: longer than it was watched, or it failed. took_s: all of it, with
    the wait before it. wrong: what the healer did or did not do against what the fault asks for, a line each."""

    target: str = ""
    outage_s: float | None = None
    took_s: float = 0.0
    bets: Bets | None = None
    wrong: list[str] = field(default_factory=list)
    failed: str = ""


@dataclass
class Row:
    """One fault. runs: with the healer; alone: without it."""

    fault: Fault
    runs: list[Run] = field(default_factory=list)
    alone: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the fault."""
        return self.fault.name

    @property
    def refused(self) -> Counter[str]:
        """Bets that were refused at least once while the healer ran, by reason."""
        return sum((each.bets.refused for each in self.runs if each.bets is not None), Counter[str]())

    @property
    def median_s(self) -> float:
        """Of the runs with the healer."""
        return statistics.median(_number(each.outage_s) for each in self.runs) if self.runs else float("inf")

    def problems(self) -> list[str]:
        """What does not hold, a line each."""
        budget_s = self.fault.budget_s
        found = [each.failed for each in (*self.runs, *self.alone) if each.failed]
        if len(self.runs) > 1 and self.median_s > budget_s:  # one run alone has no median
            found.append(f"the median of {_shown(self.median_s)} s is over the budget of {budget_s:g} s")
        over = [each.outage_s for each in self.runs if _number(each.outage_s) > WORST_TIMES * budget_s]
        found += [f"{_shown(_number(each))} s is over twice the budget of {budget_s:g} s" for each in over]
        if not self.fault.refuses and self.refused:
            found.append(f"bets were refused: {dict(self.refused)}")
        unanswered = sum(each.bets.unanswered for each in self.runs if each.bets is not None)
        if unanswered:
            found.append(f"{unanswered} bets had no answer")
        found += [each for run in self.runs for each in run.wrong]
        return [f"{self.name}: {each}" for each in found]


@dataclass
class QuietRow:
    """One disturbance. disruptive: what the healer did that it should not have done."""

    quiet: Quiet
    disruptive: list[str] = field(default_factory=list)
    bets: Bets | None = None
    failed: str = ""

    def problems(self) -> list[str]:
        """What does not hold, a line each."""
        found = [self.failed] if self.failed else [f"the healer should not have: {each}" for each in self.disruptive]
        return [f"{self.quiet.name}: {each}" for each in found]


@dataclass
class HealReport:
    """Of one run of all faults, and of what must stay quiet. failed: why it ended early, "" where it did not. parts_s:
    how long each part of it took. seed: of the random order of a soak, None where there was none."""

    rows: dict[str, Row]
    quiet: list[QuietRow] = field(default_factory=list)
    evidence: Evidence | None = None
    failed: str = ""
    seed: int | None = None
    began_s: float = field(default_factory=time.monotonic)
    parts_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times a part of the run."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.parts_s[name] = time.monotonic() - began_s

    def problems(self) -> list[str]:
        """Everything that does not hold, a line each."""
        found = [problem for row in self.rows.values() for problem in row.problems()]
        found += [problem for quiet in self.quiet for problem in quiet.problems()]
        found += [self.failed] if self.failed else []
        if self.evidence is None:
            return [*found, "the journal was not asked about the acknowledged bets"]
        if self.evidence.lost:
            found.append(f"{self.evidence.lost} acknowledged bets are not in the journal")
        if self.evidence.audit:
            found.append(f"the audit does not hold: {self.evidence.audit}")
        return found

    def without_healer(self, row: Row) -> list[Run]:
        """Of this fault, or of the one that it is the same as then."""
        same = self.rows.get(row.fault.same_alone)
        return row.alone if same is None else same.alone

    def keys(self) -> dict[str, frozenset[str]]:
        """The request keys of the acknowledged bets of each fault."""
        empty: frozenset[str] = frozenset()
        found = {
            name: empty.union(*(run.bets.keys for run in (*row.runs, *row.alone) if run.bets is not None))
            for name, row in self.rows.items()
        }
        return found | {each.quiet.name: each.bets.keys for each in self.quiet if each.bets is not None}

    def show(self, console: Console) -> None:
        """Prints it."""
        table = Table(title="healing on Kubernetes, in seconds from the fault")
        table.add_column("fault")
        table.add_column("measured")
        for name in ("budget", "runs", "median", "without healer", "bets", "refused", "lost"):
            table.add_column(name, justify="right")
        table.add_column("holds")
        for each in self.rows.values():
            runs = "  ".join("failed" if run.failed else _shown(_number(run.outage_s)) for run in each.runs)
            alone = "  ".join(
                "failed" if run.failed else _shown(_number(run.outage_s)) for run in self.without_healer(each)
            )
            accepted = sum(run.bets.accepted for run in each.runs if run.bets is not None)
            lost = "?" if self.evidence is None else str(self.evidence.lost_by_scenario.get(each.name, 0))
            table.add_row(
                each.name,
                each.fault.measure.value,
                f"{each.fault.budget_s:g}",
                runs,
                _shown(each.median_s),
                alone,
                f"{accepted:,}",
                str(each.refused.total()),
                lost,
                "NO" if each.problems() else "yes",
            )
        console.print(table)
        for each in self.rows.values():
            console.print(f"{each.name}: {each.fault.summary}", markup=False)
        if self.quiet:
            self._show_quiet(console)
        if self.evidence is not None:
            checked = self.evidence.audit or f"{self.evidence.audit_checks} checks hold"
            console.print(
                f"acknowledged bets: {self.evidence.acknowledged:,}, not in the journal: {self.evidence.lost}; "
                f"audit: {checked}"
            )
        parts = ", ".join(f"{name} {seconds / 60:.1f} min" for name, seconds in self.parts_s.items())
        console.print(f"time taken: {parts}")

    def _show_quiet(self, console: Console) -> None:
        table = Table(title="what must not alarm the healer")
        table.add_column("disturbance")
        table.add_column("bets", justify="right")
        table.add_column("slowest bet s", justify="right")
        table.add_column("disruptive actions", justify="right")
        table.add_column("holds")
        for each in self.quiet:
            bets = ("", "") if each.bets is None else (f"{each.bets.accepted:,}", f"{each.bets.worst_s:.1f}")
            count = "failed" if each.failed else str(len(each.disruptive))
            table.add_row(each.quiet.summary, *bets, count, "NO" if each.problems() else "yes")
        console.print(table)

    def save(self) -> Path:
        """Writes it as JSON under the time of the run; returns the file."""
        path = RESULTS / f"heal-{time.strftime('%Y%m%d-%H%M%S')}.json"
        value = {
            "took_s": round(time.monotonic() - self.began_s, 1),
            "parts_s": {name: round(seconds, 1) for name, seconds in self.parts_s.items()},
            "seed": self.seed,
            "machine": {"processors": os.cpu_count(), "system": machine.platform()},
            "holds": not self.problems(),
            "problems": self.problems(),
            "faults": [_value(each, self.without_healer(each)) for each in self.rows.values()],
            "quiet": [
                {"name": each.quiet.name, "disruptive": each.disruptive, "failed": each.failed} for each in self.quiet
            ],
            "evidence": None if self.evidence is None else dataclasses.asdict(self.evidence),
        }
        path.write_text(json.dumps(value, indent=1), "utf-8")
        return path


def _value(row: Row, without_healer: list[Run]) -> dict[str, Any]:
    def runs(found: list[Run]) -> list[dict[str, Any]]:
        return [
            {"target": each.target, "outage_s": each.outage_s, "failed": each.failed, "wrong": each.wrong}
            | {"took_s": round(each.took_s, 1)}
            | ({} if each.bets is None else {"accepted": each.bets.accepted, "refused": dict(each.bets.refused)})
            for each in found
        ]

    return {
        "name": row.name,
        "summary": row.fault.summary,
        "measured": row.fault.measure.value,
        "budget_s": row.fault.budget_s,
        "median_s": None if row.median_s == float("inf") else row.median_s,
        "runs": runs(row.runs),
        "without_healer": runs(without_healer),
        "problems": row.problems(),
    }


def _number(outage_s: float | None) -> float:
    return float("inf") if outage_s is None else outage_s


def _shown(seconds: float) -> str:
    return "never" if seconds == float("inf") else f"{seconds:.1f}"
