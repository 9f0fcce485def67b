"""`betting demo`: the proof in a few minutes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.options import Season
from betting.cli.signals import ending_in_order

# Fifty bettors sign up at the beginning, and argon2 is made to be slow: a demo's passwords need not withstand anybody.
CHEAP_PASSWORDS = {
    "BETTING_ARGON2_TIME_COST": "1",
    "BETTING_ARGON2_MEMORY_KIB": "64",
    "BETTING_ARGON2_PARALLELISM": "1",
}
# A demo breaks more in five minutes than a year does: the healer's budget is for the year.
LARGE_BUDGET = {"BETTING_HEAL_BUDGET": "1000"}
SPEED = 20_000.0  # a season week in 30 s: results, and settlements, in the midst of the faults


def demo(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the data in this folder (default: deleted at the end).")
    ] = None,
    season: Season = None,
    no_healer: Annotated[bool, typer.Option("--no-healer", help="Run only without the healer.")] = False,
    compare: Annotated[bool, typer.Option(help="Inject all faults again without the healer, to compare.")] = True,
    pauses: Annotated[int, typer.Option(min=0, max=100, help="Owners paused in the middle of an append.")] = 1,
    speed: Annotated[float, typer.Option(min=0.001, help="Seconds of the season per real second.")] = SPEED,
) -> None:
    """Prove it: faults under load, healed, then an audit; and the same without the healer.

    Takes about three minutes, and as long again to compare. Exit code 0 only if nothing acknowledged was lost, every
    promise about money holds, and everything recovered without an operator.
    """
    from betting.cli import flights
    from betting.cli.demo_view import show
    from betting.drills.demo import Result, demonstrate, patience_s
    from betting.drills.embedded_target import inject, runner
    from betting.drills.faults import Fault, all_faults, healer_faults
    from betting.embedded.folder import DataFolder
    from betting.embedded.platform import Options
    from betting.embedded.topology import SERVICES, UNHEALED, Service

    def run(
        folder: Path, services: tuple[Service, ...], faults: list[Fault], patience: dict[str, float] | None = None
    ) -> Result:
        data_folder = DataFolder.at(folder)
        extra = CHEAP_PASSWORDS | LARGE_BUDGET
        options = Options(
            data_folder, free_ports=True, season=season, speed=speed, services=services, extra=extra, inject=inject
        )
        target = runner(options, flights.reader(data_folder.flight), _progress, typer.echo)
        return asyncio.run(demonstrate(target, data_folder.path, faults, typer.echo, patience))

    with ending_in_order(), _folder(data) as path:
        if no_healer:
            result, without = run(Path(path), UNHEALED, all_faults(pauses)), None
        else:
            result = run(Path(path) / "healed", SERVICES, all_faults(pauses) + healer_faults())
            without = None
            if compare:
                typer.echo("the same faults again, without the healer; what does not recover is repaired by hand")
                patience = {each.name: patience_s(each) for each in result.outcomes}
                without = run(Path(path) / "unhealed", UNHEALED, all_faults(min(pauses, 1)), patience)
    show(result, without)
    proven = result.holds and (no_healer or result.healed) and (without is None or without.holds)
    sys.exit(0 if proven else 1)


def _progress(name: str, seconds: float) -> None:
    typer.echo(f"✓ {name} {seconds:.1f} s")


def _folder(data: Path | None) -> AbstractContextManager[str]:
    """The folder asked for, which must be empty, or one that goes away afterwards."""
    if data is None:
        return tempfile.TemporaryDirectory(prefix="betting-demo-")
    if data.exists() and any(data.iterdir()):
        typer.echo(f"betting: {data} is not empty: the demo wants a fresh folder.", err=True)
        sys.exit(1)
    return nullcontext(str(data))
