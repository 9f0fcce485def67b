"""`betting unfreeze`: lets a frozen or quarantined shard be served again, once a person has looked."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from betting.cli.options import Dsn, RunningIn, connected, dsn_of
from betting.supervision.errors import PlatformError


def unfreeze(
    shard: Annotated[int, typer.Argument(min=0, help="The shard's number, as in `betting status`.")],
    dsn: Dsn = None,
    data: RunningIn = None,
) -> None:
    """Unfreeze a frozen or quarantined shard, after you have found and removed the cause."""
    reason = asyncio.run(_unfreeze(dsn_of(dsn, data), shard))
    typer.echo(f"shard {shard} may be taken again; it had stopped because: {reason}")


async def _unfreeze(dsn: str, shard: int) -> str:
    """Why it had stopped. Raises PlatformError when it is neither frozen nor quarantined, or cannot be asked."""
    from betting.journal import ownership

    async with connected(dsn, "betting-unfreeze") as database:
        found = {row.shard: row for row in (await ownership.observe(database)).shards}.get(shard)
        if found is None:
            raise PlatformError(f"There is no shard {shard}: see `betting status`.")
        if not await ownership.unfreeze(database, shard):
            raise PlatformError(f"Shard {shard} is {found.state}, neither frozen nor quarantined: nothing was done.")
        return found.reason
