"""`betting unfreeze`: lets frozen or quarantined shards be served again, once a person has looked."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from betting.cli.options import Dsn, RunningIn, connected, dsn_of
from betting.supervision.errors import PlatformError

_STOPPED = ("frozen", "quarantined")


def unfreeze(
    shards: Annotated[
        list[int] | None, typer.Argument(min=0, metavar="[SHARD]...", help="Shard numbers, as in `betting status`.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All shards that are frozen or quarantined.")] = False,
    dsn: Dsn = None,
    data: RunningIn = None,
) -> None:
    """Unfreeze frozen or quarantined shards, after you have found and removed the cause."""
    if every == bool(shards):
        raise PlatformError("Name the shards to unfreeze, or give --all.")
    for shard, reason in asyncio.run(_unfreeze(dsn_of(dsn, data), shards)).items():
        typer.echo(f"shard {shard} may be taken again; it had stopped because: {reason}")


async def _unfreeze(dsn: str, named: list[int] | None) -> dict[int, str]:
    """Why each had stopped; `named`: None for all that are.

    Raises PlatformError, having changed nothing, when one of them is not stopped, or when the database cannot be asked.
    """
    from betting.journal import ownership

    async with connected(dsn, "betting-unfreeze") as database:
        rows = {row.shard: row for row in await ownership.shards(database)}
        chosen = [row.shard for row in rows.values() if row.state in _STOPPED] if named is None else sorted(set(named))
        if not chosen:
            raise PlatformError("No shard is frozen or quarantined: nothing was done.")
        for shard in chosen:
            if shard not in rows:
                raise PlatformError(f"There is no shard {shard}: see `betting status`. Nothing was done.")
            if (state := rows[shard].state) not in _STOPPED:
                raise PlatformError(f"Shard {shard} is {state}, neither frozen nor quarantined: nothing was done.")
        # One that somebody else unfreezes at this moment is unfrozen all the same.
        for shard in chosen:
            await ownership.unfreeze(database, shard)
        return {shard: rows[shard].reason for shard in chosen}
