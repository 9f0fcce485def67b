"""The read models against the engine's own state: derived in any number of steps, by any number of projectors."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from scribe import MARKETS, Scribe, busy, dump, own, settle, users_of

from betting.engine.entries import Kind
from betting.engine.ids import account_id
from betting.journal import projector, read_model
from betting.runtime.clock import now_us

USERS = users_of(0)


async def project_all(connection: asyncpg.Connection, shard: int, step: int) -> int:
    """In steps of so many entries; returns how many steps did something."""
    steps = 0
    while True:
        done = await projector.project(connection, shard, step)
        assert done is not None
        if done.to_sequence == done.from_sequence:
            assert done.lag_entries == 0
            return steps
        assert done.to_sequence - done.from_sequence <= step
        steps += 1


BALANCE = """
SELECT a.user_id, a.currency, b.cash_minor, b.open_stakes_minor, b.receivable_minor
FROM betting.accounts a JOIN betting.balances b USING (account) WHERE account = $1
"""


async def assert_read_models_agree(connection: asyncpg.Connection, scribe: Scribe) -> None:
    """Balances, bets and their number against the state the engine holds."""
    state = scribe.state
    for account, known in state.accounts.items():
        row = await connection.fetchrow(BALANCE, account)
        assert tuple(row) == (
            known.user, known.currency.decode(), known.cash_minor, known.open_stakes_minor, known.receivable_minor,
        )  # fmt: skip
        moved = await read_model.transactions(connection, account, 10_000)
        assert sum(transaction.cash_minor for transaction in moved) == known.cash_minor
        assert sum(transaction.receivable_minor for transaction in moved) == known.receivable_minor
        stands = await connection.fetch("SELECT bet FROM betting.bets WHERE account = $1 AND status = 1", account)
        assert {r[0] for r in stands} == set(known.open_bets)
    for bet, record in state.open_bets.items():
        found = (await read_model.bets_by_id(connection, [bet])).get(bet)
        assert found is not None
        assert (found.record, found.status, found.payout_minor) == (record, read_model.OPEN, None)
    assert await connection.fetchval("SELECT count(*) FROM betting.bets") == state.bets_accepted


@pytest.mark.parametrize("step", [1, 7, 5_000])
async def test_read_models_agree_with_the_engine(connection: asyncpg.Connection, step: int) -> None:
    """Bets, settlements, a correction that turns winners into losers: the same tables whatever the steps."""
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    busy(scribe, seed=11)
    for market in (1, 2, 3):
        assert settle(scribe, market, 1, winner=1)
    entries = await scribe.commit(connection)
    steps = await project_all(connection, 0, step)
    assert steps == -(-len(entries) // step)
    await assert_read_models_agree(connection, scribe)

    for user in USERS:
        scribe.withdraw(user, scribe.state.accounts[account_id(user, b"GBP")].cash_minor or 1)
    assert not settle(scribe, 1, 2, winner=2)
    await scribe.commit(connection)
    await project_all(connection, 0, step)
    await scribe.settle_cold(connection, 1, 2, chunk=9)
    made = await scribe.commit(connection)
    assert {Kind.BET_RESETTLED, Kind.MARKET_SETTLED} <= {entry.kind for entry in made}
    await project_all(connection, 0, step)
    await assert_read_models_agree(connection, scribe)
    assert any(known.receivable_minor for known in scribe.state.accounts.values())
    for market in (1, 2, 3):
        result = scribe.state.results[market]
        totals = await read_model.version_totals(connection, 0, market, result.version)
        assert totals[:2] == (result.bets, result.payout_minor)
        assert totals.closed_sequence is not None


async def markets_with_legs(connection: asyncpg.Connection) -> list[int]:
    return [row[0] for row in await connection.fetch("SELECT market FROM betting.bet_legs ORDER BY market")]


async def test_a_reopened_bet_is_open_again(connection: asyncpg.Connection) -> None:
    """A double lost on one leg opens again when that leg is corrected and the other has no result yet.

    Its legs are found from its first settlement on, each once.
    """
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    scribe.deposit(USERS[0], 100)
    scribe.place(USERS[0], 10, [(1, 1), (2, 1)])
    assert settle(scribe, 1, 1, winner=2)
    await scribe.commit(connection)
    await project_all(connection, 0, 100)
    (settled,) = await read_model.settled_bets(connection, account_id(USERS[0], b"GBP"), 10)
    assert (settled.payout_minor, settled.settlements) == (0, 1)
    assert await markets_with_legs(connection) == [1, 2]
    assert not settle(scribe, 1, 2, winner=1)
    await scribe.commit(connection)
    await project_all(connection, 0, 100)
    await scribe.settle_cold(connection, 1, 2)
    await scribe.commit(connection)
    await project_all(connection, 0, 100)
    bet = (await read_model.bets_by_id(connection, [settled.bet]))[settled.bet]
    assert (bet.status, bet.payout_minor, bet.settled_sequence, bet.settlements) == (read_model.OPEN, None, None, 1)
    assert await read_model.settled_bets(connection, bet.account, 10) == []
    assert settle(scribe, 2, 1, winner=1)
    await scribe.commit(connection)
    await project_all(connection, 0, 100)
    (again,) = await read_model.settled_bets(connection, bet.account, 10)
    assert (again.payout_minor, again.settlements, again.status) == (40, 2, read_model.SETTLED)
    assert await markets_with_legs(connection) == [1, 2]
    await assert_read_models_agree(connection, scribe)


async def test_pages_of_settled_bets_and_transactions(connection: asyncpg.Connection) -> None:
    """Newest first; pages join without a gap or a repeat."""
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    busy(scribe, seed=5)
    for market in MARKETS:
        settle(scribe, market, 1, winner=2)
    await scribe.commit(connection)
    await project_all(connection, 0, 5_000)
    account = account_id(USERS[3], b"GBP")
    whole = await read_model.settled_bets(connection, account, 1_000)
    assert len(whole) > 7
    assert [b.settled_sequence for b in whole] == sorted((b.settled_sequence or 0 for b in whole), reverse=True)
    paged: list[read_model.BetRow] = []
    before = read_model.FIRST_PAGE
    while page := await read_model.settled_bets(connection, account, 3, before):
        paged += page
        before = page[-1].settled_sequence or 0
    assert paged == whole
    moved = await read_model.transactions(connection, account, 1_000)
    first = await read_model.transactions(connection, account, 4)
    assert first == moved[:4]
    assert await read_model.transactions(connection, account, 4, first[-1].sequence) == moved[4:8]
    assert moved[-1].kind == Kind.DEPOSITED


async def test_cold_bets_are_those_settled_before(connection: asyncpg.Connection) -> None:
    """Only settled bets with a leg on the market, by id, of the shard asked for, and settled early enough."""
    await own(connection, [0, 1])
    scribes = [Scribe(shard, now_us()) for shard in (0, 1)]
    for scribe in scribes:
        busy(scribe, seed=3 + scribe.state.shard)
        settle(scribe, 1, 1, winner=1)
        await scribe.commit(connection)
        await project_all(connection, scribe.state.shard, 5_000)
    scribe = scribes[0]
    head = scribe.state.head
    whole = await read_model.cold_bets(connection, 0, 1, head + 1, bytes(16), 1_000)
    expected = await connection.fetch("SELECT bet FROM betting.bets WHERE shard = 0 AND status = 2 ORDER BY bet")
    assert [row.bet for row in whole] == [row[0] for row in expected]
    assert await read_model.cold_bets(connection, 0, 1, head + 1, whole[4].bet, 3) == whole[5:8]
    first = await connection.fetchval("SELECT min(settled_sequence) FROM betting.bets WHERE shard = 0")
    assert await read_model.cold_bets(connection, 0, 1, first, bytes(16), 10) == []
    assert await read_model.version_totals(connection, 0, 1, 2) == (0, 0, None)
    doubles = [
        row.bet
        for market in range(2, 7)
        for row in await read_model.cold_bets(connection, 0, market, head + 1, bytes(16), 1_000)
    ]
    assert doubles
    assert set(doubles) < {row.bet for row in whole}


async def test_running_again_changes_nothing(connection: asyncpg.Connection) -> None:
    """A projector that has nothing to do, or that is stopped half-way, leaves the tables as they are."""
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    busy(scribe, seed=9)
    settle(scribe, 1, 1, winner=1)
    entries = await scribe.commit(connection)
    assert await projector.project(connection, 0, 50) == (0, 50, len(entries) - 50)
    before = await dump(connection)
    undone = connection.transaction()
    await undone.start()
    await projector.project(connection, 0)
    await undone.rollback()
    assert await dump(connection) == before
    assert await read_model.watermark(connection, 0) == 50
    await project_all(connection, 0, 5_000)
    done = await dump(connection)
    assert await project_all(connection, 0, 5_000) == 0
    assert await dump(connection) == done
    assert await projector.lags(connection) == {0: 0, 1: 0, 2: 0, 3: 0}


async def test_two_projectors_never_collide(connecting: Any) -> None:
    """While one has a shard the other passes it by; together they do each entry once."""
    first, second = await connecting(), await connecting("second")
    await own(first, [0])
    scribe = Scribe(0, now_us())
    busy(scribe, seed=21)
    await scribe.commit(first)
    async with first.transaction():
        assert await projector.project(first, 0, 10) == (0, 10, len(await entries_left(first, 10)))
        assert await projector.project(second, 0, 10) is None

    async def work(connection: asyncpg.Connection) -> int:
        done = 0
        while True:
            projected = await projector.project(connection, 0, 3)
            if projected is None:
                await asyncio.sleep(0)
            elif projected.to_sequence == projected.from_sequence:
                return done
            else:
                done += projected.to_sequence - projected.from_sequence

    did = await asyncio.gather(work(first), work(second))
    assert sum(did) == scribe.state.head - 10
    await assert_read_models_agree(first, scribe)


async def entries_left(connection: asyncpg.Connection, after: int) -> list[Any]:
    rows: list[Any] = await connection.fetch("SELECT 1 FROM betting.journal WHERE shard = 0 AND sequence > $1", after)
    return rows


async def test_a_gap_in_the_journal_stops_the_projector(connection: asyncpg.Connection) -> None:
    """A missing entry is never projected over."""
    await own(connection, [0])
    scribe = Scribe(0, now_us())
    busy(scribe, seed=2, bets=3)
    await scribe.commit(connection)
    await connection.execute("ALTER TABLE betting.journal DISABLE TRIGGER append_only")
    await connection.execute("DELETE FROM betting.journal WHERE shard = 0 AND sequence = 4")
    with pytest.raises(asyncpg.RaiseError, match="gap"):
        await projector.project(connection, 0)
    assert await read_model.watermark(connection, 0) == 0
