"""`betting heal`: the log of diagnoses, actions and declined actions with reasons, and the switches for operators."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from betting.cli.options import DEFAULT_DATA, Dsn, RunningIn, connected, dsn_of, is_database
from betting.supervision.errors import PlatformError

if TYPE_CHECKING:
    import asyncpg

    from betting.journal.flight_records import FlightRecord
    from betting.journal.healing_switch import Switch
    from betting_operator.healing.flight import Record

FRESH_FOR_S = 5.0

app = typer.Typer(
    no_args_is_help=True, help="Diagnoses, actions and declined actions of the healer; pause and dry run."
)


@app.command("log")
def show_log(dsn: Dsn = None, data: RunningIn = None) -> None:
    """Show past diagnoses, actions and declined actions, with reasons: from the flight records in --data, or --dsn."""
    if is_database(dsn, data):
        for kept in asyncio.run(_kept(dsn_of(dsn, data))).records:
            for line in kept.lines:
                typer.echo(f"{_clock(kept.recorded_at.timestamp())}  {line}")
        return
    from betting_operator.healer.reporting import Reporter

    reporter = Reporter()
    for record in _records(data or DEFAULT_DATA):
        for line in reporter.lines(record):
            typer.echo(f"{_clock(record.wall_us / 1e6)}  {line}")


@app.command("plan")
def show_plan(dsn: Dsn = None, data: RunningIn = None) -> None:
    """Show current diagnoses, the actions planned now, and those declined, with reasons."""
    if is_database(dsn, data):
        _show_kept_plan(asyncio.run(_kept(dsn_of(dsn, data), newest=1)))
        return
    last = None
    for record in _records(data or DEFAULT_DATA):
        last = record
    if last is None or time.time() - last.wall_us / 1e6 > FRESH_FOR_S:
        raise PlatformError("The healer is not running on this folder: start it with `betting up`.")
    mode = _mode(last.policy.paused, dry_run=last.policy.dry_run)
    typer.echo(f"{_clock(last.wall_us / 1e6)}  {mode}; {len(last.diagnoses)} diagnoses")
    _show_decisions(last)


def _show_kept_plan(kept: _Kept) -> None:
    """Shows the last recorded tick, which is current until the next one; the heartbeat shows whether the healer is
    alive.
    """
    from betting_operator.healing import flight
    from betting_operator.healing.codec import Unreadable, from_json

    typer.echo(_mode(kept.switch.paused, dry_run=kept.switch.dry_run))
    if kept.beat_age_s is None or kept.beat_age_s > FRESH_FOR_S:
        age = "never" if kept.beat_age_s is None else f"{kept.beat_age_s:.0f} s ago"
        typer.echo(f"the healer sends no heartbeat (last: {age}); in a dry run it sends none")
    if not kept.records:
        typer.echo("it has reported nothing yet")
        return
    [last] = kept.records
    typer.echo(f"{_clock(last.recorded_at.timestamp())}  the latest change:")
    if last.record is None or last.format != flight.VERSION:
        for line in last.lines:
            typer.echo(f"  {line}")
        return
    try:
        _show_decisions(from_json(flight.Record, json.loads(last.record)))
    except (Unreadable, ValueError) as error:
        raise PlatformError(f"The healer's record in the database cannot be read: {error}.") from None


def _show_decisions(record: Record) -> None:
    from betting_operator.healing.actions import describe

    for diagnosis in record.diagnoses:
        evidence = "; ".join(diagnosis.evidence)
        typer.echo(f"  {diagnosis.certainty}: {diagnosis.kind} {diagnosis.target} ({evidence})")
    for action in record.plan.actions:
        typer.echo(f"  now: {describe(action)}")
    for declined in record.plan.declined:
        typer.echo(f"  not now: {declined.kind} {declined.target}: {declined.reason}")


def _mode(paused: str, *, dry_run: bool) -> str:
    """The current mode of healing, as text."""
    stopped = f"healing is paused: {paused}" if paused else ""
    return "; ".join(filter(None, (stopped, "dry run: nothing is done" if dry_run else ""))) or "healing is on"


@app.command("replay")
def replay(
    file: Annotated[Path, typer.Argument(help="A flight record: DATA/flight/flight-….jsonl, or .jsonl.gz.")],
) -> None:
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
            raise PlatformError(f"{file} cannot be replayed: {error}") from None
    typer.echo(f"{ticks} ticks, {differences} decided differently")
    raise typer.Exit(1 if differences else 0)


@app.command("pause")
def pause(
    reason: Annotated[str, typer.Option(help="The reason, shown wherever the pause is shown.")],
    dsn: Dsn = None,
    data: RunningIn = None,
) -> None:
    """Take no disruptive action (kill, drain, move) until resumed; shards of owners proven dead are still served."""
    from betting.journal import healing_switch

    switch = _switch(dsn, data, lambda database: healing_switch.pause(database, reason))
    typer.echo(
        "; ".join(("healing is paused (to end it: betting heal resume)", *_in_force(switch, healing_switch.DRY_RUN)))
    )


@app.command("resume")
def resume(dsn: Dsn = None, data: RunningIn = None) -> None:
    """Resume healing after `betting heal pause`."""
    from betting.journal import healing_switch

    others = _in_force(_switch(dsn, data, healing_switch.resume), healing_switch.DRY_RUN)
    typer.echo("; ".join(("healing is no longer paused", *others)) if others else "healing is on")


@app.command("dry-run")
def dry_run(
    state: Annotated[str, typer.Argument(help="on or off")] = "on",
    dsn: Dsn = None,
    data: RunningIn = None,
) -> None:
    """Diagnose and plan, but take no action; bet-services take over shards of dead owners themselves."""
    from betting.journal import healing_switch

    if state not in ("on", "off"):
        raise PlatformError(f"A dry run is on or off, not {state}.")
    switch = _switch(dsn, data, lambda database: healing_switch.set_dry_run(database, state == "on"))
    result = "dry run is on (to end it: betting heal dry-run off)" if state == "on" else "dry run is off"
    typer.echo("; ".join((result, *_in_force(switch, healing_switch.PAUSED))))


def _switch(dsn: str | None, data: Path | None, change: Callable[[asyncpg.Connection], Awaitable[None]]) -> Switch:
    """Changes a switch; returns all of them as they are then."""
    from betting.journal import healing_switch

    async def changed() -> Switch:
        async with connected(dsn_of(dsn, data), "betting-heal") as database:
            await change(database)
            return await healing_switch.read(database)

    return asyncio.run(changed())


def _in_force(switch: Switch, name: str) -> list[str]:
    """The sentence for a mode (of healing_switch) that is on, with how to end it; nothing if it is off."""
    on = next((mode for mode in switch.modes if mode.name == name), None)
    if on is None:
        return []
    if name == "paused":
        return [f"healing is still paused: {on.reason} (to end it: betting heal resume)"]
    return ["the dry run is still on, and nothing is done (to end it: betting heal dry-run off)"]


class _Kept(NamedTuple):
    """The healer's data in Postgres. beat_age_s: the age of its last heartbeat; None: there was none."""

    switch: Switch
    beat_age_s: float | None
    records: list[FlightRecord]


async def _kept(dsn: str, newest: int | None = None) -> _Kept:
    """Raises PlatformError."""
    from betting.journal import directory, flight_records, healing_switch

    async with connected(dsn, "betting-heal") as database:
        return _Kept(
            await healing_switch.read(database),
            (await directory.observe(database)).healer_beat_age_s,
            await flight_records.newest(database, newest or flight_records.ROWS_KEPT),
        )


def _records(data: Path) -> Iterator[Record]:
    """Every readable tick; unreadable ones are named."""
    from betting.embedded.folder import DataFolder
    from betting_operator import flight_files

    folder = DataFolder.at(data).flight
    if not flight_files.files(folder):
        raise PlatformError(f"There is no flight record in {data}: the healer never ran there.")
    yield from flight_files.records(folder, lambda sentence: typer.echo(sentence, err=True))


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[str]]:
    from betting_operator import flight_files

    try:
        with flight_files.opened(file) as lines:
            yield lines
    except flight_files.UNREADABLE as error:
        raise PlatformError(f"{file} cannot be read: {flight_files.why_unreadable(error)}.") from None


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).strftime("%H:%M:%S.%f")[:-3]
