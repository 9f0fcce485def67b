"""A correction's chunk that is cut across two appends, by an owner that dies between them, corrects nobody twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import asyncpg
from scribe import ADDRESS, LIMITS, OWNER, Scribe, own

from betting.bets import takeover
from betting.bets.clock import DatabaseClock
from betting.bets.committer import MAX_BATCH_ENTRIES, Committer
from betting.bets.journal_link import JournalLink
from betting.bets.settling import Settler
from betting.bets.shard import OwnedShard
from betting.engine.commands import ColdBet, ColdPage, Deposit, SettleChunk
from betting.engine.entries import Kind
from betting.engine.state import ShardState
from betting.journal import ownership, projector, read_model
from betting.journal.append import Appended, ShardEntries
from betting.journal.connection import prepare
from betting.life import Life
from betting.runtime.clock import now_us
from betting.runtime.ids import uuid7_from

USER = bytes(range(16))
NEXT = "bet-service-2@0000"
BETS = 200
OUTCOMES = {1: 5, 2: 1}


class DiesAfterOneAppend(JournalLink):
    """As a SIGKILL between two appends."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, OWNER, ADDRESS)
        self.died = asyncio.Event()
        self._appends = 0

    async def append(self, batch: list[ShardEntries]) -> Appended:
        self._appends += 1
        if self._appends > 1:
            self.died.set()
            await asyncio.Event().wait()
        return await super().append(batch)


async def _nothing(_owned: OwnedShard) -> None:
    return None


async def test_who_takes_over_in_the_middle_of_a_chunk_corrects_no_bet_again(
    installed: str, connecting: Any, connection: asyncpg.Connection
) -> None:
    """The cursor comes last and is not durable; the read model has to catch up with the corrections that are."""
    await own(connection, (0, 1))
    scribe = Scribe(0, now_us())
    scribe.deposit(USER, 1_000_000)
    for _ in range(BETS):
        scribe.place(USER, 100, [(1, 1)])
    scribe.result(1, 1, {1: 1, 2: 5})  # all lost
    scribe.settle_open(1, 1)
    await scribe.commit(connection)
    scribe.result(1, 2, OUTCOMES)  # all won after all
    await scribe.commit(connection)
    await projector.project(connection, 0)
    clock = DatabaseClock()
    await clock.read(connection)
    await _die_in_the_middle(installed, connection, scribe, clock)

    taken = await ownership.steal(connection, 0, NEXT, ADDRESS, 1)
    assert taken is not None
    loaded = await takeover.load(connection, 0, taken.head_sequence)
    owned = OwnedShard(loaded.state, taken.epoch, 0)
    half = await _corrections(connection)
    assert 0 < half < BETS, "the chunk was not cut"
    await _go_on(installed, connection, owned, clock, await connecting("projector"))
    assert await _corrections(connection) == BETS
    [account] = owned.state.accounts.values()
    assert account.cash_minor == 1_000_000 + BETS * 100


async def _die_in_the_middle(dsn: str, connection: asyncpg.Connection, scribe: Scribe, clock: DatabaseClock) -> None:
    """Another shard is busy, so that the append ends in the middle of the chunk."""
    await ownership.register(connection, Life.parse("bet-service", OWNER), ADDRESS, [1])
    link = DiesAfterOneAppend(dsn)
    committer = Committer(link, clock, lambda *_: None, _nothing)
    busy, settling = OwnedShard(ShardState(1), 1, 0), OwnedShard(scribe.state, 1, 0)
    for number in range(MAX_BATCH_ENTRIES - 100):
        key = uuid7_from(now_us() * 1_000, number.to_bytes(8, "big"))
        busy.execute(Deposit(key, bytes(16), b"GBP", 1), now_us(), LIMITS)
    sequence = settling.state.results[1].sequence
    rows = await read_model.cold_bets(connection, 0, 1, sequence, bytes(16), 250)
    totals = await read_model.version_totals(connection, 0, 1, 1)
    bets = tuple(ColdBet(row.bet, row.record, row.settlements, row.payout_minor) for row in rows)
    page = ColdPage(b"", bets, True, totals.bets, totals.payout_minor)
    settling.execute(SettleChunk(1, 2, 250, page), now_us(), LIMITS)
    waiting = [committer.durable(busy), committer.durable(settling)]
    task = asyncio.create_task(committer.run())
    await link.died.wait()
    task.cancel()
    await asyncio.wait([task])
    await link.close()
    for each in waiting:
        each.cancel()


async def _go_on(
    dsn: str, connection: asyncpg.Connection, owned: OwnedShard, clock: DatabaseClock, projecting: asyncpg.Connection
) -> None:
    """The next owner settles; the projector is late."""
    await ownership.register(connection, Life.parse("bet-service", NEXT), ADDRESS, [1])
    link = JournalLink(dsn, NEXT, ADDRESS)
    committer = Committer(link, clock, lambda *_: None, _nothing)
    instance: Any = SimpleNamespace(shards={0: owned}, clock=clock, limits=LIMITS, committer=committer)

    async def project_late() -> None:
        await asyncio.sleep(0.5)
        while True:
            await projector.project(projecting, 0)
            await asyncio.sleep(0.05)

    async with asyncpg.create_pool(dsn, init=prepare, min_size=1, max_size=3) as pool:
        tasks = [asyncio.create_task(committer.run()), asyncio.create_task(project_late())]
        try:
            async with asyncio.timeout(20):
                await Settler(instance, pool)._drive(owned, 1, 2, OUTCOMES)
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
            await link.close()


async def _corrections(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval(
        "SELECT count(*) FROM betting.journal WHERE shard = 0 AND kind = $1", int(Kind.BET_RESETTLED)
    )
    return found
