"""Claims shards, hands them on, and gives them up: the loop that carries out what `claims.plan` decides."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from betting.bets import claims, directory_view, second_opinion
from betting.bets.clock import monotonic_us
from betting.bets.followers import Followers
from betting.bets.giving import Giver
from betting.bets.instance import Instance
from betting.bets.journal_link import DATABASE_PROBLEMS
from betting.bets.loading import Loader, Taken
from betting.bets.shard import OwnedShard, ShardPhase
from betting.bets.snapshots import Snapshotter
from betting.internal.v1 import owner_pb2
from betting.journal import ownership as directory
from betting.runtime import errors, logs, postgres
from betting.runtime.composition import Activity
from betting.runtime.loops import FailureLog, woken_within

_log = logs.get(__name__)

LOOK_INTERVAL_S = 0.5
# Every change of the directory wakes every instance. For who found nothing to do twice in a row, reading it ten times a
# second is enough.
UNINVOLVED_LOOKS = 2
UNINVOLVED_PAUSE_S = 0.1
# Claimants of the same orphan spread out; the fence decides between those who still collide.
CLAIM_JITTER_S = 0.25
NOT_AGAIN_WITHIN_S = 30.0
TAKEN_AT_ONCE_MAX = 64
DRAIN_RETRY_S = 0.2
# Of the time to drain: then everything left is released, also to nobody, so that others need not find out.
LATE_SHARE = 0.9
# Nobody has asked for shards of a draining instance for so long: it need not wait for somebody to give them to.
UNASKED_S = 1.0
# How long a new instance waits for prices: bets on its shards would be refused until it has them.
PRICES_TIMEOUT_S = 3.0
PRICES_POLL_S = 0.02

_Take = Callable[[asyncpg.Connection, int, str, str, int], Awaitable[directory.Acquired | None]]


class Ownership:
    """The ownership loop of this process. `activity`: active once it can take shards."""

    def __init__(
        self,
        instance: Instance,
        pool: asyncpg.Pool,
        snapshotter: Snapshotter,
        followers: Followers,
        orphaned_after_s: float,
        *,
        waits_for_prices: bool,
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._followers = followers
        self._giver = Giver(instance, pool, snapshotter, self._unload)
        self._waits_for_prices = waits_for_prices
        self.activity = Activity(active=False)
        self._orphaned_after_s = orphaned_after_s
        self._lost_at_s: dict[int, float] = {}
        # The highest sequence acknowledged here of shards given up since: a journal that ends before it lost commits.
        self._confirmed: dict[int, int] = {}
        self._loader = Loader(instance, pool, followers, orphaned_after_s, self._confirmed)
        self._rehearsed = False
        self._directory_view = directory_view.DirectoryView()
        self._clock_off = self._aside = False
        self._owns_nothing = False  # this version may be unable to load shards
        # It registered as draining: nobody gives it anything before it can take it. None: not known what it says.
        self._announced: bool | None = True
        self._late = self._unasked = False
        self._idle_looks = 0
        self._wake = asyncio.Event()
        self._moving = asyncio.Lock()

    def look(self) -> None:
        """Reads the directory now instead of at the next interval."""
        self._wake.set()

    async def run(self) -> None:
        """Reads the directory every half second, and after each notification of a change."""
        unreadable = FailureLog(_log, "directory not read")
        if self._waits_for_prices:
            await self._prices_come()
        woken = False
        while True:
            self._wake.clear()
            try:
                await self._rehearse()
                await self._look_once()
                unreadable.worked()
                self.activity.set(not (self._owns_nothing or self._loader.loads.mostly_fail))
            except DATABASE_PROBLEMS as problem:
                self._directory_view.failed(time.monotonic())
                unreadable.failed(problem)
            if woken and self._idle_looks >= UNINVOLVED_LOOKS:
                await asyncio.sleep(UNINVOLVED_PAUSE_S)
            woken = await woken_within(self._wake, LOOK_INTERVAL_S)

    async def lost(self, owned: OwnedShard) -> None:
        """Called by the committer: this process no longer owns the shard, or the shard is frozen."""
        self._unload(owned)
        self._lost_at_s[owned.shard] = time.monotonic()
        self.look()

    async def _rehearse(self) -> None:
        """Once, before it can own anything: a version that cannot load shards is never ready."""
        if not self._rehearsed:
            async with self._pool.acquire() as connection:
                await self._loader.rehearse(connection, await directory.observe(connection))
            self._rehearsed = True

    async def _prices_come(self) -> None:
        end_s = time.monotonic() + PRICES_TIMEOUT_S
        while not self._instance.book.is_fresh(monotonic_us()):
            if time.monotonic() > end_s:
                _log.warning("no prices yet", effect="shards are taken, bets on them are BOOK_STALE")
                return
            await asyncio.sleep(PRICES_POLL_S)

    async def drain(self, timeout_s: float) -> None:
        """On SIGTERM: hand every shard on by the shared placement function, also when the healer is dead.

        While the database is away, or there is nobody to take them, it goes on trying: callers are served here
        meanwhile. What is left at LATE_SHARE of `timeout_s` seconds is released, all at once; the runtime ends this
        after `timeout_s`.
        """
        began_s = time.monotonic()
        self._instance.draining = True
        unreadable = FailureLog(_log, "directory not read while draining")
        _log.info("handing shards over", shards=len(self._instance.shards), timeout_s=timeout_s)
        calls, asked_at_s = self._instance.calls, began_s
        while True:
            self._wake.clear()
            now_s = time.monotonic()
            if calls != self._instance.calls:
                calls, asked_at_s = self._instance.calls, now_s
            self._late = now_s - began_s > timeout_s * LATE_SHARE
            self._unasked = now_s - asked_at_s >= UNASKED_S
            try:
                left = await self._look_once()
                unreadable.worked()
            except DATABASE_PROBLEMS as problem:
                unreadable.failed(problem)
                left = len(self._instance.shards)
            took_s = round(time.monotonic() - began_s, 1)
            if not left and not any(owned.held for owned in self._instance.shards.values()):
                _log.info("all shards handed over", duration_s=took_s)
                return
            _log.info("shards left to hand over", shards=left, duration_s=took_s, late=self._late)
            await woken_within(self._wake, DRAIN_RETRY_S)

    async def hand_over_on_request(self, shard: int, epoch: int, to: str) -> str:
        """Raises ServiceError if this process does not own the shard at this epoch, or if no instance can take it."""
        owned = self._instance.shards.get(shard)
        if owned is None or owned.epoch != epoch:
            raise errors.unavailable("NOT_OWNER", f"this instance does not own shard {shard} at epoch {epoch}")
        async with postgres.translated():
            inputs = await self._claim_inputs()
        live = [i for i in inputs.instances if not i.exited and i.beat_age_s <= self._orphaned_after_s]
        able = {i.life for i in live if not i.draining} - {self._instance.name}
        target = to or claims.least_loaded(inputs.shards, inputs.instances, able)
        if target not in able:
            raise errors.failed_precondition("NO_SUCH_INSTANCE", f"there is no live instance {target!r} to take it")
        if not await self._giver.give_one(claims.HandOver(shard, target)):
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
            self._directory_view.looked(began, now, own, seen.shards)
            await self._step_aside_if_needed(connection, seen)
        return claims.ClaimInputs(
            me=self._instance.name,
            shards=seen.shards,
            instances=seen.instances,
            healer_beat_age_s=seen.healer_beat_age_s,
            lost_recently={s for s, at in self._lost_at_s.items() if now - at < NOT_AGAIN_WITHIN_S},
            draining=self._instance.draining or self._aside or self._owns_nothing,
            beats_void=self._directory_view.beats_void(now),
            newest=tuple(reversed(self._instance.shards)),
            entries=self._giver.entries(),
            late=self._late,
            limits=self._directory_view.limits(now),
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
        self._loader.loads.forget_unfrozen(seen.shards)
        self._owns_nothing = self._loader.loads.exhausted or second_opinion.owns_nothing(
            me, seen, self._orphaned_after_s
        )
        announced = self._instance.draining or aside or self._owns_nothing
        if announced != self._announced:
            await directory.announce_draining(connection, me, announced)
        self._clock_off, self._aside, self._announced = off, aside, announced

    async def _look_once(self) -> int:
        """Carries out what is to be done now. Returns how many shards are ours afterwards that were before it."""
        async with self._moving:
            inputs = await self._claim_inputs()
            self._drop_what_others_own(inputs)
            todo = claims.plan(inputs, self._orphaned_after_s)
            self._idle_looks = 0 if any(todo) else self._idle_looks + 1
            forgotten = self._forgotten(inputs)  # before anything is handed over: that is not in memory either
            if todo.hand_over:
                await self._hand_over(todo.hand_over, forgotten, draining=inputs.draining)
            await self._take_unowned(todo.claim)
            if todo.steal and not self._owns_nothing:
                if not claims.all_seen_to_end(todo.steal, inputs):
                    await asyncio.sleep(random.uniform(0, CLAIM_JITTER_S))
                await self._take_over(todo.steal)
            if not (inputs.draining or self._owns_nothing):
                taken = [await self._take_back(row) for row in forgotten]
                await self._load([one for one in taken if one is not None])
        return sum(row.owner == inputs.me and row.state == "owned" for row in inputs.shards)

    async def _hand_over(
        self, moves: Sequence[claims.HandOver], forgotten: Sequence[directory.ShardRow], *, draining: bool
    ) -> None:
        """To nobody only when there is no other way: callers are better served here than not at all."""
        leaving = self._instance.draining and (self._late or self._unasked)
        epochs = {row.shard: row.epoch for row in forgotten}
        moves = [move for move in moves if leaving or move.to is not None or move.shard in epochs]
        await self._giver.give(moves, late=self._late)
        if draining:
            unloaded = [directory.Release(m.shard, epochs[m.shard], m.to) for m in moves if m.shard in epochs]
            await self._giver.release_unloaded(unloaded)

    async def _load(self, taken: Sequence[Taken]) -> None:
        if not await self._loader.load(taken):
            self._owns_nothing, self._announced = True, None
            self.look()

    async def _take_unowned(self, rows: Sequence[directory.ShardRow]) -> None:
        """A few at a time, so that the first are served before the last are loaded."""
        for start in range(0, len(rows), TAKEN_AT_ONCE_MAX):
            if not self._owns_nothing:
                await self._take_over(rows[start : start + TAKEN_AT_ONCE_MAX])

    async def _take_over(self, rows: Sequence[directory.ShardRow]) -> None:
        """Takes all of them, from when on nobody else can commit to them, and then loads them.

        Last those that may end this process, as they did another: the others are served by then.
        """
        taken = await self._take_group(rows)
        left = [row for row in rows if row.shard not in taken]
        if left:
            still = await self._still_as_seen(left)
            for row in (row for row in left if row.shard in still):
                taken[row.shard] = await self._take(row)
        await self._load([one for one in taken.values() if one is not None])

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

    async def _take_group(self, rows: Sequence[directory.ShardRow]) -> dict[int, Taken | None]:
        """What can be taken without waiting, in one statement; the rest is looked at one by one."""
        seen = {row.shard: row.epoch for row in rows if not self._still_held(row.shard)}
        if len(seen) < 2:
            return {}
        async with self._pool.acquire() as connection:
            acquired = await directory.acquire_group(connection, seen, self._instance.name, self._instance.address)
        _log.info("shards acquired", shards=list(acquired), wanted=len(seen))
        return {shard: Taken(shard, one.epoch, one.head_sequence) for shard, one in acquired.items()}

    async def _still_as_seen(self, rows: Sequence[directory.ShardRow]) -> set[int]:
        async with self._pool.acquire() as connection:
            now = {row.shard: row.epoch for row in await directory.shards(connection)}
        return {row.shard for row in rows if now.get(row.shard) == row.epoch}

    def _still_held(self, shard: int) -> bool:
        """The committer may be waiting to hear what became of its last append: two memories would mix their epochs."""
        owned = self._instance.shards.get(shard)
        if owned is None or not owned.held:
            return False
        self._instance.committer.submit(owned)
        return True

    async def _take(self, row: directory.ShardRow) -> Taken | None:
        """From here on nobody else can commit to the shard. One short transaction per shard, ascending."""
        if self._still_held(row.shard):
            return None
        return await self._taken(row, directory.acquire if row.owner is None else directory.steal)

    async def _take_back(self, row: directory.ShardRow) -> Taken | None:
        """At a new epoch, which waits for whatever of ours may still be running."""
        return await self._taken(row, directory.take_again)

    async def _taken(self, row: directory.ShardRow, take: _Take) -> Taken | None:
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
        return Taken(row.shard, acquired.epoch, acquired.head_sequence)

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
