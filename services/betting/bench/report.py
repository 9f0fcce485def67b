"""Figures beside their budgets, as a table for people and JSON for machines."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number. `budget` is None where there is none; `at_most` says which side of it is good."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        if self.budget is None:
            return None
        return self.value <= self.budget if self.at_most else self.value >= self.budget


def show(figures: Sequence[Figure], console: Console) -> None:
    """Prints the table."""
    table = Table(title="Benchmarks", title_justify="left", header_style="bold")
    for heading, justify in (("what", "left"), ("measured", "right"), ("budget", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("note", overflow="fold")
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        budget = "" if figure.budget is None else f"{sign} {_number(figure.budget)} {figure.unit}"
        verdict = {None: "", True: "[green]kept[/]", False: "[red]missed[/]"}[figure.holds]
        table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}", budget, verdict, figure.note)
    console.print(table)


def save(figures: Sequence[Figure], folder: Path) -> Path:
    """Writes a new file and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bench-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    machine = {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}
    rows = [asdict(figure) | {"holds": figure.holds} for figure in figures]
    path.write_text(json.dumps({**machine, "figures": rows}, indent=2) + "\n")
    return path


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"
