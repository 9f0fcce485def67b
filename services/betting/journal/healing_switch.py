"""The switches of operators for the healer: pause, with a reason, and dry run."""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

REASON_LENGTH_MAX = 200

# A pause that goes on under another reason, or is asked for twice, is still the same one.
_PAUSED = """
UPDATE betting.healing_switch SET paused = $1, changed_at = clock_timestamp(), paused_at = CASE
    WHEN $1 = '' THEN NULL WHEN paused = '' THEN clock_timestamp() ELSE paused_at END
"""
_DRY_RUN = """
UPDATE betting.healing_switch SET dry_run = $1, changed_at = clock_timestamp(), dry_run_at = CASE
    WHEN NOT $1 THEN NULL WHEN NOT dry_run THEN clock_timestamp() ELSE dry_run_at END
"""
_READ = """
SELECT paused, dry_run, coalesce(extract(epoch FROM paused_at) * 1000000, 0)::bigint,
    coalesce(extract(epoch FROM dry_run_at) * 1000000, 0)::bigint
FROM betting.healing_switch
"""
PAUSED = "paused"
DRY_RUN = "dry-run"


class Mode(NamedTuple):
    """A mode of the healer other than normal operation. since_us: microseconds since 1970; 0: unknown."""

    name: str
    reason: str
    since_us: int


class Switch(NamedTuple):
    """paused: the reason of a pause; "": not paused. dry_run: whether no action is taken.

    Each with its start; 0: off.
    """

    paused: str
    dry_run: bool
    paused_since_us: int = 0
    dry_run_since_us: int = 0

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are on."""
        paused = (Mode(PAUSED, self.paused, self.paused_since_us),) if self.paused else ()
        dry_run = (Mode(DRY_RUN, "nothing is done", self.dry_run_since_us),) if self.dry_run else ()
        return (*paused, *dry_run)


async def read(connection: asyncpg.Connection) -> Switch:
    """The current switches."""
    row = await connection.fetchrow(_READ)
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
