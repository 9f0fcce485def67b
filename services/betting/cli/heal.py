"""`betting heal`: what the healer saw, concluded, did and did not do, and why; and the switch that people hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betting.cli.options import Data
from betting.supervision.errors import LocalError

if TYPE_CHECKING:
    import asyncpg

    from betting_operator.healing.flight import Record

FRESH_FOR_S = 5.0
_DATA = Path(".betting")

app = typer.Typer(no_args_is_help=True, help="What the healer sees, concludes, does and does not do; pause, dry run.")


@app.command("log")
def show_log(data: Data = _DATA) -> None:
    """Tell what was seen, concluded, done, and not done and why, from the flight records that are kept."""
    from betting_operator.healer.reporting import Teller

    teller = Teller()
    for record in _records(data):
        for line in teller.lines(record):
            typer.echo(f"{_clock(record)}  {line}")


@app.command("plan")
def show_plan(data: Data = _DATA) -> None:
    """Tell what stands, what would be done now, and what would not and why."""
    from betting_operator.healer.reporting import mode
    from betting_operator.healing.actions import describe

    last = None
    for record in _records(data):
        last = record
    if last is None or time.time() - last.wall_us / 1e6 > FRESH_FOR_S:
        raise LocalError("The healer is not running on this folder: start it with `betting up`.")
    typer.echo(f"{_clock(last)}  {mode(last) or 'healing is on'}; {len(last.diagnoses)} diagnoses")
    for diagnosis in last.diagnoses:
        evidence = "; ".join(diagnosis.evidence)
        typer.echo(f"  {diagnosis.certainty}: {diagnosis.kind} {diagnosis.target} ({evidence})")
    for action in last.plan.actions:
        typer.echo(f"  now: {describe(action)}")
    for declined in last.plan.declined:
        typer.echo(f"  not now: {declined.kind} {declined.target}: {declined.reason}")


@app.command("replay")
def replay(file: Annotated[Path, typer.Argument(help="A flight record: DATA/flight/flight-….jsonl.")]) -> None:
    """Make every decision of a flight record again; exit code 1 where one comes out differently."""
    from betting_operator.healing import flight
    from betting_operator.healing.actions import describe

    differences = 0
    ticks = 0
    with _lines(file) as lines:
        try:
            for difference in flight.replay(lines):
                ticks += 1
                if difference is None:
                    continue
                differences += 1
                typer.echo(f"line {difference.line}: recorded {list(map(describe, difference.recorded.actions))}")
                typer.echo(f"  this release would {list(map(describe, difference.derived.actions))}")
        except flight.BadRecord as error:
            raise LocalError(f"{file} cannot be replayed: {error}") from None
    typer.echo(f"{ticks} ticks, {differences} decided differently")
    raise typer.Exit(1 if differences else 0)


@app.command("pause")
def pause(
    reason: Annotated[str, typer.Option(help="Why, for whoever finds healing paused.")], data: Data = _DATA
) -> None:
    """Do nothing dear (kill, move what works) until resumed; shards of proven dead owners are still served."""
    from betting.journal import healing_switch

    _switch(data, lambda database: healing_switch.pause(database, reason))
    typer.echo("healing is paused: betting heal resume")


@app.command("resume")
def resume(data: Data = _DATA) -> None:
    """End a pause."""
    from betting.journal import healing_switch

    _switch(data, healing_switch.resume)
    typer.echo("healing is on")


@app.command("dry-run")
def dry_run(
    state: Annotated[str, typer.Argument(help="on or off")] = "on",
    data: Data = _DATA,
) -> None:
    """Conclude and plan everything, do nothing at all; bet-services look after their shards themselves."""
    from betting.journal import healing_switch

    if state not in ("on", "off"):
        raise LocalError(f"A dry run is on or off, not {state}.")
    _switch(data, lambda database: healing_switch.set_dry_run(database, state == "on"))
    typer.echo(f"dry run is {state}")


def _switch(data: Path, change: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    from betting.embedded.database import dsn_of
    from betting.journal import connection

    async def changed() -> None:
        database = await connection.connect(dsn_of(data), "betting-heal")
        try:
            await change(database)
        finally:
            await database.close()

    try:
        asyncio.run(changed())
    except connection.DRIVER_ERRORS as error:
        raise LocalError(f"The database does not answer: {error}") from error
    except ValueError as error:
        raise LocalError(f"{error}: nothing was done.") from None


def _records(data: Path) -> Iterator[Record]:
    """Every tick that can be read; what cannot is named."""
    from betting.embedded.folder import DataFolder
    from betting_operator.healer import recorder

    folder = DataFolder.at(data).flight
    if not recorder.files(folder):
        raise LocalError(f"There is no flight record in {data}: the healer never ran there.")
    yield from recorder.records(folder, lambda sentence: typer.echo(sentence, err=True))


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[str]]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield lines
    except OSError as error:
        raise LocalError(f"{file} cannot be read: {error.strerror}.") from None


def _clock(record: Record) -> str:
    return datetime.fromtimestamp(record.wall_us / 1e6).strftime("%H:%M:%S.%f")[:-3]
