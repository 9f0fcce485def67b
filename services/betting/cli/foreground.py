"""Runs the platform until Ctrl-C: progress lines while it starts, then a live screen or plain lines."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import typer

from betting.cli import status_lines, status_view
from betting.embedded.overview import Observer
from betting.embedded.platform import Options, Platform, running
from betting.supervision.errors import PlatformError
from betting.supervision.supervisor import Supervisor

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def progress(name: str, seconds: float) -> None:
    """Prints one line when a process has become ready, with the seconds since the start."""
    typer.echo(f"✓ {name} {seconds:.1f} s")


async def run(options: Options, *, plain: bool) -> None:
    """Returns after the first ending signal, once everything has stopped."""
    began_s = time.monotonic()
    main_task = asyncio.current_task()
    assert main_task is not None
    notes = status_view.Notes()
    stop = _on_signals(main_task, notes)
    try:
        async with running(options, progress, notes) as platform:
            stop.supervisor = platform.supervisor
            typer.echo(f"ready in {time.monotonic() - began_s:.1f} s")
            for line in status_lines.addresses(options.folder, platform.topology.ports):
                typer.echo(f"  {line}")
            await _show(platform, notes, plain=plain)
    except asyncio.CancelledError:
        if not stop.asked:
            raise
        main_task.uncancel()
    typer.echo("stopped")


class _Stop:
    """What a signal does: the first asks to stop, the next kills everything at once."""

    def __init__(self, main_task: asyncio.Task[None], notes: status_view.Notes) -> None:
        self._main_task = main_task
        self._notes = notes
        self.asked = False
        self.supervisor: Supervisor | None = None

    def __call__(self) -> None:
        if not self.asked:
            self.asked = True
            self._notes("\nstopping … (Ctrl-C again to stop at once)")
            self._main_task.cancel()
        elif self.supervisor is not None:
            self.supervisor.kill_now()


def _on_signals(main_task: asyncio.Task[None], notes: status_view.Notes) -> _Stop:
    stop = _Stop(main_task, notes)
    for number in ENDING_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stop


async def _show(platform: Platform, notes: status_view.Notes, *, plain: bool) -> None:
    """Runs until cancelled. A screen that cannot be drawn does not stop the platform."""
    folder = platform.topology.folder
    if not plain and sys.stdout.isatty():
        observer = Observer(folder)
        try:
            await status_view.live(observer, lambda ports: status_lines.addresses(folder, ports), notes)
        except PlatformError as error:
            typer.echo(f"the platform runs on, without its screen: {error}")
        finally:
            await observer.close()
    await asyncio.Event().wait()
