"""Group commit: while one append is in flight the next batch gathers, over all shards of the process.

What can come back from an append, and what is done (docs/architecture/money-core.md):

| answer                   | what it means                 | what is done                                          |
| ------------------------ | ----------------------------- | ----------------------------------------------------- |
| all shards matched       | durable                       | waiters are told                                      |
| some did not             | stolen; nothing was written   | those are lost, the rest is appended again            |
| rejected by a constraint | one shard's entries cannot be | shard by shard; the one that fails freezes            |
| connection lost, timeout | unknown                       | take each shard again (epoch + 1), then read its head |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from betting.bets.clock import DatabaseClock, monotonic_us
from betting.bets.shard import OwnedShard, ShardPhase, fail, resolve
from betting.engine.entries import Entry
from betting.journal.append import Appended, AppendRejected, OutcomeUnknown, ShardEntries
from betting.journal.ownership import Acquired
from betting.runtime import logs
from betting.runtime.loops import FailureLog, woken_within

_log = logs.get(__name__)

MAX_BATCH_ENTRIES = 4_000
MAX_LINGER_S = 0.005
# Below this many entries a batch is not worth waiting for company.
LINGER_FROM_ENTRIES = 3
BEAT_INTERVAL_S = 1.0
RETRY_S = 0.1
MAX_RETRY_S = 1.0


class Journal(Protocol):
    """What the committer asks of Postgres; see `journal_link`."""

    async def append(self, batch: list[ShardEntries]) -> Appended:
        """Raises AppendRejected, OutcomeUnknown."""
        ...

    async def take_again(self, shard: int, epoch: int) -> Acquired | None:
        """The shard at a new epoch, or None when somebody else has it. Raises OutcomeUnknown."""
        ...

    async def beat(self) -> None:
        """Says that this instance lives. Raises OutcomeUnknown."""
        ...

    async def freeze(self, shard: int, epoch: int, why: str) -> None:
        """Records that the shard cannot go on. Raises OutcomeUnknown."""
        ...


class Part(NamedTuple):
    """One shard's share of a batch."""

    owned: OwnedShard
    entries: list[Entry]
    waiters: list[tuple[int, asyncio.Future[None]]]

    @property
    def last(self) -> int:
        return self.entries[-1].sequence if self.entries else self.owned.confirmed


class CommitterStatistics(NamedTuple):
    """Counters since the process started."""

    batches: int
    entries: int
    unknown_outcomes: int
    lost_shards: int
    frozen_shards: int
    largest_batch: int


Committed = Callable[[OwnedShard, list[Entry]], None]
Lost = Callable[[OwnedShard], Awaitable[None]]


class Committer:
    """Runs in one task for the life of the process; a caller's deadline ends its wait, never an append."""

    def __init__(self, journal: Journal, clock: DatabaseClock, on_committed: Committed, on_lost: Lost) -> None:
        self._journal = journal
        self._clock = clock
        self._on_committed = on_committed
        self._on_lost = on_lost
        self._dirty: dict[int, OwnedShard] = {}
        self._condemned: list[tuple[OwnedShard, str]] = []
        self._unrecorded: list[tuple[OwnedShard, str]] = []  # frozen here, not yet said so in the database
        self._wake = asyncio.Event()
        self._last_beat_s = 0.0
        self._beat_failures = FailureLog(_log, "heartbeat failed")
        self._last_batch = 0
        self._last_append_s = 0.0
        self._counts = dict.fromkeys(CommitterStatistics._fields, 0)

    def statistics(self) -> CommitterStatistics:
        return CommitterStatistics(**self._counts)

    def submit(self, owned: OwnedShard) -> None:
        """This shard has entries or waiters for the next append; a lost memory has none, whoever still has it."""
        if not owned.held:
            return
        self._dirty[owned.shard] = owned
        self._wake.set()

    def durable(self, owned: OwnedShard) -> asyncio.Future[None]:
        """Done when everything this shard decided so far is durable and its fence was checked after this call.

        Raises ShardLost or ShardFrozen.
        """
        future = owned.durable()
        self.submit(owned)
        return future

    def mark_broken(self, owned: OwnedShard, why: str) -> None:
        """An entry could not be applied: the state is worthless now, the shard freezes, the process lives on."""
        _log.critical("shard frozen", shard=owned.shard, why=why)
        owned.lose(ShardPhase.FROZEN, why)
        self._condemned.append((owned, why))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wait_for_work()
            await self._beat_if_due()
            while self._condemned:
                await self._give_up(*self._condemned.pop())
            await self._record_frozen()
            batch = self._take()
            if batch:
                await self._commit(batch)

    async def _wait_for_work(self) -> None:
        if not self._dirty and not self._condemned and not self._unrecorded:
            self._wake.clear()
            if not await woken_within(self._wake, BEAT_INTERVAL_S / 2):
                return
        # Callers that were answered together come back together: wait for them about as long as an append takes.
        if self._last_batch >= LINGER_FROM_ENTRIES and self._waiting() < self._last_batch:
            await asyncio.sleep(min(MAX_LINGER_S, self._last_append_s))

    def _waiting(self) -> int:
        return sum(len(owned.entries) for owned in self._dirty.values())

    async def _beat_if_due(self) -> None:
        now = monotonic_us() / 1_000_000
        if now - self._last_beat_s < BEAT_INTERVAL_S:
            return
        try:
            await self._journal.beat()
            self._last_beat_s = now
            self._beat_failures.worked()
        except OutcomeUnknown as problem:
            self._beat_failures.failed(problem)
            await asyncio.sleep(RETRY_S)

    def _take(self) -> list[Part]:
        """At most MAX_BATCH_ENTRIES, whole shards while they fit."""
        batch: list[Part] = []
        room = MAX_BATCH_ENTRIES
        for shard in list(self._dirty):
            if room <= 0:
                break
            owned = self._dirty.pop(shard)
            if owned.phase in (ShardPhase.LOST, ShardPhase.FROZEN):
                continue
            batch.append(self._part(owned, room))
            room -= len(batch[-1].entries)
        return batch

    def _part(self, owned: OwnedShard, room: int) -> Part:
        if len(owned.entries) <= room:
            part = Part(owned, owned.entries, owned.waiters)
            owned.entries, owned.waiters = [], []
            return part
        entries, owned.entries = owned.entries[:room], owned.entries[room:]
        last = entries[-1].sequence
        served = [waiter for waiter in owned.waiters if waiter[0] <= last]
        owned.waiters = [waiter for waiter in owned.waiters if waiter[0] > last]
        self._dirty[owned.shard] = owned
        return Part(owned, entries, served)

    async def _commit(self, batch: list[Part]) -> None:
        pause_s = 0.0
        while batch:
            unknown = self._counts["unknown_outcomes"]
            batch = await self._attempt(batch)
            if batch and self._counts["unknown_outcomes"] > unknown:
                # The first time a connection broke. Again, with the same entries: each try costs every shard an epoch.
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_RETRY_S, 2 * pause_s or RETRY_S)

    async def _attempt(self, batch: list[Part]) -> list[Part]:
        """One append; returns what has to be appended again."""
        asked_at = monotonic_us()
        try:
            answer = await self._journal.append(
                [ShardEntries(part.owned.shard, part.owned.epoch, part.entries) for part in batch]
            )
        except AppendRejected as problem:
            return await self._one_by_one(batch, problem)
        except OutcomeUnknown as problem:
            _log.warning("append outcome unknown", shards=[p.owned.shard for p in batch], problem=str(problem))
            self._counts["unknown_outcomes"] += 1
            return await self._take_again(batch)
        self._clock.observe(answer.at_us, asked_at, monotonic_us())
        stolen = [part for part in batch if part.owned.shard not in answer.matched]
        if stolen:
            for part in stolen:
                await self._lose(part, "another instance owns the shard")
            return [part for part in batch if part.owned.shard in answer.matched]
        for part in batch:
            self._confirm(part)
        size = sum(len(part.entries) for part in batch)
        self._last_batch = size
        self._last_append_s = (monotonic_us() - asked_at) / 1_000_000
        self._counts["batches"] += 1
        self._counts["entries"] += size
        self._counts["largest_batch"] = max(self._counts["largest_batch"], size)
        return []

    def _confirm(self, part: Part) -> None:
        owned = part.owned
        if part.entries:
            assert part.entries[0].sequence == owned.confirmed + 1, "an append left a gap"
            owned.confirmed = part.last
        resolve(part.waiters)
        if part.entries:
            self._on_committed(owned, part.entries)

    async def _one_by_one(self, batch: list[Part], problem: AppendRejected) -> list[Part]:
        """A constraint refused the batch, so nothing was written. Only the shard at fault freezes."""
        if len(batch) > 1:
            for part in batch:
                await self._commit([part])
            return []
        part = batch[0]
        _log.error("shard frozen", shard=part.owned.shard, problem=str(problem))
        await self._freeze(part, f"the journal refused an entry: {problem}")
        return []

    async def _take_again(self, batch: list[Part]) -> list[Part]:
        """Unknown outcome: taking a shard waits for the old statement to end; then its head tells what happened."""
        again: list[Part] = []
        for part in batch:
            acquired = await self._acquired(part.owned)
            if acquired is None:
                await self._lose(part, "another instance took the shard")
                continue
            part.owned.epoch = acquired.epoch
            head, confirmed = acquired.head_sequence, part.owned.confirmed
            if head == part.last:
                self._confirm(part)
            elif head == confirmed:
                again.append(part)
            elif head < confirmed:
                _log.critical("database lost commits", shard=part.owned.shard, head=head, confirmed=confirmed)
                await self._freeze(part, f"the journal ends at {head}, but {confirmed} was acknowledged")
            else:
                await self._lose(part, f"the journal ends at {head}, which is not what was sent")
        return again

    async def _acquired(self, owned: OwnedShard) -> Acquired | None:
        """Asks until the database answers; memory is kept meanwhile: an outage is not a replay of everything."""
        while True:
            try:
                return await self._journal.take_again(owned.shard, owned.epoch)
            except OutcomeUnknown:
                await asyncio.sleep(RETRY_S)

    async def _lose(self, part: Part, why: str) -> None:
        _log.warning("shard lost", shard=part.owned.shard, epoch=part.owned.epoch, why=why)
        self._counts["lost_shards"] += 1
        fail(part.waiters, ShardPhase.LOST, why)
        part.owned.lose(ShardPhase.LOST, why)
        self._forget(part.owned)
        await self._on_lost(part.owned)

    async def _freeze(self, part: Part, why: str) -> None:
        fail(part.waiters, ShardPhase.FROZEN, why)
        part.owned.lose(ShardPhase.FROZEN, why)
        await self._give_up(part.owned, why)
        await self._record_frozen()

    async def _give_up(self, owned: OwnedShard, why: str) -> None:
        self._counts["frozen_shards"] += 1
        self._unrecorded.append((owned, why))
        self._forget(owned)
        await self._on_lost(owned)

    async def _record_frozen(self) -> None:
        """Tried until it is recorded: a restart, or who steals the shard, must not go on where a person has to look."""
        while self._unrecorded:
            owned, why = self._unrecorded[0]
            try:
                await self._journal.freeze(owned.shard, owned.epoch, why)
            except OutcomeUnknown as problem:
                _log.error("freeze not recorded", shard=owned.shard, problem=str(problem))
                await asyncio.sleep(RETRY_S)
                return
            self._unrecorded.pop(0)

    def _forget(self, owned: OwnedShard) -> None:
        """Never another memory of the same shard, which may have been loaded since."""
        if self._dirty.get(owned.shard) is owned:
            del self._dirty[owned.shard]
