"""Runs the platform until Ctrl-C: progress lines while it starts, then a live screen or plain lines."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator

import typer

from betting.cli import status_view
from betting.embedded import ports_plan
from betting.embedded.overview import Observer
from betting.embedded.platform import Options, Platform, running
from betting.embedded.ports import HOST
from betting.embedded.topology import MONITOR, OPERATOR_EMAIL, PLAY_MONEY, Topology
from betting.supervision.errors import LocalError
from betting.supervision.supervisor import Supervisor

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFRESH_S = 1.0


def progress(name: str, seconds: float) -> None:
    """A line for what became ready."""
    typer.echo(f"✓ {name} {seconds:.1f} s")


def addresses(topology: Topology) -> Iterator[str]:
    """Where everything is that a person may want to open."""
    folder = topology.folder
    monitor = topology.ports[ports_plan.metrics_name(MONITOR)]
    yield f"  API        http://{topology.http_address()}"
    yield f"  metrics    http://{HOST}:{monitor}/metrics of the platform; each service has its own port"
    yield f"  operator   {OPERATOR_EMAIL}, password in {folder.operator_password_file}"
    yield f"  logs       {folder.log('*').parent}"
    yield f"  money      {PLAY_MONEY}"


async def run(options: Options, *, plain: bool) -> None:
    """Returns after the first ending signal, once everything has stopped."""
    began_s = time.monotonic()
    main_task = asyncio.current_task()
    assert main_task is not None
    stop = _on_signals(main_task)
    try:
        async with running(options, progress, typer.echo) as platform:
            stop.supervisor = platform.supervisor
            typer.echo(f"ready in {time.monotonic() - began_s:.1f} s")
            for line in addresses(platform.topology):
                typer.echo(line)
            await _show(platform, plain=plain)
    except asyncio.CancelledError:
        if not stop.asked:
            raise
        main_task.uncancel()
    typer.echo("stopped")


class _Stop:
    """What a signal does: the first asks to stop, the next kills everything at once."""

    def __init__(self, main_task: asyncio.Task[None]) -> None:
        self._main_task = main_task
        self.asked = False
        self.supervisor: Supervisor | None = None

    def __call__(self) -> None:
        if not self.asked:
            self.asked = True
            typer.echo("\nstopping … (Ctrl-C again to stop at once)")
            self._main_task.cancel()
        elif self.supervisor is not None:
            self.supervisor.kill_now()


def _on_signals(main_task: asyncio.Task[None]) -> _Stop:
    stop = _Stop(main_task)
    for number in ENDING_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stop


async def _show(platform: Platform, *, plain: bool) -> None:
    if plain or not sys.stdout.isatty():
        await asyncio.Event().wait()
    observer = Observer(platform.topology.folder)
    try:
        await status_view.live(observer, REFRESH_S)
    except LocalError as error:
        typer.echo(str(error))
    finally:
        await observer.close()
