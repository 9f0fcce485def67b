"""`betting bench`: the figures that matter, beside their budgets."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.options import PIPE_WIDTH
from betting.cli.signals import ending_in_order


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(help="One of batch, single, live, settle, memory, failover, roll, rest; may be repeated."),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Small sizes: seconds in place of minutes; the budgets do not apply.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("bench-results"),
) -> None:
    """Measure throughput, latency, memory and recovery here: about fifteen minutes, about two with --quick."""
    from rich.console import Console

    from betting.bench import main, report
    from betting.supervision.errors import PlatformError

    names = only or list(main.ALL)
    unknown = [name for name in names if name not in main.ALL]
    if unknown:
        raise PlatformError(f"There is no benchmark {unknown[0]}: there are {', '.join(main.ALL)}.")
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    note = lambda line: console.print(f"[dim]{line}[/]")  # noqa: E731  # a one-line callback
    with ending_in_order():
        figures = asyncio.run(main.run(names, main.QUICK if quick else main.Sizes(), note))
    report.show(figures, console)
    console.print(f"JSON: {report.save(figures, out)}")
