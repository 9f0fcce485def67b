"""The committer against a journal in memory: who is told what, whatever the database answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from scribe import LIMITS

from betting.bets import committer as committing
from betting.bets.clock import DatabaseClock, monotonic_us
from betting.bets.committer import Committer
from betting.bets.shard import OwnedShard, ShardFrozen, ShardLost, ShardPhase
from betting.engine.apply import CannotApply, apply
from betting.engine.commands import Deposit
from betting.engine.entries import Entry
from betting.engine.state import ShardState
from betting.journal.append import Appended, OutcomeUnknown, ShardEntries
from betting.journal.ownership import Acquired
from betting.runtime.ids import uuid7_from

NOW_US = 1_700_000_000_000_000


class MemoryJournal:
    """One database, this owner's unless `stolen`. `faults`, one per append: the answer is lost, written or not."""

    def __init__(self) -> None:
        self.entries: dict[int, list[Entry]] = {}
        self.epochs: dict[int, int] = {}
        self.stolen: set[int] = set()
        self.frozen: dict[int, str] = {}
        self.faults: list[bool] = []
        self.freeze_faults = 0
        self.appends = 0
        self.asked = asyncio.Event()
        self.recorded = asyncio.Event()

    async def append(self, batch: list[ShardEntries]) -> Appended:
        self.appends += 1
        self.asked.set()
        await asyncio.sleep(0)
        matched = frozenset(p.shard for p in batch if p.shard not in self.stolen and self._epoch(p.shard) == p.epoch)
        written = not self.faults or self.faults[0]
        if len(matched) == len(batch) and written:
            for part in batch:
                self.entries.setdefault(part.shard, []).extend(part.entries)
        if self.faults:
            self.faults.pop(0)
            raise OutcomeUnknown("the answer was lost")
        return Appended(matched, NOW_US)

    async def take_again(self, shard: int, epoch: int) -> Acquired | None:
        if shard in self.stolen:
            return None
        self.epochs[shard] = self._epoch(shard) + 1
        return Acquired(self.epochs[shard], len(self.entries.get(shard, [])))

    async def beat(self) -> None:
        return

    async def freeze(self, shard: int, epoch: int, why: str) -> None:
        if self.freeze_faults:
            self.freeze_faults -= 1
            raise OutcomeUnknown("the database is away")
        self.frozen[shard] = why
        self.recorded.set()

    def _epoch(self, shard: int) -> int:
        return self.epochs.get(shard, 1)


@asynccontextmanager
async def committing_to(journal: MemoryJournal) -> AsyncIterator[tuple[Committer, list[OwnedShard]]]:
    """A running committer, and the shards it gave up."""
    lost: list[OwnedShard] = []

    async def on_lost(owned: OwnedShard) -> None:
        lost.append(owned)

    clock = DatabaseClock()
    clock.observe(NOW_US, monotonic_us(), monotonic_us())
    committer = Committer(journal, clock, lambda _owned, _entries: None, on_lost)
    task = asyncio.ensure_future(committer.run())
    try:
        async with asyncio.timeout(10):
            yield committer, lost
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def owned_shard(shard: int = 0) -> OwnedShard:
    return OwnedShard(ShardState(shard), 1, 0)


def deposit(owned: OwnedShard, count: int = 1) -> None:
    """Each is one entry, but the very first, which also opens the account."""
    for _ in range(count):
        key = uuid7_from(NOW_US * 1_000, owned.state.head.to_bytes(8))
        owned.execute(Deposit(key, bytes(16), b"GBP", 100), NOW_US, LIMITS)


async def test_a_lost_answer_to_a_written_append_is_told_as_durable_and_written_once() -> None:
    """The head is what was sent."""
    journal, owned = MemoryJournal(), owned_shard()
    journal.faults = [True]
    async with committing_to(journal) as (committer, _):
        deposit(owned)
        await committer.durable(owned)
    assert len(journal.entries[0]) == owned.confirmed == owned.state.head == 2
    assert owned.epoch == 2


async def test_what_gathers_during_an_unknown_outcome_is_appended_at_the_new_epoch() -> None:
    """Later waiters are not left with the epoch that the shard was taken from."""
    journal, owned = MemoryJournal(), owned_shard()
    journal.faults = [False, True, False]
    async with committing_to(journal) as (committer, lost):
        waiting = []
        for _ in range(5):
            deposit(owned)
            waiting.append(committer.durable(owned))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert not lost
    assert [entry.sequence for entry in journal.entries[0]] == [1, 2, 3, 4, 5, 6]


async def test_a_part_too_large_for_one_append_tells_each_waiter_when_its_own_entries_are_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Split by MAX_BATCH_ENTRIES, with the second append's answer lost."""
    monkeypatch.setattr(committing, "MAX_BATCH_ENTRIES", 4)
    journal, owned = MemoryJournal(), owned_shard()
    told: list[tuple[int, int]] = []

    async def told_when_durable(committer: Committer, owned: OwnedShard) -> None:
        upto = owned.state.head
        await committer.durable(owned)
        told.append((upto, len(journal.entries[0])))

    async with committing_to(journal) as (committer, _):
        waiting = []
        for _ in range(11):
            deposit(owned)
            waiting.append(asyncio.ensure_future(told_when_durable(committer, owned)))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    assert journal.appends >= 3
    assert len(told) == 11
    assert all(upto <= written for upto, written in told)
    assert [entry.sequence for entry in journal.entries[0]] == list(range(1, 13))


async def test_a_journal_that_lost_commits_freezes_the_shard() -> None:
    """The head is below what was acknowledged: nothing is told as durable, a person is called."""
    journal, owned = MemoryJournal(), owned_shard()
    async with committing_to(journal) as (committer, lost):
        deposit(owned, 3)
        await committer.durable(owned)
        journal.entries[0].pop()
        journal.faults = [False]
        deposit(owned)
        with pytest.raises(ShardFrozen):
            await committer.durable(owned)
        assert lost == [owned]
        assert "acknowledged" in journal.frozen[0]


async def test_a_freeze_is_recorded_once_the_database_is_back() -> None:
    """Otherwise a restart would go on where a person has to look, and nobody could release the shard."""
    journal, owned, other = MemoryJournal(), owned_shard(), owned_shard(1)
    journal.freeze_faults = 3
    async with committing_to(journal) as (committer, lost):
        committer.mark_broken(owned, "does not fit")
        deposit(other)
        await committer.durable(other)
        await journal.recorded.wait()
        assert lost == [owned]
    assert committer.statistics().frozen_shards == 1


async def test_an_append_in_flight_when_its_shard_is_condemned_is_answered_and_what_came_later_is_not() -> None:
    """The entries were decided on a good state and are durable; the rest is thrown away."""
    journal, owned = MemoryJournal(), owned_shard()
    async with committing_to(journal) as (committer, _):
        deposit(owned)
        first = committer.durable(owned)
        await journal.asked.wait()
        deposit(owned)
        second = committer.durable(owned)
        committer.mark_broken(owned, "does not fit")
        await first
        with pytest.raises(ShardFrozen):
            await second
        with pytest.raises(ShardFrozen):
            await committer.durable(owned)
    assert len(journal.entries[0]) == 2


async def test_a_stolen_shard_loses_its_waiters_only() -> None:
    """The rest of the batch is appended again, once."""
    journal, mine, stolen = MemoryJournal(), owned_shard(0), owned_shard(1)
    journal.stolen = {1}
    async with committing_to(journal) as (committer, lost):
        deposit(mine)
        deposit(stolen)
        waits, fails = committer.durable(mine), committer.durable(stolen)
        await waits
        with pytest.raises(ShardLost):
            await fails
        assert lost == [stolen]
    assert len(journal.entries[0]) == 2
    assert 1 not in journal.entries


async def test_giving_a_memory_up_does_not_forget_the_work_of_the_one_loaded_since() -> None:
    """A frozen shard was unfrozen and loaded again before its freeze was done with."""
    journal, old, new = MemoryJournal(), owned_shard(), owned_shard()
    async with committing_to(journal) as (committer, _):
        committer.mark_broken(old, "does not fit")
        deposit(new)
        await committer.durable(new)
        assert new.confirmed == 2


async def test_a_read_of_a_stolen_shard_is_not_answered() -> None:
    """Nothing to append, and still the fence is asked."""
    journal, owned = MemoryJournal(), owned_shard()
    journal.stolen = {0}
    async with committing_to(journal) as (committer, _):
        with pytest.raises(ShardLost):
            await committer.durable(owned)


async def test_the_same_batch_in_doubt_again_and_again_does_not_hammer_the_database() -> None:
    """A full disk: each try would cost every shard an epoch."""
    journal, owned = MemoryJournal(), owned_shard()
    journal.faults = [False] * 1_000
    async with committing_to(journal) as (committer, _):
        deposit(owned)
        waiting = committer.durable(owned)
        await asyncio.sleep(0.5)
        assert journal.appends < 10
        journal.faults = []
        await waiting


def test_whatever_breaks_while_applying_condemns_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half applied, it must not be served on as if only one command had failed."""

    def broken(_state: Any, _entry: Any) -> None:
        raise OverflowError("in the middle")

    monkeypatch.setattr("betting.bets.shard.apply", broken)
    with pytest.raises(CannotApply, match="in the middle"):
        deposit(owned_shard())


def test_a_lost_shard_is_not_held() -> None:
    """Its memory stands for nothing."""
    owned = owned_shard()
    assert owned.held
    owned.lose(ShardPhase.LOST, "stolen")
    assert not owned.held


async def test_a_lost_memory_does_not_push_its_successor_out_of_the_queue() -> None:
    """A snapshot or a cold read may still hold the old one; who waits for the new one is answered."""
    journal = MemoryJournal()
    async with committing_to(journal) as (committer, _):
        old = owned_shard()
        deposit(old)
        await committer.durable(old)
        old.lose(ShardPhase.LOST, "stolen, and taken back")
        state = ShardState(0)
        for entry in journal.entries[0]:
            apply(state, entry)
        new = OwnedShard(state, 1, 0)
        deposit(new)
        waiting, late = committer.durable(new), committer.durable(old)
        with pytest.raises(ShardLost):
            await late
        async with asyncio.timeout(5):
            await waiting
