"""The giving side of a planned hand-over: callers wait in the router while shards are flushed and released together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence

import asyncpg

from betting.bets.claims import HandOver
from betting.bets.instance import Instance
from betting.bets.journal_link import DATABASE_PROBLEMS
from betting.bets.shard import OwnedShard, ShardFrozen, ShardLost, ShardPhase
from betting.bets.snapshots import Snapshotter
from betting.journal import ownership as directory
from betting.runtime import logs

_log = logs.get(__name__)

# A tail shorter than this replays in milliseconds: no snapshot is worth writing for it.
SNAPSHOT_FROM_ENTRIES = 2_000
# Longer than any healthy flush: after that the callers are better served here.
HAND_OVER_TIMEOUT_S = 10.0
RELEASED_AT_ONCE_MAX = 256
# All snapshots of a group together: what takes longer saves the next owner nothing.
SNAPSHOTS_TIMEOUT_S = 2.0


class Giver:
    """Gives shards of this process to others. unload: drops the memory of a shard that was released."""

    def __init__(
        self, instance: Instance, pool: asyncpg.Pool, snapshotter: Snapshotter, unload: Callable[[OwnedShard], None]
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._snapshotter = snapshotter
        self._unload = unload

    def entries(self) -> dict[int, int]:
        """What the next owner of each shard will have to load: open bets, and entries behind the newest snapshot."""
        return {
            shard: len(owned.state.open_bets) + min(SNAPSHOT_FROM_ENTRIES, owned.confirmed - owned.snapshot_at)
            for shard, owned in self._instance.shards.items()
        }

    async def give(self, moves: Sequence[HandOver], *, late: bool = False) -> int:
        """Releases these shards, and returns how many. The others are served on, or are not ours any more.

        late: there is no time for snapshots.
        """
        released = 0
        for start in range(0, len(moves), RELEASED_AT_ONCE_MAX):
            part = moves[start : start + RELEASED_AT_ONCE_MAX]
            released += len(await self._give(part, wait_for_lock=False, snapshots=not late))
        return released

    async def give_one(self, move: HandOver) -> bool:
        """`give`, for a caller who wants this shard moved: waits where its row is locked."""
        return bool(await self._give([move], wait_for_lock=True, snapshots=True))

    async def release_unloaded(self, given: Sequence[directory.Release]) -> None:
        """Releases shards that are ours in the directory and in no memory: taking or loading them broke off."""
        if given:
            async with self._pool.acquire() as connection:
                await directory.release_group(connection, self._instance.name, given)

    async def _give(self, moves: Iterable[HandOver], *, wait_for_lock: bool, snapshots: bool) -> Collection[int]:
        receivers = {move.shard: move.to for move in moves}
        if snapshots:
            await self._shorten_tails(self._serving(receivers))
        giving = self._serving(receivers)
        stopped_s = time.monotonic()
        for owned in giving:
            owned.phase = ShardPhase.HANDING_OVER
        released: Collection[int] = ()
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT_S):
                flushed = await self._flushed(giving)
                flushed_s = time.monotonic()
                wanted = [directory.Release(owned.shard, owned.epoch, receivers[owned.shard]) for owned in flushed]
                released = await self._released(wanted, wait_for_lock=wait_for_lock)
        except DATABASE_PROBLEMS as problem:
            _log.warning("shards not handed over", shards=[owned.shard for owned in giving], problem=str(problem))
        finally:
            for owned in giving:
                if owned.shard in released and owned.held:
                    owned.lose(ShardPhase.LOST, "handed over")
                    self._unload(owned)
                elif owned.phase is ShardPhase.HANDING_OVER:  # also when who asked for it leaves in the middle of it
                    owned.phase = ShardPhase.SERVING
                    self._instance.committer.submit(owned)  # should it be released after all, the fence says so
        if released:
            to = sorted({receivers[shard] or "nobody" for shard in released})
            took_ms = [int(1_000 * (end_s - stopped_s)) for end_s in (flushed_s, time.monotonic())]
            _log.info(
                "shards handed over", shards=sorted(released), to=to, flushed_ms=took_ms[0], released_ms=took_ms[1]
            )
        return released

    def _serving(self, shards: Iterable[int]) -> list[OwnedShard]:
        found = (self._instance.shards.get(shard) for shard in shards)
        return [owned for owned in found if owned is not None and owned.phase is ShardPhase.SERVING]

    async def _shorten_tails(self, shards: Iterable[OwnedShard]) -> None:
        """While they still serve: what is left behind the snapshot is what came in meanwhile."""
        end_s = asyncio.get_running_loop().time() + SNAPSHOTS_TIMEOUT_S
        for owned in shards:
            if owned.confirmed - owned.snapshot_at >= SNAPSHOT_FROM_ENTRIES:
                try:
                    async with asyncio.timeout_at(end_s):
                        await self._snapshotter.write(owned)
                except (ShardLost, ShardFrozen, *DATABASE_PROBLEMS) as problem:
                    _log.warning("snapshot not written", shard=owned.shard, problem=str(problem))

    async def _flushed(self, shards: Sequence[OwnedShard]) -> list[OwnedShard]:
        """Those of which everything is durable; the others were lost, or are frozen."""
        outcomes = await asyncio.gather(
            *(self._instance.committer.durable(owned) for owned in shards), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, ShardLost | ShardFrozen):
                raise outcome
        return [owned for owned, outcome in zip(shards, outcomes, strict=True) if outcome is None]

    async def _released(self, wanted: Sequence[directory.Release], *, wait_for_lock: bool) -> Collection[int]:
        if not wanted:
            return ()
        me = self._instance.name
        async with self._pool.acquire() as connection:
            if not wait_for_lock:
                return await directory.release_group(connection, me, wanted)
            return [shard for shard, epoch, to in wanted if await directory.release(connection, shard, me, epoch, to)]
