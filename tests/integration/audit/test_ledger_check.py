"""The healer's cheap look at the books: it holds on a whole season, and finds what breaks them."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from betting.journal import connection, ledger_check


async def problems(dsn: str, after: int = 0) -> dict[int, str]:
    """Shards whose books do not balance."""
    database = await connection.connect(dsn, "test")
    try:
        positions = await ledger_check.positions(database)
        books = {shard: await ledger_check.look(database, shard, after) for shard in positions}
        assert {shard: found.upto for shard, found in books.items()} == positions
    finally:
        await database.close()
    return {shard: found.problem for shard, found in books.items() if found.problem}


async def test_a_season_holds(audited: Any, season: Any) -> None:
    """Singles, accumulators, corrected results, repaid debts; from the beginning and from the middle."""
    audited.write(season)
    assert await problems(audited.dsn) == {}
    assert await problems(audited.dsn, after=7) == {}


async def test_it_waits_for_the_read_models(audited: Any, season: Any) -> None:
    """Entries they do not hold yet are not looked at."""
    audited.write(season, watermark=9)
    assert await problems(audited.dsn) == {}


FIRST = "(SELECT min(sequence) FROM betting.journal j WHERE j.shard = t.shard AND kind = {kind})"
CANARIES = [
    (
        "a balance that was not told",
        "UPDATE betting.balances SET cash_minor = cash_minor + 1",
        "the balance it told is not the balance",
    ),
    ("an account below zero", "UPDATE betting.balances SET cash_minor = cash_minor - 1000000000", "below zero"),
    (
        "an entry that is gone",
        "DELETE FROM betting.journal t WHERE sequence = " + FIRST.format(kind=10),
        "entries before it are missing",
    ),
    (
        "more money than was paid in",
        "UPDATE betting.journal t SET cash_minor = cash_minor + 1, clearing_minor = clearing_minor - 1 WHERE sequence ="
        + FIRST.format(kind=2),
        "its amount is not the one it names",
    ),
    (
        "a larger stake than was placed",
        "UPDATE betting.journal t SET cash_minor = cash_minor - 1, stakes_minor = stakes_minor + 1 WHERE sequence = "
        + FIRST.format(kind=10),
        "its amount is not the one it names",
    ),
    (
        "a larger payout than was due",
        "UPDATE betting.journal t SET cash_minor = cash_minor + 1, house_minor = house_minor - 1 WHERE sequence = "
        + FIRST.format(kind=21),
        "its amount is not the one it names",
    ),
]


@pytest.mark.parametrize(("name", "statement", "says"), CANARIES, ids=[each[0] for each in CANARIES])
async def test_caught(audited: Any, season: Any, name: str, statement: str, says: str) -> None:
    """With the entry to look at and what is wrong with it."""
    audited.write(season)
    audited.tamper(statement)
    found = await problems(audited.dsn)
    assert found, name
    assert all(problem.startswith("entry ") for problem in found.values())
    assert any(says in problem for problem in found.values())


async def test_only_the_newest_are_looked_at(audited: Any, season: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there were since the last look; what is older is the audit's."""
    audited.write(season)
    audited.tamper("DELETE FROM betting.journal WHERE sequence = 2")
    assert await problems(audited.dsn)
    monkeypatch.setattr(ledger_check, "MAX_ENTRIES", 3)
    assert await problems(audited.dsn) == {}


async def test_a_shard_that_is_not_there(database: Any) -> None:
    """Nothing to look at."""
    connected = await asyncpg.connect(database.dsn)
    assert await ledger_check.look(connected, 999, 5) == (5, "")
    await connected.close()
