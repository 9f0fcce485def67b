"""What follows the journal: read models (projector) and Redis streams (outbox). Both lag; neither can stop a bet."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import asyncpg

from betting.bets.shard import OwnedShard
from betting.engine.entries import Entry
from betting.journal import projector
from betting.journal.connection import DRIVER_ERRORS
from betting.runtime import logs
from betting.runtime.loops import FailureLog, woken_within
from betting.streams.outbox import Outbox

_log = logs.get(__name__)

# Entries gather a little, because one set-based statement for many costs little more than for one.
GATHER_S = 0.5
RETRY_S = 0.5


class Lag(NamedTuple):
    """Entries durable but not yet taken in."""

    projector_entries: int
    outbox_entries: int


class Followers:
    """One projector task and one outbox for all shards of the process."""

    def __init__(self, pool: asyncpg.Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox
        self._owned: dict[int, OwnedShard] = {}
        self._projected: dict[int, int] = {}
        self._behind: dict[int, None] = {}
        self._busy: set[int] = set()
        self._wake = asyncio.Event()

    def follow(self, owned: OwnedShard) -> None:
        """A shard is served here from now on; the read models may be behind from its last owner."""
        self._owned[owned.shard] = owned
        self._projected[owned.shard] = 0
        self._behind[owned.shard] = None
        self._wake.set()
        self._outbox.follow(owned.shard, owned.confirmed)

    def forget(self, shard: int) -> None:
        self._owned.pop(shard, None)
        self._projected.pop(shard, None)
        self._behind.pop(shard, None)
        self._outbox.forget(shard)

    def committed(self, owned: OwnedShard, entries: list[Entry]) -> None:
        """Called after every append that wrote something."""
        self._behind[owned.shard] = None
        self._wake.set()
        self._outbox.committed(owned.shard, entries)

    def lag(self, owned: OwnedShard) -> Lag:
        behind = owned.confirmed - self._projected.get(owned.shard, 0)
        return Lag(behind, self._outbox.lag(owned.shard))

    async def run_projector(self) -> None:
        behind = FailureLog(_log, "projector behind")
        while True:
            await self._woken()
            while self._behind:
                shard = next(iter(self._behind))
                del self._behind[shard]
                try:
                    await self._project(shard)
                except DRIVER_ERRORS as problem:
                    behind.failed(problem, shard=shard)
                    self._behind[shard] = None
                    await asyncio.sleep(RETRY_S)
            behind.worked()
            await asyncio.sleep(GATHER_S)

    async def _woken(self) -> None:
        """Something was committed, or it is time to try those again that another projector was at."""
        await woken_within(self._wake, RETRY_S if self._busy else None)
        self._wake.clear()
        self._behind |= dict.fromkeys(self._busy)
        self._busy.clear()

    async def _project(self, shard: int) -> None:
        owned = self._owned.get(shard)
        if owned is None:
            return
        async with self._pool.acquire() as connection:
            done = await projector.project(connection, shard)
        if done is None:
            self._busy.add(shard)  # its last owner's projector is still at it, and may leave something to do
            return
        if self._owned.get(shard) is not owned:
            return  # the shard went away meanwhile
        self._projected[shard] = done.to_sequence
        if done.to_sequence < owned.confirmed:
            self._behind[shard] = None
