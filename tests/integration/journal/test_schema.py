"""Migrations, installation, and the daily partitions of the request keys."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

import asyncpg
import psycopg
import pytest
from scribe import Scribe, own

from betting.journal import install, migrate, partitions, requests, schema
from betting.journal.connection import connect
from betting.release import version

MIDNIGHT_US = int(datetime(2026, 3, 15, tzinfo=UTC).timestamp()) * 1_000_000
DAY_US = 86_400_000_000


def empty_database(database: Any, name: str) -> str:
    admin = database.dsn.rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(database.dsn).rsplit("/", 1)[0] + f"/{name}"


async def test_several_processes_migrate_at_once(database: Any) -> None:
    """Four start together: each migration is applied by one of them, and all find the schema current."""
    dsn = empty_database(database, "migrated_by_four")
    answers = await asyncio.gather(*(asyncio.to_thread(migrate.migrate, dsn) for _ in range(4)))
    applied = [name for answer in answers for name in answer]
    assert sorted(applied) == schema.migration_ids()
    connection = await connect(dsn, "test")
    assert not (await schema.look(connection)).pending
    await connection.close()


async def test_an_unmigrated_database_says_what_is_missing(database: Any) -> None:
    """A service can refuse to start on an old schema, and name the migrations; migrating again applies only those."""
    dsn = empty_database(database, "not_migrated")
    connection = await asyncpg.connect(dsn)
    assert list((await schema.look(connection)).pending) == schema.migration_ids()
    await asyncio.to_thread(migrate.migrate, dsn)
    await connection.execute("DROP TABLE betting.consumer_positions")
    await connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = '0006.streams'")
    assert list((await schema.look(connection)).pending) == ["0006.streams"]
    assert await asyncio.to_thread(migrate.migrate, dsn) == ["0006.streams"]
    await connection.close()


async def test_an_installation_has_an_id_of_its_own_that_stays(database: Any) -> None:
    """Also one that was made before there were ids; a database in which no platform is installed has none."""
    found = []
    for name in ("with_an_id", "with_another_id"):
        dsn = empty_database(database, name)
        await asyncio.to_thread(migrate.migrate, dsn)
        connection = await connect(dsn, "test")
        assert await install.installation(connection) == ""
        await install.initialise(connection, 4)
        found.append(str(uuid.UUID(await install.installation(connection))))
        await install.initialise(connection, 4)
        assert await install.installation(connection) == found[-1]
        await connection.execute("ALTER TABLE betting.install DROP COLUMN installation")
        await connection.execute("DELETE FROM betting.compatible_migrations WHERE migration_id = '0132.installation'")
        await connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = '0132.installation'")
        assert await install.installation(connection) == ""
        assert await asyncio.to_thread(migrate.migrate, dsn) == ["0132.installation"]
        found.append(str(uuid.UUID(await install.installation(connection))))
        await connection.close()
    assert len(set(found)) == 4


async def test_a_migration_of_a_newer_release_is_refused(database: Any) -> None:
    """Nothing is applied, and the message has both versions; who made it is not known, or was recorded."""
    dsn = empty_database(database, "migrated_by_a_newer_release")
    await asyncio.to_thread(migrate.migrate, dsn)
    connection = await asyncpg.connect(dsn)
    assert (await schema.look(connection)).release == version()
    await connection.execute("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')")
    await connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = '0006.streams'")
    with pytest.raises(schema.UnknownSchema, match=r"does not know: it has schema 9000\.future, made by a newer rel"):
        await asyncio.to_thread(migrate.migrate, dsn)
    found = await schema.look(connection)
    assert (found.pending, found.unknown) == (("0006.streams",), ("9000.future",))
    assert await asyncio.to_thread(migrate.check, dsn) == found
    await connection.close()


@pytest.mark.parametrize(
    ("oldest", "unknown"),
    [("0001.journal", ()), ("8000.between", ("9000.future",))],
    ids=["any release", "only one that knows another that this one does not"],
)
async def test_a_newer_migration_may_say_that_this_release_can_run_with_it(
    database: Any, oldest: str, unknown: tuple[str, ...]
) -> None:
    """So an old pod that restarts between the migration and the end of a roll comes back, and so does a rollback."""
    dsn = empty_database(database, f"migrated_compatibly_{len(unknown)}")
    await asyncio.to_thread(migrate.migrate, dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '9000.future')")
    await connection.execute("INSERT INTO betting.compatible_migrations VALUES ('9000.future', $1)", oldest)
    found = await schema.look(connection)
    await connection.close()
    assert (found.unknown, bool(found.refusal)) == (unknown, bool(unknown))
    assert (found.pending, found.newest) == ((), "9000.future")
    assert await asyncio.to_thread(migrate.check, dsn) == found
    if unknown:
        with pytest.raises(schema.UnknownSchema):
            await asyncio.to_thread(migrate.migrate, dsn)
    else:
        assert await asyncio.to_thread(migrate.migrate, dsn) == []


async def test_every_migration_since_the_first_that_could_says_whether_older_releases_may_run_with_it() -> None:
    """By its row, or by a line `-- incompatible: why`: nobody forgets it, and no row is of another migration."""
    folder = files("betting.journal") / "migrations"
    for name in schema.migration_ids():
        if name < "0131":
            continue
        text = (folder / f"{name}.sql").read_text("utf-8")
        rows = re.findall(r"INSERT INTO betting\.compatible_migrations [^;]*VALUES \('([^']+)', '([^']+)'\)", text)
        if "-- incompatible: " in text:
            assert rows == []
            continue
        [(marked, oldest)] = rows
        assert marked == name
        assert oldest in schema.migration_ids()


async def test_a_failing_migration_leaves_nothing_behind(database: Any) -> None:
    """Half of a migration is rolled back and not noted; the error names it."""
    dsn = empty_database(database, "half_migrated")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE SCHEMA betting; CREATE TABLE betting.requests (x int)")
    with pytest.raises(migrate.MigrationFailed, match=r"0001\.journal"):
        await asyncio.to_thread(migrate.migrate, dsn)
    assert list((await schema.look(connection)).pending) == schema.migration_ids()
    assert await connection.fetchval("SELECT to_regclass('betting.journal')") is None
    await connection.close()


async def test_a_migration_does_not_wait_long_for_a_table(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for the table meanwhile would wait behind it. It changes nothing, says so, and works the next time."""
    monkeypatch.setattr(migrate, "TABLE_LOCK_TIMEOUT", "100ms")
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("DROP TABLE betting.flight_records")
    await connection.execute("DELETE FROM public._yoyo_migration WHERE migration_id = '0111.flight_records'")
    # A foreign transaction that holds what the migration needs: the name of the table it creates.
    async with connection.transaction():
        await connection.execute("CREATE TABLE betting.flight_records (number bigint)")
        with pytest.raises(migrate.MigrationFailed, match=r"0111.flight_records waited 100ms .* run this again"):
            await asyncio.to_thread(migrate.migrate, database.dsn)
        await connection.execute("DROP TABLE betting.flight_records")
    assert await asyncio.to_thread(migrate.migrate, database.dsn) == ["0111.flight_records"]
    await connection.close()


async def test_the_number_of_shards_is_fixed(connection: asyncpg.Connection) -> None:
    """Installing again is harmless, with another number it is refused and changes nothing."""
    assert await install.initialise(connection, 4) == 0
    with pytest.raises(install.AlreadyInstalled, match="4 shards, not 8"):
        await install.initialise(connection, 8)
    with pytest.raises(ValueError, match="at least 1"):
        await install.initialise(connection, 0)
    assert await install.shard_count(connection) == 4
    assert await connection.fetchval("SELECT array_agg(shard_id ORDER BY shard_id) FROM betting.shards") == [0, 1, 2, 3]


async def test_installing_at_once_is_one_installation(database: Any) -> None:
    """Eight processes that install together agree."""
    connections = [await connect(database.dsn, f"installer-{n}") for n in range(8)]
    created = await asyncio.gather(*(install.initialise(connection, 16) for connection in connections))
    assert sum(created) == 16
    for connection in connections:
        await connection.close()


@pytest.fixture
async def bare(database: Any) -> Any:
    """A migrated database without daily partitions."""
    connection = await connect(database.dsn, "test")
    await install.initialise(connection, 1)
    yield connection
    await connection.close()


async def partition_of(connection: asyncpg.Connection, key: bytes) -> str:
    name: str = await connection.fetchval(
        "SELECT c.relname FROM betting.requests r JOIN pg_class c ON c.oid = r.tableoid WHERE r.request_key = $1", key
    )
    return name


async def test_keys_on_either_side_of_midnight_have_their_own_days(bare: asyncpg.Connection) -> None:
    """The last millisecond of a day and the first of the next fall into two partitions."""
    before = await partitions.maintain_partitions(bare, MIDNIGHT_US - 1)
    assert before.created[0] == "requests_20260314"
    assert len(before.created) == partitions.DAYS_AHEAD + 1
    after = await partitions.maintain_partitions(bare, MIDNIGHT_US)
    assert after == (("requests_20260322",), (), 0)
    await own(bare, [0])
    scribe = Scribe(0, MIDNIGHT_US - 3_000)  # a key each millisecond: 23:59:59.998, .999, 00:00:00.000
    for _ in range(3):
        scribe.deposit(bytes(16), 1)
    keys = [entry.request_key for entry in await scribe.commit(bare) if entry.request_key is not None]
    days = [await partition_of(bare, key) for key in keys]
    assert days == ["requests_20260314", "requests_20260314", "requests_20260315"]


async def test_strays_move_into_their_day(bare: asyncpg.Connection) -> None:
    """Keys used while their day had no partition lie in the default one, and are found before and after they move."""
    await own(bare, [0])
    scribe = Scribe(0, MIDNIGHT_US)
    scribe.deposit(bytes(16), 1)
    key = (await scribe.commit(bare))[1].request_key
    assert key is not None
    assert await partition_of(bare, key) == "requests_default"
    assert (0, key) in await requests.find(bare, [(0, key)])
    await partitions.maintain_partitions(bare, MIDNIGHT_US)
    assert await partition_of(bare, key) == "requests_20260315"
    assert (0, key) in await requests.find(bare, [(0, key)])


async def test_old_days_are_dropped_and_recent_ones_stay(bare: asyncpg.Connection) -> None:
    """A key can be used for thirty days; its partition outlives that, then goes, and old strays with it."""
    await own(bare, [0])
    stray = Scribe(0, MIDNIGHT_US - 3 * DAY_US)
    stray.deposit(bytes(16), 1)
    await stray.commit(bare)
    await partitions.maintain_partitions(bare, MIDNIGHT_US)
    kept = await partitions.maintain_partitions(bare, MIDNIGHT_US + 31 * DAY_US)
    assert kept.dropped == ()
    later = await partitions.maintain_partitions(bare, MIDNIGHT_US + 32 * DAY_US)
    assert later.dropped == ("requests_20260315",)
    assert kept.strays_deleted + later.strays_deleted == 1
    assert await bare.fetchval("SELECT count(*) FROM betting.requests") == 0


async def test_maintenance_by_several_at_once(database: Any, bare: asyncpg.Connection) -> None:
    """Each partition is made by one of them, nobody fails."""
    connections = [await connect(database.dsn, f"maintainer-{n}") for n in range(4)]
    done = await asyncio.gather(*(partitions.maintain_partitions(c, MIDNIGHT_US) for c in connections))
    names = [name for maintained in done for name in maintained.created]
    assert sorted(names) == [partitions.partition_name(date(2026, 3, 15) + timedelta(days=n)) for n in range(8)]
    for connection in connections:
        await connection.close()


async def test_appends_go_on_while_partitions_are_made(database: Any, bare: asyncpg.Connection) -> None:
    """An append that is held open blocks no maintenance, nor is it blocked."""
    writer = await connect(database.dsn, "writer")
    await own(writer, [0])
    scribe = Scribe(0, MIDNIGHT_US)
    await partitions.maintain_partitions(bare, MIDNIGHT_US)
    async with writer.transaction():
        scribe.deposit(bytes(16), 1)
        await scribe.commit(writer)
        made = await partitions.maintain_partitions(bare, MIDNIGHT_US + DAY_US)
        assert made.created == ("requests_20260323",)
        scribe.deposit(bytes(16), 1)
        await scribe.commit(writer)
    await writer.close()
