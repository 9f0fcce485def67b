"""`betting quiet`: the proof that the healer leaves alone what is not broken."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.demo import CHEAP_PASSWORDS, SPEED
from betting.cli.options import PIPE_WIDTH
from betting.cli.signals import ending_in_order


def quiet(
    seconds: Annotated[float, typer.Option(min=1, help="How long each scenario lasts.")] = 60.0,
) -> None:
    """Check that the healer leaves healthy parts alone: busy CPU, load peaks, packet loss, pauses, clock jumps.

    Exit code 0 only if the healer took no action but placing shards and alerting people.
    """
    from rich.console import Console
    from rich.table import Table

    from betting.cli import flights
    from betting.drills.embedded_target import runner
    from betting.drills.quiet import SCENARIOS, stay_quiet
    from betting.embedded.folder import DataFolder
    from betting.embedded.platform import Options

    typer.echo(f"{len(SCENARIOS)} scenarios of {seconds:g} s each")
    with ending_in_order(), tempfile.TemporaryDirectory(prefix="betting-quiet-") as path:
        options = Options(DataFolder.at(Path(path)), free_ports=True, speed=SPEED, extra=CHEAP_PASSWORDS)
        progress = lambda name, took_s: typer.echo(f"✓ {name} {took_s:.1f} s")  # noqa: E731  # a one-line callback
        target = runner(options, flights.reader(options.folder.flight), progress, typer.echo)
        results = asyncio.run(stay_quiet(target, options.folder.path, SCENARIOS, seconds, typer.echo))
    table = Table("unrest", "ticks", "seen", "destroyed", "bets", "slowest", title="What the healer made of it")
    for each in results:
        seen, destroyed = ", ".join(each.diagnoses) or "nothing", ", ".join(each.destructive) or "nothing"
        if each.skipped:
            table.add_row(each.name, "-", f"skipped: {each.skipped}", "-", "-", "-")
        else:
            table.add_row(each.name, str(each.ticks), seen, destroyed, f"{each.accepted:,}", f"{each.slowest_s:.2f} s")
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
    held = all(each.holds for each in results)
    typer.echo("QUIET" if held else "NOT QUIET")
    sys.exit(0 if held else 1)
