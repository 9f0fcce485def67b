"""`betting thaw`: lets a frozen or quarantined shard be served again, once a person has looked."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from betting.cli.options import Dsn, RunningIn, connected, dsn_of
from betting.supervision.errors import LocalError


def thaw(
    shard: Annotated[int, typer.Argument(min=0, help="The shard's number, as in `betting status`.")],
    dsn: Dsn = None,
    data: RunningIn = None,
) -> None:
    """Let a frozen or quarantined shard be served again: after you know why it stopped and have put that right."""
    reason = asyncio.run(_thaw(dsn_of(dsn, data), shard))
    typer.echo(f"shard {shard} may be taken again; it had stopped because: {reason}")


async def _thaw(dsn: str, shard: int) -> str:
    """Why it had stopped. Raises LocalError when it is neither frozen nor quarantined, or cannot be asked."""
    from betting.journal import ownership

    async with connected(dsn, "betting-thaw") as database:
        found = {row.shard: row for row in (await ownership.observe(database)).shards}.get(shard)
        if found is None:
            raise LocalError(f"There is no shard {shard}: see `betting status`.")
        if not await ownership.thaw(database, shard):
            raise LocalError(f"Shard {shard} is {found.state}, neither frozen nor quarantined: nothing was done.")
        return found.reason
