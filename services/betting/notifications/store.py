"""Notifications in Postgres, for this service. Pools are prepared for the journal (uuid columns are 16 bytes)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from betting.journal import notifications
from betting.journal.consumers import ClaimLost, Claims
from betting.journal.notifications import Row
from betting.notifications.causes import Notice
from betting.runtime.postgres import translated


class Store:
    """Everything read or changed is the user's own. All but `add` raise ServiceError."""

    def __init__(self, pool: asyncpg.Pool, claims: Claims) -> None:
        self._pool = pool
        self._claims = claims

    async def add(self, notices: Sequence[Notice], shard: int, upto: int) -> int:
        """Those that were never added; how many. They are the shard's after the reader's position, up to `upto`.

        Raises ClaimLost when another process reads the shard by now, and the driver's errors: the feed waits.
        """
        consumer, member = self._claims.consumer, self._claims.member
        added = await notifications.add(self._pool, notices, consumer, member, shard, upto)
        if added is None:
            raise ClaimLost(f"shard {shard}")
        return added

    async def page(self, user: bytes, before: int, limit: int, *, unread_only: bool) -> list[Row]:
        """At most `limit` of a user's, newest first, older than `before`."""
        async with translated():
            return await notifications.page(self._pool, user, before, limit, unread_only=unread_only)

    async def unread(self, user: bytes) -> int:
        """The number of unread notifications of the user."""
        async with translated():
            return await notifications.unread(self._pool, user)

    async def mark_read(self, user: bytes, ids: Collection[int], up_to: int) -> int:
        """Returns how many were marked."""
        async with translated():
            return await notifications.mark_read(self._pool, user, ids, up_to)

    async def delete(self, user: bytes, ids: Collection[int]) -> int:
        """Returns how many were deleted."""
        async with translated():
            return await notifications.delete(self._pool, user, ids)

    async def trim(self, accounts: Collection[bytes], keep: int) -> int:
        """Deletes all but the newest of these accounts; returns how many were deleted."""
        async with translated():
            return await notifications.trim(self._pool, accounts, keep)
