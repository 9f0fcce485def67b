"""`betting audit`: checks every promise about money, and what read models and clients say, against the journal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from betting.audit import CannotAudit, Report, audit, rendering
from betting.audit.report import OnProgress
from betting.audit.report import Progress as Step
from betting.cli.options import Dsn, RunningIn, dsn_of
from betting.journal import migrate
from betting.supervision.errors import PlatformError

HOLDS, FAILED, COULD_NOT_RUN = 0, 1, 2


def command(
    dsn: Dsn = None,
    data: RunningIn = None,
    acks: Annotated[
        Path | None,
        typer.Option(help="A file of the acknowledgements that clients received, one JSON object per line."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check every promise about money, in one snapshot of a live database.

    Exit code 0: everything holds. 1: a check failed. 2: the audit could not run.
    """
    try:
        found = dsn_of(dsn, data)
        _require_known(found)
        report = run(found, acks)
    except (CannotAudit, PlatformError) as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"betting audit: {error}")
        raise typer.Exit(COULD_NOT_RUN) from None
    if as_json:
        sys.stdout.write(rendering.as_json(report) + "\n")
    else:
        rendering.show(report, Console())
    raise typer.Exit(HOLDS if report.holds else FAILED)


def _require_known(dsn: str) -> None:
    """Raises CannotAudit for a schema that this release does not know. What cannot be asked, the audit itself says."""
    with suppress(psycopg.Error, UnicodeDecodeError):
        found = migrate.check(dsn)
        problem = found.refusal or (f"the database waits for {found.waits_for}" if found.pending else "")
        if problem:
            raise CannotAudit(problem)


def run(dsn: str, acks: Path | None) -> Report:
    """The audit with its progress shown on a terminal's standard error."""
    with _shown_progress() as on_progress:
        return asyncio.run(audit(dsn, acks, on_progress))


@contextmanager
def _shown_progress() -> Iterator[OnProgress]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None)

        def show(step: Step) -> None:
            progress.update(task, description=step.doing, completed=step.done, total=step.total)

        yield show
