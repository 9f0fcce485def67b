"""`betting status`: how a running platform is doing, here or elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from betting.cli.options import DEFAULT_DATA, Plain
from betting.embedded.folder import DataFolder
from betting.supervision.errors import PlatformError

SECRET_VARIABLE = "BETTING_INTERNAL_SECRET"  # noqa: S105


def status(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help=f"Folder of a running `betting up`; default: {DEFAULT_DATA}."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The health monitor's gRPC address, for a platform that runs elsewhere; "
            f"${SECRET_VARIABLE} is its secret.",
        ),
    ] = None,
    plain: Plain = False,
) -> None:
    """Show services, shards, bets and addresses: live in a terminal until Ctrl-C, once as plain lines elsewhere."""
    if address is not None and data is not None:
        raise PlatformError("Give --address or --data, not both: each names a platform.")
    plain = plain or not sys.stdout.isatty()
    try:
        if address is not None:
            asyncio.run(_remote(address, _secret(), plain=plain))
        else:
            asyncio.run(_local(DataFolder.at(data or DEFAULT_DATA), plain=plain))
    except KeyboardInterrupt:
        sys.exit(0)


async def _local(folder: DataFolder, *, plain: bool) -> None:
    from betting.cli import status_lines, status_view
    from betting.embedded.overview import Observer

    observer = Observer(folder)
    try:
        await status_view.show(observer, lambda ports: status_lines.addresses(folder, ports), plain=plain)
    finally:
        await observer.close()


async def _remote(address: str, secret: bytes, *, plain: bool) -> None:
    from betting.cli import status_view
    from betting.embedded.overview import RemoteObserver

    observer = RemoteObserver(address, secret)
    try:
        await status_view.show(observer, lambda _ports: [f"health     {address}"], plain=plain)
    finally:
        await observer.close()


def _secret() -> bytes:
    try:
        found = bytes.fromhex(os.environ.get(SECRET_VARIABLE, ""))
    except ValueError:
        found = b""
    if not found:
        raise PlatformError(f"{SECRET_VARIABLE} has to be set to the platform's secret, in hexadecimal digits.")
    return found
