"""The report: a table for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import os
import platform as machine
import time
from dataclasses import dataclass, field
from pathlib import Path

from bettors import Bets
from evidence import BETS_MIN, Evidence
from rich.console import Console
from rich.table import Table
from scene import Facts
from tools import RESULTS

PIPE_WIDTH = 170
_OF_BETS = ("bets", "refused", "late", "lost", "p50 ms", "p99 ms", "worst ms", "longest pause s", "bets/s/shard")


@dataclass
class Result:
    """What became of one scenario. failed: what did not hold; skipped: why it was not run."""

    name: str
    summary: str
    took_s: float = 0.0
    facts: Facts = field(default_factory=Facts)
    bets: Bets | None = None
    failed: list[str] = field(default_factory=list)
    skipped: str = ""


@dataclass
class Report:
    """Of one run."""

    results: list[Result] = field(default_factory=list)
    evidence: Evidence | None = None
    whole: bool = False  # every scenario was to run: the number of bets counts
    skips_allowed: bool = False  # a scenario that this cluster cannot show is no problem
    began_s: float = field(default_factory=time.monotonic)

    def problems(self) -> list[str]:
        """Everything that does not hold, a line each."""
        found = [f"{each.name}: {problem}" for each in self.results for problem in each.failed]
        if not self.skips_allowed:
            found += [f"{each.name} was skipped: {each.skipped}" for each in self.results if each.skipped]
        if self.evidence is None:
            return [*found, "the journal was not asked about the acknowledged bets"]
        if self.evidence.lost:
            found.append(f"{self.evidence.lost} acknowledged bets are not in the journal")
        if self.evidence.audit:
            found.append(f"the audit does not hold: {self.evidence.audit}")
        if self.whole and self.evidence.acknowledged < BETS_MIN:
            found.append(f"{self.evidence.acknowledged:,} acknowledged bets: at least {BETS_MIN:,} are wanted")
        return found

    def show(self, console: Console) -> None:
        """Prints it."""
        table = Table(title="end to end on Kubernetes")
        table.add_column("scenario")
        table.add_column("took s", justify="right")
        for name in _OF_BETS:
            table.add_column(name, justify="right")
        table.add_column("holds")
        for each in self.results:
            table.add_row(each.name, f"{each.took_s:.0f}", *self._cells(each), _verdict(each))
        console.print(table)
        for each in self.results:
            console.print(f"{each.name}: {each.summary}", style="bold")
            if "ratio" in each.facts:
                _show_side_by_side(each.facts, console)
            else:
                for name, value in each.facts.items():
                    console.print(f"  {name}: {value}", markup=False)
            if each.skipped:
                console.print(f"  SKIPPED: {each.skipped}", markup=False)
            for problem in each.failed:
                console.print(f"  FAILED: {problem}", markup=False)
        if self.evidence is not None:
            checked = self.evidence.audit or f"{self.evidence.audit_checks} checks hold"
            console.print(
                f"acknowledged bets: {self.evidence.acknowledged:,}, not in the journal: {self.evidence.lost}; "
                f"audit: {checked}"
            )

    def _cells(self, result: Result) -> list[str]:
        bets = result.bets
        if bets is None:
            return [""] * len(_OF_BETS)
        lost = "?" if self.evidence is None else str(self.evidence.lost_by_scenario.get(result.name, 0))
        return [
            f"{bets.accepted:,}",
            str(bets.refused.total()),
            str(bets.late.total()),
            lost,
            *(f"{1000 * each:.0f}" for each in (bets.p50_s, bets.p99_s, bets.worst_s)),
            f"{bets.pause_s:.1f}",
            f"{bets.least_per_s:.1f}",
        ]

    def save(self) -> Path:
        """Writes it as JSON under the time of the run; returns the file."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        value = {
            "took_s": round(time.monotonic() - self.began_s, 1),
            "machine": {"processors": os.cpu_count(), "system": machine.platform()},
            "holds": not self.problems(),
            "problems": self.problems(),
            "scenarios": [self._value(each) for each in self.results],
            "evidence": None if self.evidence is None else dataclasses.asdict(self.evidence),
        }
        path.write_text(json.dumps(value, indent=1), "utf-8")
        return path

    def _value(self, result: Result) -> Facts:
        found: Facts = dataclasses.asdict(dataclasses.replace(result, bets=None))
        if result.bets is not None:
            bets = {each.name: getattr(result.bets, each.name) for each in dataclasses.fields(result.bets)}
            found["bets"] = {name: value for name, value in bets.items() if name != "keys"}
        return found


def _verdict(result: Result) -> str:
    if result.skipped:
        return "skipped"
    return "NO" if result.failed else "yes"


def _show_side_by_side(facts: Facts, console: Console) -> None:
    table = Table(title=f"placing bets, {facts['connections']} connections, in one sitting")
    for name in ("", "bets/s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("cluster", "laptop"):
        row = facts[name]
        assert isinstance(row, dict)
        table.add_row(name, *(f"{row[column]:.0f}" for column in ("bets_per_s", "p50_ms", "p99_ms")))
    console.print(table)
    console.print(f"the cluster's gateway takes {facts['ratio']} of what the laptop platform takes")
