"""Shows an overview: a live screen in a terminal, plain lines in pipes and logs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import typer
from rich.console import Console, Group
from rich.live import Live

from betting.cli import status_lines
from betting.cli.screen import screen
from betting.embedded.overview import Overview
from betting.supervision.errors import PlatformError

REFRESH_S = 1.0
NOTES_KEPT = 200


# Where everything is, by the ports of the embedded platform.
Addresses = Callable[[Mapping[str, int]], Sequence[str]]


class Watched(Protocol):
    """Something that can be looked at repeatedly."""

    async def look(self) -> Overview:
        """One overview of the platform. Raises PlatformError when it does not answer."""


class Notes:
    """Notes for people: printed at once, or kept for later while the live screen uses the terminal."""

    def __init__(self) -> None:
        self.kept: deque[str] = deque(maxlen=NOTES_KEPT)
        self._live = False

    def __call__(self, line: str) -> None:
        if self._live:
            self.kept.append(line)
        else:
            typer.echo(line)

    def __enter__(self) -> Notes:
        self._live = True
        return self

    def __exit__(self, *_: object) -> None:
        self._live = False
        while self.kept:
            typer.echo(self.kept.popleft())


async def show(observer: Watched, addresses: Addresses, *, plain: bool) -> None:
    """Live until cancelled, or once. Raises PlatformError when the platform is not running, or was never started."""
    await (once(observer, addresses) if plain else live(observer, addresses, Notes()))


async def live(observer: Watched, addresses: Addresses, notes: Notes, refresh_s: float = REFRESH_S) -> None:
    """Redraws until cancelled, on a screen of its own: what stood in the terminal before comes back afterwards.

    Raises PlatformError when there is nothing (any more) to be shown.
    """
    console = Console()
    before: Overview | None = None
    with notes, Live(console=console, auto_refresh=False, screen=True) as shown:
        while True:
            now = await observer.look()
            where = addresses(now.supervisor.ports)
            width, height = console.size
            lines = screen(now, before, where, notes.kept, width=width, height=height, now_s=time.time())
            shown.update(Group(*lines), refresh=True)
            before = now
            await asyncio.sleep(refresh_s)


async def once(observer: Watched, addresses: Addresses) -> None:
    """Prints plain lines. Raises PlatformError when the platform is not running, after saying what was last known."""
    before = await observer.look()
    if before.platform is not None:  # two looks make a rate
        await asyncio.sleep(REFRESH_S)
    now = await observer.look()
    where = addresses(now.supervisor.ports) if now.running else ()
    for line in status_lines.lines(now, before, where):
        typer.echo(line)
    if now.platform is None and not now.supervisor.processes:
        raise PlatformError(f"Nothing is known of the platform: {now.problem}.")
    if not now.running:
        raise PlatformError("The platform is not running on this folder: start it with `betting up`.")
