"""What the operator reads of a platform's database, while connections break and statements hang."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from betting.journal import directory
from betting.journal.schema import migration_ids
from betting.life import Life
from betting_operator.healer.database import HealerDatabase
from betting_operator.kubernetes.facts import PROCESS_NAME, FactsReader, FactsUnknown


@pytest.fixture
async def reader() -> AsyncIterator[FactsReader]:
    made = FactsReader()
    yield made
    await made.close()


@pytest.fixture
async def person(database: Any) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection to the same database."""
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


async def test_a_connection_that_was_cut_meanwhile_says_nothing_about_the_database(
    database: Any, reader: FactsReader, person: asyncpg.Connection
) -> None:
    before = await reader.read(database.dsn)
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
    assert await person.fetchval(cut, PROCESS_NAME) == 1
    assert await reader.read(database.dsn) == before


async def test_a_database_that_accepts_connections_and_answers_nothing_is_not_waited_for(
    database: Any, reader: FactsReader, person: asyncpg.Connection
) -> None:
    """The operator has other things to do than to wait for it."""
    before = await reader.read(database.dsn)
    async with person.transaction():
        await person.execute("LOCK TABLE betting.shards IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(FactsUnknown, match="no answer within 2 s"):
            await reader.read(database.dsn)
    assert await reader.read(database.dsn) == before


async def test_a_database_without_our_tables_is_none_of_ours(database: Any, reader: FactsReader) -> None:
    with pytest.raises(FactsUnknown):
        await reader.read(database.dsn.rpartition("/")[0] + "/postgres")


async def test_where_nobody_answers_is_named_and_never_the_password(reader: FactsReader, unused_tcp_port: int) -> None:
    with pytest.raises(FactsUnknown, match=f"^127.0.0.1:{unused_tcp_port}: ") as unknown:
        await reader.read(f"postgresql://u:hidden@127.0.0.1:{unused_tcp_port}/d")
    assert "hidden" not in str(unknown.value)


async def test_an_address_that_is_none_is_said(reader: FactsReader) -> None:
    with pytest.raises(FactsUnknown):
        await reader.read("postgresql://u:p@127.0.0.1:port/d")


async def test_a_standby_is_no_database_to_work_with(
    database: Any, reader: FactsReader, person: asyncpg.Connection
) -> None:
    """It has the same installation and answers what is asked, but takes no writes. It may be the primary later."""
    before = await reader.read(database.dsn)
    name = database.dsn.rpartition("/")[2]
    await person.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await reader.close()
    with pytest.raises(FactsUnknown, match="it takes no writes: is this the address of a standby"):
        await reader.read(database.dsn)
    async with person.transaction(readonly=False):
        await person.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert await reader.read(database.dsn) == before


async def test_the_formats_that_every_bet_service_reads_are_told_and_where_none_runs_none(
    database: Any, reader: FactsReader, person: asyncpg.Connection
) -> None:
    """One that they all read may have been written: the version before must read it too, or is not gone back to."""
    healer = HealerDatabase(database.dsn, "healer")
    assert (await reader.read(database.dsn)).formats == ()
    assert (await healer.stored()).read == ()
    for name, formats in (("bet-service-1", [1, 2, 3]), ("bet-service-2", [2, 3]), ("bet-service-3", [9])):
        life = Life("bet-service", name, "1")
        await directory.register(person, life, "127.0.0.1:1", formats)
    await person.execute("UPDATE betting.instances SET exited = true WHERE instance = 'bet-service-3'")
    facts = await reader.read(database.dsn)
    assert (facts.formats, facts.running) == ((2, 3), ("bet-service-1", "bet-service-2"))
    stored = await healer.stored()
    assert stored.read == (2, 3)
    assert stored.migrations == frozenset(migration_ids())
    await healer.close()
