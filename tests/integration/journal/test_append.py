"""The fenced group commit on a real Postgres."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from scribe import ADDRESS, OWNER, Scribe, own

from betting.engine.entries import Entry
from betting.journal import append, ownership, partitions, reader, requests
from betting.journal.append import AppendRejected, OutcomeUnknown, ShardEntries
from betting.runtime.clock import now_us

RIVAL = "bet-service-2@fedcba9876543210"
USER = bytes(range(16))


def scribe_with_money(shard: int = 0) -> Scribe:
    scribe = Scribe(shard, now_us())
    scribe.deposit(USER, 100_000)
    return scribe


async def count(connection: asyncpg.Connection, table: str) -> int:
    total: int = await connection.fetchval(f"SELECT count(*) FROM betting.{table}")
    return total


async def test_what_is_appended_is_read_back_unchanged(connection: asyncpg.Connection) -> None:
    """Every field of every kind of entry survives the journal, and so does the database's time."""
    await own(connection, [0])
    scribe = scribe_with_money()
    scribe.place(USER, 500, [(7, 1), (8, 2)])
    scribe.place(USER, 10**8, [(7, 1)])  # refused: not that much money
    scribe.result(7, 1, {1: 5, 2: 1})
    scribe.settle_open(7, 1)
    entries = scribe.take()
    before = now_us()
    answer = await append.append(connection, OWNER, [ShardEntries(0, 1, entries)])
    assert answer.matched == {0}
    assert before - 2_000_000 < answer.at_us < now_us() + 2_000_000
    assert await reader.read_entries(connection, 0, 0, 100) == entries
    assert await reader.head(connection, 0) == len(entries)
    assert {entry.kind for entry in entries} == {1, 2, 10, 11, 20, 22, 25}


async def test_reading_is_paged_by_sequence(connection: asyncpg.Connection) -> None:
    """A page starts after the sequence given and holds at most the limit."""
    await own(connection, [0])
    scribe = scribe_with_money()
    for _ in range(5):
        scribe.place(USER, 1, [(7, 1)])
    entries = await scribe.commit(connection)
    assert await reader.read_entries(connection, 0, 2, 3) == entries[2:5]
    assert await reader.read_entries(connection, 0, len(entries), 3) == []
    assert await reader.read_entries(connection, 1, 0, 3) == []


async def test_request_keys_are_found_with_their_entries(connection: asyncpg.Connection) -> None:
    """One query answers a batch of keys; an unknown key and a key of another shard are absent."""
    await own(connection, [0, 1])
    scribe = scribe_with_money()
    scribe.place(USER, 5, [(7, 1)])
    entries = await scribe.commit(connection)
    deposit, bet = entries[1], entries[2]
    assert deposit.request_key is not None
    assert bet.request_key is not None
    unknown = scribe.key()
    found = await requests.find(
        connection, [(0, deposit.request_key), (0, bet.request_key), (1, bet.request_key), (0, unknown)]
    )
    assert set(found) == {(0, deposit.request_key), (0, bet.request_key)}
    [prior] = found[0, bet.request_key]
    assert prior == (bet.sequence, bet.kind, bet.body, bet.account, bet.bet, bet.at_us)


async def test_a_key_of_two_users_leads_to_both_entries(connection: asyncpg.Connection) -> None:
    """A key belongs to its user; used twice by one account it is refused, whatever the owner believed."""
    await own(connection, [0])
    scribe = scribe_with_money()
    entries = await scribe.commit(connection)
    key = entries[1].request_key
    assert key is not None
    other = Scribe(0, scribe.now_us)
    other.deposit(bytes(16), 7)
    opened, deposit = other.take()
    head = entries[-1].sequence
    theirs = [opened._replace(sequence=head + 1), deposit._replace(sequence=head + 2, request_key=key)]
    await append.append(connection, OWNER, [ShardEntries(0, 1, theirs)])
    found = await requests.find(connection, [(0, key)])
    assert [prior.sequence for prior in found[0, key]] == [2, head + 2]
    with pytest.raises(AppendRejected) as problem:
        await append.append(connection, OWNER, [ShardEntries(0, 1, [theirs[1]._replace(sequence=head + 3)])])
    assert problem.value.sqlstate == "23505"


async def test_the_release_before_may_go_on_writing(connection: asyncpg.Connection) -> None:
    """While a release is rolled out old instances write keys without an account: they count, and are found."""
    await own(connection, [0])
    scribe = scribe_with_money()
    entries = await scribe.commit(connection)
    key = entries[1].request_key
    assert key is not None
    await connection.execute("DELETE FROM betting.requests")
    await connection.execute("INSERT INTO betting.requests SELECT $1::uuid, 0, 2::bigint", key)
    assert [prior.sequence for prior in (await requests.find(connection, [(0, key)]))[0, key]] == [2]


async def test_a_stale_owner_commits_nothing(connecting: Any) -> None:
    """Two owners at once: after a steal the old one's batch leaves no trace, the new one's is written."""
    old, new = await connecting(OWNER), await connecting(RIVAL)
    await own(old, [0])
    scribe = scribe_with_money()
    await scribe.commit(old)
    stolen = await ownership.steal(new, 0, RIVAL, ADDRESS, 1)
    assert stolen == (2, 2)
    scribe.place(USER, 5, [(7, 1)])
    entries = scribe.take()
    answer = await append.append(old, OWNER, [ShardEntries(0, 1, entries)])
    assert answer.matched == set()
    assert await reader.head(new, 0) == 2
    assert await count(new, "requests") == 1
    assert (await append.append(new, RIVAL, [ShardEntries(0, 2, entries)])).matched == {0}
    assert await reader.head(new, 0) == 3


async def test_a_batch_with_one_stolen_shard_writes_nothing_and_names_the_others(connecting: Any) -> None:
    """Of four shards one is lost: all or nothing, and the caller learns which to append again."""
    connection, rival = await connecting(OWNER), await connecting(RIVAL)
    await own(connection, [0, 1, 2, 3])
    await ownership.steal(rival, 2, RIVAL, ADDRESS, 1)
    batch = [ShardEntries(shard, 1, scribe_with_money(shard).take()) for shard in (3, 2, 1, 0)]
    answer = await append.append(connection, OWNER, batch)
    assert answer.matched == {0, 1, 3}
    assert await count(connection, "journal") == 0
    again = [part for part in batch if part.shard in answer.matched]
    assert (await append.append(connection, OWNER, again)).matched == {0, 1, 3}
    assert await count(connection, "journal") == 6


async def test_reads_check_the_fence_without_writing(connecting: Any) -> None:
    """A batch without entries says which shards are still owned, and takes no lock."""
    connection, rival = await connecting(OWNER), await connecting(RIVAL)
    await own(connection, [0, 1])
    await ownership.steal(rival, 1, RIVAL, ADDRESS, 1)
    async with connection.transaction():
        answer = await append.append(connection, OWNER, [ShardEntries(0, 1, ()), ShardEntries(1, 1, ())])
        assert answer.matched == {0}
        # No transaction id: it neither locked a row nor wrote, so its commit waits for no disk.
        assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text") is None
        assert await append.append(connection, OWNER, [ShardEntries(0, 1, scribe_with_money().take())])
        assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text") is not None


async def test_a_frozen_shard_takes_nothing(connection: asyncpg.Connection) -> None:
    """Freezing shuts the fence for the owner itself."""
    await own(connection, [0])
    assert await ownership.freeze(connection, 0, OWNER, 1, "test")
    answer = await append.append(connection, OWNER, [ShardEntries(0, 1, scribe_with_money().take())])
    assert answer.matched == set()
    assert await count(connection, "journal") == 0


def unbalanced(entry: Entry) -> Entry:
    return entry._replace(cash_minor=entry.cash_minor + 1)


def repeated_sequence(entry: Entry) -> Entry:
    return entry._replace(sequence=1)


def too_large(entry: Entry) -> Entry:
    return entry._replace(cash_minor=2**63)


@pytest.mark.parametrize(
    ("spoil", "sqlstate", "constraint"),
    [
        (unbalanced, "23514", "journal_balanced"),
        (repeated_sequence, "23505", "journal_0_pkey"),
        (too_large, "22003", None),
    ],
)
async def test_entries_the_database_refuses(
    connection: asyncpg.Connection, spoil: Any, sqlstate: str, constraint: str | None
) -> None:
    """Money out of thin air, a sequence used before, a number too large: rejected by name, and nothing is written."""
    await own(connection, [0])
    scribe = scribe_with_money()
    entries = scribe.take()
    entries[-1] = spoil(entries[-1])
    with pytest.raises(AppendRejected) as refused:
        await append.append(connection, OWNER, [ShardEntries(0, 1, entries)])
    assert refused.value.sqlstate == sqlstate
    assert (refused.value.constraint or "").startswith((constraint or "")[:8])
    assert await count(connection, "journal") == 0
    assert await count(connection, "requests") == 0


async def test_a_request_key_is_used_once_per_shard(connection: asyncpg.Connection) -> None:
    """The same key twice on one shard is refused; on two shards it is two requests."""
    await own(connection, [0, 1])
    scribe = scribe_with_money()
    first = await scribe.commit(connection)
    scribe.deposit(USER, 5)
    twice = [scribe.take()[0]._replace(request_key=first[1].request_key)]
    with pytest.raises(AppendRejected) as refused:
        await append.append(connection, OWNER, [ShardEntries(0, 1, twice)])
    assert refused.value.sqlstate == "23505"
    elsewhere = scribe_with_money(1).take()
    elsewhere[1] = elsewhere[1]._replace(request_key=first[1].request_key)
    assert (await append.append(connection, OWNER, [ShardEntries(1, 1, elsewhere)])).matched == {1}


async def test_a_database_that_shuts_its_door_is_an_unknown_outcome(connecting: Any) -> None:
    """A read-only or terminated session says nothing about the entries: never AppendRejected."""
    connection, other = await connecting(OWNER), await connecting("other")
    await own(connection, [0])
    entries = scribe_with_money().take()
    await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(OutcomeUnknown, match="25006"):
        await append.append(connection, OWNER, [ShardEntries(0, 1, entries)])
    await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
    with pytest.raises(OutcomeUnknown):
        await append.append(connection, OWNER, [ShardEntries(0, 1, entries)])


async def test_an_append_that_takes_too_long_is_an_unknown_outcome(connecting: Any) -> None:
    """Behind a lock that nobody lets go, the caller gives up without guessing; then the entries can be appended."""
    connection, blocker = await connecting(OWNER), await connecting("blocker")
    await own(connection, [0])
    entries = scribe_with_money().take()
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM betting.shards WHERE shard_id = 0 FOR UPDATE")
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await append.append(connection, OWNER, [ShardEntries(0, 1, entries)], timeout_s=0.1)
        slow = asyncio.create_task(append.append(await connecting(OWNER), OWNER, [ShardEntries(0, 1, entries)]))
    assert (await slow).matched == {0}


async def test_appends_of_several_owners_run_beside_each_other(connecting: Any) -> None:
    """Sixty batches of two owners over two shards each, at once: nothing is lost, nothing is mixed up."""
    connections = {OWNER: await connecting(OWNER), RIVAL: await connecting(RIVAL)}
    await own(connections[OWNER], [0, 2], OWNER)
    await own(connections[RIVAL], [1, 3], RIVAL)

    async def write(owner: str, shards: tuple[int, int]) -> None:
        scribes = [scribe_with_money(shard) for shard in shards]
        for _ in range(30):
            for scribe in scribes:
                scribe.place(USER, 1, [(7, 1)])
            batch = [ShardEntries(scribe.state.shard, 1, scribe.take()) for scribe in scribes]
            assert len((await append.append(connections[owner], owner, batch)).matched) == 2

    await asyncio.gather(write(OWNER, (0, 2)), write(RIVAL, (1, 3)))
    for shard in range(4):
        entries = await reader.read_entries(connections[OWNER], shard, 0, 100)
        assert [entry.sequence for entry in entries] == list(range(1, 33))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE betting.journal SET cash_minor = 0",
        "DELETE FROM betting.journal",
        "TRUNCATE betting.journal",
        "UPDATE betting.journal_0 SET at_us = 0",
        "DELETE FROM betting.journal_3 WHERE false",
        "TRUNCATE betting.journal_5",
    ],
)
async def test_the_journal_is_append_only(connection: asyncpg.Connection, statement: str) -> None:
    """Nothing in the journal is changed or removed, through the parent or a partition, not even by its owner."""
    await own(connection, [0])
    entries = await scribe_with_money().commit(connection)
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await connection.execute(statement)
    assert await reader.read_entries(connection, 0, 0, 10) == entries


async def test_a_partition_that_appears_under_an_append_does_not_refuse_it(connecting: Any) -> None:
    """The statement has chosen the default partition and waits for it while the key's day gets one of its own."""
    connection, keeper, watcher = await connecting(), await connecting("keeper"), await connecting("watcher")
    await own(connection, [0])
    scribe = scribe_with_money()
    entries = scribe.take()
    day = datetime.fromtimestamp(now_us() / 1e6, UTC).date()
    name = partitions.partition_name(day)
    await keeper.execute(f"DROP TABLE betting.{name}")
    async with keeper.transaction():
        await keeper.execute("LOCK TABLE betting.requests_default IN ACCESS EXCLUSIVE MODE")
        appending = asyncio.create_task(append.append(connection, OWNER, [ShardEntries(0, 1, entries)]))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"
        while not await watcher.fetchval(waits, OWNER):
            assert not appending.done(), "it did not wait"
            await asyncio.sleep(0.01)
        low, high = partitions.key_floor(day), partitions.key_floor(day + timedelta(days=1))
        await keeper.execute(f"CREATE TABLE betting.{name} (LIKE betting.requests INCLUDING INDEXES)")
        attach = f"ALTER TABLE betting.requests ATTACH PARTITION betting.{name} FOR VALUES FROM ('{low}') TO ('{high}')"
        await keeper.execute(attach)
    assert (await appending).matched == {0}
    assert await count(connection, name) == 1
    assert await reader.read_entries(connection, 0, 0, 10) == entries
