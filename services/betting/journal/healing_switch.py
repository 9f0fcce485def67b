"""What people tell the healer: pause, with a reason, and dry run."""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

REASON_LENGTH_MAX = 200

_PAUSED = "UPDATE betting.healing_switch SET paused = $1, changed_at = clock_timestamp()"
_DRY_RUN = "UPDATE betting.healing_switch SET dry_run = $1, changed_at = clock_timestamp()"


class Switch(NamedTuple):
    """paused: why nothing dear is done, "" when it is; dry_run: nothing at all is done."""

    paused: str
    dry_run: bool


async def read(connection: asyncpg.Connection) -> Switch:
    """How it stands."""
    row = await connection.fetchrow("SELECT paused, dry_run FROM betting.healing_switch")
    return Switch("", False) if row is None else Switch(*row)


async def pause(connection: asyncpg.Connection, reason: str) -> None:
    """Pauses healing. Raises ValueError for a reason that is empty or too long."""
    if not 0 < len(reason.strip()) <= REASON_LENGTH_MAX:
        raise ValueError(f"a pause needs a reason of 1 to {REASON_LENGTH_MAX} characters")
    await connection.execute(_PAUSED, reason.strip())


async def resume(connection: asyncpg.Connection) -> None:
    """Ends a pause."""
    await connection.execute(_PAUSED, "")


async def set_dry_run(connection: asyncpg.Connection, dry_run: bool) -> None:
    """Turns the dry run on or off."""
    await connection.execute(_DRY_RUN, dry_run)
