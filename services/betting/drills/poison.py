"""A poison entry in one shard's journal, and what puts it right: an account opened in a format that nobody reads yet.

It is what a newer release would leave behind in a mixed deployment. The owner's next append meets it and the shard
freezes; whoever loads the shard finds that it cannot be applied. The audit names the entry (journal.kinds). It moves no
money, and once it is readable it is as true as any other: nothing has to be taken back.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from betting.engine.entries import FORMAT, Kind
from betting.engine.ids import account_id
from betting.engine.records import ACCOUNT_BODY
from betting.journal import connection, fault_injection, install, ownership
from betting.placement import shard_of
from betting.supervision.errors import PlatformError

UNREADABLE_FORMAT = 99
ATTEMPTS = 20
CURRENCY = b"GBP"


async def poison(dsn: str, shard: int) -> None:
    """Appends the entry without the owner. Raises PlatformError when it cannot."""
    async with _connected(dsn) as database:
        count = await install.shard_count(database) or 0
        if not 0 <= shard < count:
            raise PlatformError(f"There is no shard {shard}: there are 0 to {count - 1}.")
        user = os.urandom(16)
        while shard_of(user, count) != shard:
            user = os.urandom(16)
        values = (account_id(user, CURRENCY), ACCOUNT_BODY.pack(user, CURRENCY))
        for _attempt in range(ATTEMPTS):
            try:
                await fault_injection.append(database, shard, Kind.ACCOUNT_OPENED, UNREADABLE_FORMAT, *values)
            except asyncpg.UniqueViolationError:
                continue  # the owner was faster: behind its last entry, then
            return
        raise PlatformError(f"Shard {shard} is too busy to be poisoned: try again.")


async def cure(dsn: str, shard: int) -> None:
    """Makes it readable, as an upgrade would, and unfreezes the shard. Raises PlatformError without the database.

    Only a superuser of the database can: the journal is append-only for everybody else.
    """
    async with _connected(dsn) as database:
        await fault_injection.change_format(database, shard, UNREADABLE_FORMAT, FORMAT)
        await ownership.unfreeze(database, shard)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        database = await connection.connect(dsn, "betting-poison")
    except connection.DRIVER_ERRORS as error:
        raise PlatformError(f"The database does not answer: {error}") from error
    try:
        yield database
    finally:
        await database.close()
