"""`betting status`: how a running platform is doing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from betting.cli.options import Data, Plain
from betting.embedded.folder import DataFolder


def status(data: Data = Path(".betting"), plain: Plain = False) -> None:
    """Show services, shards and bets: live in a terminal until Ctrl-C, once as plain lines elsewhere."""
    try:
        asyncio.run(_status(DataFolder.at(data), plain=plain or not sys.stdout.isatty()))
    except KeyboardInterrupt:
        sys.exit(0)


async def _status(folder: DataFolder, *, plain: bool) -> None:
    from betting.cli import status_view
    from betting.embedded.overview import Observer

    observer = Observer(folder)
    try:
        await (status_view.once(observer) if plain else status_view.live(observer))
    finally:
        await observer.close()
