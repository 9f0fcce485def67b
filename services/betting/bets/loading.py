"""Loads shards that were taken into memory; what does not load is frozen, or given to another version to try."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from betting.bets import second_opinion, takeover
from betting.bets.followers import Followers
from betting.bets.instance import Instance
from betting.bets.journal_link import DATABASE_PROBLEMS
from betting.bets.second_opinion import Loads
from betting.bets.shard import OwnedShard
from betting.engine.apply import CannotApply
from betting.journal import ownership as directory
from betting.journal import reader
from betting.runtime import logs

_log = logs.get(__name__)

# What a new version reads before it is ready, at most: so many shards, for so many seconds.
REHEARSED_SHARDS_MAX = 8
REHEARSAL_S = 3.0


class Taken(NamedTuple):
    """A shard that is this instance's in the directory: from this epoch on, with this last entry."""

    shard: int
    epoch: int
    head: int


class Loader:
    """Loads shards of this instance. confirmed: see `Ownership`."""

    def __init__(
        self,
        instance: Instance,
        pool: asyncpg.Pool,
        followers: Followers,
        orphaned_after_s: float,
        confirmed: dict[int, int],
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._followers = followers
        self._orphaned_after_s = orphaned_after_s
        self._confirmed = confirmed
        # Loaded last: its good end is still to be recorded, or the end of this process is blamed on it.
        self._replayed: Taken | None = None
        self.loads = Loads()

    async def load(self, taken: Sequence[Taken]) -> bool:
        """One after the other: should one of them end this process, it is known which.

        One that the database cannot read keeps no other waiting. What is left when the connection breaks is ours and
        not in memory: the next look takes it back. False: this version may be unable to load shards; the rest of them
        was not tried, and is for others.
        """
        if not taken and self._replayed is None:
            return True
        try:
            async with self._pool.acquire() as connection:
                ahead = await takeover.read_ahead(connection, {one.shard: one.head for one in taken})
                able = True
                for one in taken:
                    try:
                        able = await self._load_one(connection, one, ahead)
                    except DATABASE_PROBLEMS as problem:
                        if connection.is_closed():
                            raise
                        _log.warning("shard not loaded", shard=one.shard, problem=str(problem))
                    if not able or self.loads.exhausted:
                        able = False
                        break
                if self._replayed is not None:
                    await directory.replay_finished(
                        connection, self._replayed.shard, self._instance.name, self._replayed.epoch
                    )
                    self._replayed = None
                return able
        except DATABASE_PROBLEMS as problem:
            left = [one.shard for one in taken if one.shard not in self._instance.shards]
            _log.warning("shards not loaded", shards=left, problem=str(problem))
            return not self.loads.exhausted

    async def rehearse(self, connection: asyncpg.Connection, seen: directory.Observed) -> None:
        """Reads a few shards that another version serves, and takes none: this version must be able to load them.

        What it cannot apply it refuses, in the directory. Raises DATABASE_PROBLEMS, also when none could be read.
        """
        me = self._instance.name
        rows = second_opinion.to_rehearse(me, seen, self._orphaned_after_s)
        unread: Exception | None = None
        done: list[int] = []
        try:
            async with asyncio.timeout(REHEARSAL_S):
                for row in random.sample(rows, min(len(rows), REHEARSED_SHARDS_MAX)):
                    try:
                        await takeover.load(connection, row.shard, await reader.head(connection, row.shard))
                        done.append(row.shard)
                    except CannotApply as problem:
                        _log.critical("shard of another version not readable", shard=row.shard, problem=str(problem))
                        self.loads.failed.add(row.shard)
                        await directory.refuse(connection, me, row.shard)
                        return
                    except DATABASE_PROBLEMS as problem:
                        if connection.is_closed():
                            raise
                        _log.warning("shard not read", shard=row.shard, problem=str(problem))
                        unread = problem
        except TimeoutError:  # as far as it got, it could
            _log.info("shards of another version not all read in time", shards=done)
            return
        if not done and unread is not None:
            raise unread
        _log.info("shards of another version read", shards=done)

    async def _load_one(self, connection: asyncpg.Connection, taken: Taken, ahead: takeover.ReadAhead | None) -> bool:
        """Into memory, or the shard is frozen, released, or not ours any more. False as for `load`.

        Raises DATABASE_PROBLEMS.
        """
        shard, epoch, head = taken
        me, before = self._instance.name, None
        if self._replayed is not None and self._replayed.shard != shard:
            before = (self._replayed.shard, self._replayed.epoch)
        ours = await directory.replay_started(connection, shard, me, epoch, before)
        self._replayed = None
        if not ours:
            _log.warning("shard not loaded", shard=shard, problem=f"it is not ours at epoch {epoch} any more")
            return True
        if head < self._confirmed.get(shard, 0):  # no version could help
            await self._freeze(
                connection, taken, f"the journal ends at {head}, but {self._confirmed[shard]} was acknowledged"
            )
            return True
        try:
            loaded = await takeover.load(connection, shard, head, ahead)
        except CannotApply as problem:
            return await self._not_replayed(connection, taken, str(problem))
        owned = OwnedShard(loaded.state, epoch, loaded.snapshot_at)
        self._instance.shards[shard] = owned
        self._replayed = taken
        self.loads.succeeded(shard)
        self._followers.follow(owned)
        gc.freeze()
        _log.info("shard serving", **taken._asdict(), open_bets=len(loaded.state.open_bets))
        return True

    async def _not_replayed(self, connection: asyncpg.Connection, taken: Taken, why: str) -> bool:
        shard, me = taken.shard, self._instance.name
        self.loads.failed.add(shard)
        seen = await directory.observe(connection)
        other = second_opinion.whom_to_ask(me, shard, seen, self._orphaned_after_s)
        if other is None:
            self.loads.frozen[shard] = taken.epoch
            await self._freeze(connection, taken, why)
            if self.loads.exhausted:
                _log.critical(
                    "no more shards are taken until one is unfrozen: most could not be loaded",
                    frozen=sorted(self.loads.frozen),
                )
            return not self.loads.exhausted
        _log.critical("shard not loaded: another version is asked to", shard=shard, to=other, problem=why)
        await directory.refuse(connection, me, shard)  # first: nobody gives this one any more
        try:
            await directory.release_group(connection, me, [directory.Release(shard, taken.epoch, other)])
        except DATABASE_PROBLEMS as problem:  # it is handed over with the others that were not loaded
            _log.warning("shard not released", shard=shard, problem=str(problem))
        return False

    async def _freeze(self, connection: asyncpg.Connection, taken: Taken, why: str) -> None:
        _log.critical("shard frozen", shard=taken.shard, problem=why)
        await directory.freeze(connection, taken.shard, self._instance.name, taken.epoch, why)
        self._confirmed.pop(taken.shard, None)
