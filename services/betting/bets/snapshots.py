"""Writes snapshots: captured between two commands, written in slices once everything in them is durable."""

from __future__ import annotations

import asyncio

import asyncpg

from betting.bets.committer import Committer
from betting.bets.shard import OwnedShard, ShardFrozen, ShardLost
from betting.engine import snapshots
from betting.journal import snapshots as snapshot_store
from betting.journal.connection import DRIVER_ERRORS
from betting.runtime import logs

_log = logs.get(__name__)

TAIL_ENTRIES_MAX = 100_000


class Snapshotter:
    """One snapshot at a time; a shard is due when its tail has grown long enough."""

    def __init__(self, pool: asyncpg.Pool, committer: Committer, instance: str, every_entries: int) -> None:
        self._pool = pool
        self._committer = committer
        self._instance = instance
        self._every = every_entries
        self._due: dict[int, OwnedShard] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    def consider(self, owned: OwnedShard) -> None:
        """Called after each commit."""
        if owned.shard not in self._due and owned.confirmed - owned.snapshot_at >= self._tail_max(owned):
            self._due[owned.shard] = owned
            self._wake.set()

    def _tail_max(self, owned: OwnedShard) -> int:
        """Replaying the tail decides how long bettors wait for the next owner. A shard with many open bets costs more
        to write down, so its tail may be longer: at most about two bets are written for every entry."""
        return min(TAIL_ENTRIES_MAX, max(self._every, len(owned.state.open_bets) // 2))

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                shard = next(iter(self._due))
                await self._try(self._due[shard])
                del self._due[shard]

    async def _try(self, owned: OwnedShard) -> None:
        try:
            await self.write(owned)
        except (*DRIVER_ERRORS, ShardLost, ShardFrozen) as problem:
            _log.warning("snapshot not written", shard=owned.shard, problem=str(problem))

    async def write(self, owned: OwnedShard) -> bool:
        """Writes a snapshot of what is applied now, once it is durable. False when the shard was lost meanwhile."""
        async with self._writing:
            if not owned.held:
                return False  # a state marked broken may be half changed: it must never be what others start from
            taken = snapshots.capture(owned.state)
            if taken.head == owned.snapshot_at:
                return True
            chunks = []
            for chunk in snapshots.encode(taken):
                chunks.append(chunk)
                await asyncio.sleep(0)
            if owned.confirmed < taken.head:
                await self._committer.durable(owned)
            written = await snapshot_store.write(
                self._pool, owned.shard, self._instance, owned.epoch, taken.head, snapshots.SNAPSHOT_FORMAT, chunks
            )
            if written:
                owned.snapshot_at = taken.head
            _log.info(
                "snapshot taken", shard=owned.shard, sequence=taken.head, bytes=sum(map(len, chunks)), written=written
            )
            return written
