"""What follows the journal: read models (projector) and Redis streams (outbox). Both lag; neither can stop a bet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
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
# Of the shards whose entries cannot be projected one is tried this often.
STUCK_RETRY_S = 2.0


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
        self._gathers = True  # False: entries were left over in this round
        self._busy: set[int] = set()
        self._stuck: dict[int, None] = {}  # shards whose entries cannot be projected, next to be tried first
        self._stuck_tried_s = float("-inf")
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
        self._stuck.pop(shard, None)
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
        """Takes the shards that are behind, for the life of the process.

        In rounds: all that are behind when a round begins, in groups. What is committed meanwhile is for the next one,
        so a round ends under any load. Between two rounds entries gather, unless some were left over.
        """
        failures = FailureLog(_log, "projector behind")
        while True:
            await self._woken()
            due, self._behind, self._gathers = list(self._behind), {}, True
            failed = False
            for start in range(0, len(due), projector.GROUP_SHARDS_MAX):
                group = due[start : start + projector.GROUP_SHARDS_MAX]
                try:
                    await self._project_all(group)
                except DRIVER_ERRORS as problem:
                    failed = True
                    failures.failed(problem, shards=len(group))
                    self._take_again(group)
                    await asyncio.sleep(RETRY_S)
            if not failed:
                failures.worked()
            if self._gathers:
                await asyncio.sleep(GATHER_S)

    def _take_again(self, shards: Iterable[int]) -> None:
        """In the next round, which begins at once: there are entries to take, also if nothing is committed."""
        self._behind |= dict.fromkeys(shards)
        self._gathers = False
        self._wake.set()

    async def _woken(self) -> None:
        """Something is behind, or it is time to try again what another projector was at, or what is stuck."""
        await woken_within(self._wake, RETRY_S if self._busy or self._stuck else None)
        self._wake.clear()
        self._behind |= dict.fromkeys(self._busy)
        self._busy.clear()
        now_s = time.monotonic()
        if self._stuck and now_s - self._stuck_tried_s >= STUCK_RETRY_S:
            self._stuck_tried_s = now_s
            await self._try_stuck(next(iter(self._stuck)))

    async def _project_all(self, shards: list[int]) -> None:
        """A group; where entries of a shard prevent it, its halves, until that shard is alone and is set aside.

        Raises DRIVER_ERRORS.
        """
        groups = [[shard for shard in shards if shard not in self._stuck]]
        while groups:
            group = groups.pop()
            problem = await self._project(group)
            if problem is not None and len(group) > 1:
                half = len(group) // 2
                groups += [group[half:], group[:half]]
            elif problem is not None:
                self._stuck[group[0]] = None
                _log.error("shard not projected, the others are", shard=group[0], problem=str(problem))

    async def _try_stuck(self, shard: int) -> None:
        """One of them. If it works now, so may the others. A failure of the database is one for all: they wait."""
        try:
            problem = await self._project([shard])
        except DRIVER_ERRORS:
            return
        if shard not in self._stuck:
            return  # it went away meanwhile
        del self._stuck[shard]
        if problem is not None:
            self._stuck[shard] = None
        else:
            _log.info("shard projected again", shard=shard)
            self._behind |= self._stuck
            self._stuck.clear()

    async def _project(self, shards: Sequence[int]) -> Exception | None:
        """A step for each of these. Returns the problem where entries of one of them prevent it.

        Raises DRIVER_ERRORS for what concerns all shards.
        """
        found = {shard: self._owned[shard] for shard in shards if shard in self._owned}
        if not found:
            return None
        try:
            async with self._pool.acquire() as connection:
                done = await projector.project_group(connection, found)
        except DRIVER_ERRORS as problem:
            if projector.caused_by_entries(problem):
                return problem
            raise
        for shard, owned in found.items():
            if self._owned.get(shard) is not owned:
                continue  # the shard went away meanwhile
            step = done.get(shard)
            if step is None:
                self._busy.add(shard)  # its last owner's projector is still at it, and may leave something to do
                continue
            self._projected[shard] = step.to_sequence
            if step.lag_entries > 0:
                self._take_again([shard])
        return None
