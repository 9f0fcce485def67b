"""Claims shards, hands them on, and gives them up: the loop that carries out what `claims.plan` decides."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

import asyncpg

from betting.bets import claims, directory_view, takeover
from betting.bets.followers import Followers
from betting.bets.instance import Instance
from betting.bets.shard import OwnedShard, ShardFrozen, ShardLost, ShardPhase
from betting.bets.snapshots import Snapshotter
from betting.engine.apply import CannotApply
from betting.internal.v1 import owner_pb2
from betting.journal import ownership as directory
from betting.journal.connection import DRIVER_ERRORS
from betting.runtime import errors, logs, postgres
from betting.runtime.loops import FailureLog, woken_within

_log = logs.get(__name__)

DATABASE_PROBLEMS = (*DRIVER_ERRORS, directory.StealBlocked)

LOOK_INTERVAL_S = 0.5
# Claimants of the same orphan spread out; the fence decides between those who still collide.
CLAIM_JITTER_S = 0.25
NOT_AGAIN_WITHIN_S = 30.0
# A tail shorter than this replays in milliseconds: no snapshot is worth holding callers for it.
SNAPSHOT_ON_HAND_OVER_FROM = 2_000
# Longer than any healthy flush and snapshot: after that its callers are better served here.
HAND_OVER_TIMEOUT_S = 10.0
DRAIN_RETRY_S = 0.2

_Take = Callable[[asyncpg.Connection, int, str, str, int], Awaitable[directory.Acquired | None]]


class _Taken(NamedTuple):
    shard: int
    epoch: int
    head: int


class Ownership:
    """The ownership loop of this process."""

    def __init__(
        self,
        instance: Instance,
        pool: asyncpg.Pool,
        snapshotter: Snapshotter,
        followers: Followers,
        orphaned_after_s: float,
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._snapshotter = snapshotter
        self._followers = followers
        self._orphaned_after_s = orphaned_after_s
        self._lost_at_s: dict[int, float] = {}
        # The highest sequence acknowledged here of shards given up since: a journal that ends before it lost commits.
        self._confirmed: dict[int, int] = {}
        self._directory_view = directory_view.DirectoryView()
        self._clock_off = self._aside = self._announced = False
        self._wake = asyncio.Event()
        self._moving = asyncio.Lock()

    def look(self) -> None:
        """Reads the directory now instead of at the next interval."""
        self._wake.set()

    async def run(self) -> None:
        """Reads the directory every half second, and after each notification of a change."""
        unreadable = FailureLog(_log, "directory not read")
        while True:
            self._wake.clear()
            try:
                await self._look_once()
                unreadable.worked()
            except DATABASE_PROBLEMS as problem:
                self._directory_view.failed(time.monotonic())
                unreadable.failed(problem)
            await woken_within(self._wake, LOOK_INTERVAL_S)

    async def lost(self, owned: OwnedShard) -> None:
        """Called by the committer: this process no longer owns the shard, or the shard is frozen."""
        self._unload(owned)
        self._lost_at_s[owned.shard] = time.monotonic()
        self.look()

    async def drain(self) -> None:
        """On SIGTERM: hand every shard on by the shared placement function, also when the healer is dead.

        While the database is away it goes on trying; the runtime ends it after `drain_timeout`.
        """
        self._instance.draining = True
        unreadable = FailureLog(_log, "directory not read while draining")
        while True:
            try:
                await self._look_once()
                unreadable.worked()
            except DATABASE_PROBLEMS as problem:
                unreadable.failed(problem)
            if not any(owned.held for owned in self._instance.shards.values()):
                return
            await asyncio.sleep(DRAIN_RETRY_S)

    async def hand_over_on_request(self, shard: int, epoch: int, to: str) -> str:
        """Raises ServiceError if this process does not own the shard at this epoch, or if no instance can take it."""
        owned = self._instance.shards.get(shard)
        if owned is None or owned.epoch != epoch:
            raise errors.unavailable("NOT_OWNER", f"this instance does not own shard {shard} at epoch {epoch}")
        async with postgres.translated():
            inputs = await self._claim_inputs()
        live = [i for i in inputs.instances if not i.exited and i.beat_age_s <= self._orphaned_after_s]
        able = {i.life for i in live if not i.draining} - {self._instance.name}
        target = to or _least_loaded(inputs, able)
        if target not in able:
            raise errors.failed_precondition("NO_SUCH_INSTANCE", f"there is no live instance {target!r} to take it")
        if not await self._hand_over(claims.HandOver(shard, target)):
            raise errors.unavailable(
                "NOT_HANDED_OVER", f"shard {shard} could not be released: look who owns it, ask again"
            )
        return target

    def describe(self, owned: OwnedShard) -> owner_pb2.OwnedShard:
        lag = self._followers.lag(owned)
        return owner_pb2.OwnedShard(
            shard_id=owned.shard,
            epoch=owned.epoch,
            state=owned.phase.value,
            head_sequence=owned.confirmed,
            open_bets=len(owned.state.open_bets),
            accounts=len(owned.state.accounts),
            projector_lag=lag.projector_entries,
            outbox_lag=lag.outbox_entries,
            snapshot_sequence=owned.snapshot_at,
        )

    async def _claim_inputs(self) -> claims.ClaimInputs:
        async with self._pool.acquire() as connection:
            began = time.monotonic()
            seen = await directory.observe(connection)
            now = time.monotonic()
            own = next((each.beat_age_s for each in seen.instances if each.life == self._instance.name), 0.0)
            self._directory_view.looked(began, now, own)
            await self._step_aside_if_needed(connection, seen)
        return claims.ClaimInputs(
            me=self._instance.name,
            shards=seen.shards,
            instances=seen.instances,
            healer_beat_age_s=seen.healer_beat_age_s,
            lost_recently={s for s, at in self._lost_at_s.items() if now - at < NOT_AGAIN_WITHIN_S},
            draining=self._instance.draining or self._aside,
            beats_void=self._directory_view.beats_void(now),
            newest=tuple(reversed(self._instance.shards)),
        )

    async def _step_aside_if_needed(self, connection: asyncpg.Connection, seen: directory.Observed) -> None:
        """A clock that is off: own nothing, and say so, or the others would leave a share to this instance."""
        clock, me = self._instance.clock, self._instance.name
        if abs(clock.wall_error_us()) > directory_view.MAX_WALL_ERROR_US:
            await clock.read(connection)  # not refreshed while nothing was appended
        error_us = clock.wall_error_us()
        aside = directory_view.should_step_aside(me, error_us, seen.instances, self._orphaned_after_s)
        off = abs(error_us) > directory_view.MAX_WALL_ERROR_US
        if off != self._clock_off or aside != self._aside:
            _log.error("clock offset changed", off=off, error_us=error_us, keeps_its_shards=not aside)
        announced = self._instance.draining or aside
        if announced != self._announced:
            await directory.announce_draining(connection, me, announced)
        self._clock_off, self._aside, self._announced = off, aside, announced

    async def _look_once(self) -> None:
        async with self._moving:
            inputs = await self._claim_inputs()
            self._drop_what_others_own(inputs)
            todo = claims.plan(inputs, self._orphaned_after_s)
            # Who only steps aside leaves no shard with nobody.
            moves = [m for m in todo.hand_over if self._instance.draining or m.to is not None]
            for move in moves if self._instance.draining else moves[:1]:
                await self._hand_over(move)
            if not _all_seen_to_end(todo.steal, inputs):
                await asyncio.sleep(random.uniform(0, CLAIM_JITTER_S))
            taken = [await self._take(row) for row in (*todo.claim, *todo.steal)]
            if not inputs.draining:
                taken += [await self._take_back(row) for row in self._forgotten(inputs)]
            for one in taken:
                if one is not None:
                    await self._load(one)

    def _drop_what_others_own(self, inputs: claims.ClaimInputs) -> None:
        """A shard stolen, or released without our hearing so, while nothing was being appended is noticed here."""
        for row in inputs.shards:
            owned = self._instance.shards.get(row.shard)
            if owned is None or row.epoch < owned.epoch:
                continue
            if owned.phase is ShardPhase.FROZEN:
                if row.epoch > owned.epoch:  # unfrozen since, and perhaps taken: this memory stands for nothing
                    del self._instance.shards[row.shard]
            elif row.owner != self._instance.name or row.epoch > owned.epoch:
                self._instance.committer.submit(owned)  # the fence will say so

    def _forgotten(self, inputs: claims.ClaimInputs) -> list[directory.ShardRow]:
        """Ours by the directory but not in memory: taking or loading it broke off, or the committer gave it up."""
        mine = [row for row in inputs.shards if row.owner == inputs.me and row.state == "owned"]
        return [row for row in mine if row.shard not in self._instance.shards]

    async def _take(self, row: directory.ShardRow) -> _Taken | None:
        """From here on nobody else can commit to the shard. One short transaction per shard, ascending."""
        owned = self._instance.shards.get(row.shard)
        if owned is not None and owned.held:
            # The committer may be waiting to hear what became of its last append: two memories would mix their epochs.
            self._instance.committer.submit(owned)
            return None
        return await self._taken(row, directory.acquire if row.owner is None else directory.steal)

    async def _take_back(self, row: directory.ShardRow) -> _Taken | None:
        """At a new epoch, which waits for whatever of ours may still be running."""
        return await self._taken(row, directory.take_again)

    async def _taken(self, row: directory.ShardRow, take: _Take) -> _Taken | None:
        me, address = self._instance.name, self._instance.address
        try:
            async with self._pool.acquire() as connection:
                acquired = await take(connection, row.shard, me, address, row.epoch)
        except DATABASE_PROBLEMS as problem:  # the other shards need not wait for this one
            _log.warning("shard not taken", shard=row.shard, problem=str(problem))
            return None
        if acquired is None:
            return None
        _log.info("shard acquired", shard=row.shard, epoch=acquired.epoch, stolen_from=row.owner)
        return _Taken(row.shard, acquired.epoch, acquired.head_sequence)

    async def _load(self, taken: _Taken) -> None:
        try:
            loaded = await self._loaded(taken)
        except DATABASE_PROBLEMS as problem:
            _log.warning("shard not loaded", shard=taken.shard, problem=str(problem))
            return  # the next look finds it is ours and not in memory
        if loaded is None:
            return
        owned = OwnedShard(loaded.state, taken.epoch, loaded.snapshot_at)
        self._instance.shards[taken.shard] = owned
        self._followers.follow(owned)
        gc.freeze()
        _log.info("shard serving", **taken._asdict(), open_bets=len(loaded.state.open_bets))

    async def _loaded(self, taken: _Taken) -> takeover.Loaded | None:
        """The state, or None when the shard had to be frozen. Raises DATABASE_PROBLEMS."""
        shard, epoch, head = taken
        me = self._instance.name
        async with self._pool.acquire() as connection:
            await directory.replay_started(connection, shard, me, epoch)
            try:
                if head < self._confirmed.get(shard, 0):
                    raise CannotApply(f"the journal ends at {head}, but {self._confirmed[shard]} was acknowledged")
                loaded = await takeover.load(connection, shard, head)
            except CannotApply as problem:
                _log.critical("shard frozen", shard=shard, problem=str(problem))
                await directory.freeze(connection, shard, me, epoch, str(problem))
                self._confirmed.pop(shard, None)
                return None
            await directory.replay_finished(connection, shard, me, epoch)
        return loaded

    async def _hand_over(self, move: claims.HandOver) -> bool:
        """Callers wait in the router: the owner stops taking commands, flushes, snapshots, releases.

        False: it did not come to that, and the shard is served on, or is not ours any more.
        """
        owned = self._instance.shards.get(move.shard)
        if owned is None or owned.phase is not ShardPhase.SERVING:
            return False
        owned.phase = ShardPhase.HANDING_OVER
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT_S):
                released = await self._released(owned, move.to)
        except (ShardLost, ShardFrozen, *DATABASE_PROBLEMS) as problem:
            _log.warning("shard not handed over", shard=move.shard, to=move.to, problem=str(problem))
            return False
        finally:
            if owned.phase is ShardPhase.HANDING_OVER:  # also when the caller of a hand-over leaves in the middle of it
                owned.phase = ShardPhase.SERVING
                self._instance.committer.submit(owned)  # should it be released after all, the fence says so
        if released:
            _log.info("shard handed over", shard=move.shard, to=move.to)
        return released

    async def _released(self, owned: OwnedShard, to: str | None) -> bool:
        await self._instance.committer.durable(owned)
        if owned.confirmed - owned.snapshot_at >= SNAPSHOT_ON_HAND_OVER_FROM:
            await self._snapshotter.write(owned)
        async with self._pool.acquire() as connection:
            released = await directory.release(connection, owned.shard, self._instance.name, owned.epoch, to)
        if released:
            owned.lose(ShardPhase.LOST, "handed over")
            self._unload(owned)
        return released

    def _unload(self, owned: OwnedShard) -> None:
        """Never another memory of the same shard, which may have been loaded since."""
        if owned.phase is ShardPhase.FROZEN:
            self._confirmed.pop(owned.shard, None)  # from here on a person decides
        else:
            self._confirmed[owned.shard] = max(owned.confirmed, self._confirmed.get(owned.shard, 0))
        if self._instance.shards.get(owned.shard) is owned:
            self._followers.forget(owned.shard)
            if owned.phase is ShardPhase.LOST:
                del self._instance.shards[owned.shard]


def _all_seen_to_end(stolen: Collection[directory.ShardRow], inputs: claims.ClaimInputs) -> bool:
    """Then everybody sees the same, and the placement function names one taker: nobody to spread out from."""
    exited = {instance.life for instance in inputs.instances if instance.exited}
    return all(row.owner in exited for row in stolen)


def _least_loaded(inputs: claims.ClaimInputs, able: Collection[str]) -> str:
    """Who has fewest shards of those that could take one more; "" when there is nobody."""
    held = Counter(row.owner for row in inputs.shards)
    return min(able, key=lambda name: (held[name], name), default="")
