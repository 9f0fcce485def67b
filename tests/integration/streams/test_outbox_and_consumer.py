"""Committed entries reach consumers in order, whatever happens to Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from betting.engine.entries import Entry
from betting.journal import consumers
from betting.streams import client, consumer, outbox, wire
from betting.streams.consumer import Consumer
from betting.streams.outbox import Outbox


@asynccontextmanager
async def running(work: Callable[[], Any]) -> AsyncIterator[asyncio.Task[None]]:
    """A background task for the length of a block; what it raises ends the test."""
    task = asyncio.create_task(work())
    try:
        yield task
    finally:
        # asyncio.wait_for, which the Redis client writes with, can lose a cancellation: ask again.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.01)


class Heard:
    """A handler that keeps what it was given, per shard."""

    def __init__(self) -> None:
        self.by_shard: dict[int, list[Entry]] = {}

    async def __call__(self, shard: int, entries: Sequence[Entry]) -> None:
        self.by_shard.setdefault(shard, []).extend(entries)

    def sequences(self, shard: int) -> list[int]:
        return [entry.sequence for entry in self.by_shard.get(shard, [])]


async def stream(redis_client: redis.asyncio.Redis, shard: int) -> list[Entry]:
    records: Any = await redis_client.xrange(wire.stream_of(shard))
    return [entry for _id, fields in records for entry in wire.unpack(fields[b"e"])]


async def test_what_is_committed_before_the_stream_was_asked_is_published_too(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """Nobody consumes yet and Redis was slow: a stream begins where following began, not where it is by then."""
    box = Outbox(redis_client, pool)
    box.follow(0, 0)
    committed = await journal.write(0, 5)
    box.committed(0, committed)
    async with running(box.run):
        await until(lambda: box.statistics().published == len(committed))
    assert await stream(redis_client, 0) == committed


async def test_entries_are_published_as_they_were_committed(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """From memory, per shard, whole and in order; ids are the sequences."""
    box = Outbox(redis_client, pool)
    async with running(box.run):
        for shard in range(3):
            box.follow(shard, 0)
        committed = {shard: await journal.write(shard, 5 + shard) for shard in range(3)}
        for shard, entries in committed.items():
            box.committed(shard, entries)
        more = await journal.write(1, 2_500)
        box.committed(1, more)
        await until(lambda: box.statistics().lag_entries == 0)
    assert await stream(redis_client, 0) == committed[0]
    assert await stream(redis_client, 1) == committed[1] + more
    newest: Any = await redis_client.xrevrange(wire.stream_of(2), count=1)
    assert newest[0][0] == b"%d-0" % journal.head(2)
    assert box.statistics().published == sum(map(len, committed.values())) + 2_500


async def test_a_new_owner_goes_on_where_the_stream_ends(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """What the owner before committed and did not publish comes from the journal; nothing comes twice."""
    first = Outbox(redis_client, pool)
    async with running(first.run):
        first.follow(0, 0)
        first.committed(0, await journal.write(0, 10))
        await until(lambda: first.lag(0) == 0)
    await journal.write(0, 2_345)
    second = Outbox(redis_client, pool)
    second.follow(0, journal.head(0))
    async with running(second.run):
        await until(lambda: second.lag(0) == 0)
        # The first owner has not noticed that it lost the shard: its late publication changes nothing.
        first.committed(0, (await stream(redis_client, 0))[-3:])
        async with running(first.run):
            await until(lambda: first.lag(0) == 0)
    assert [entry.sequence for entry in await stream(redis_client, 0)] == list(range(1, journal.head(0) + 1))


async def test_who_takes_several_shards_goes_on_with_each_by_itself(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """They are asked for together: one stream ends where the journal does, one is behind it, one is not there."""
    first = Outbox(redis_client, pool)
    async with running(first.run):
        for shard in (0, 1):
            first.follow(shard, 0)
            first.committed(shard, await journal.write(shard, 4 + shard))
        await until(lambda: first.statistics().lag_entries == 0)
    for shard in (1, 2):
        await journal.write(shard, 3)
    second = Outbox(redis_client, pool)
    for shard in range(3):
        second.follow(shard, journal.head(shard))
    async with running(second.run):
        await until(lambda: second.statistics().resumed >= 3 and second.statistics().lag_entries == 0)
        second.committed(2, await journal.write(2, 2))
        await until(lambda: second.statistics().lag_entries == 0)
    sequences = [[entry.sequence for entry in await stream(redis_client, shard)] for shard in range(3)]
    assert sequences == [list(range(1, journal.head(shard) + 1)) for shard in (0, 1)] + [
        list(range(journal.head(2) - 1, journal.head(2) + 1))
    ]


async def test_a_lost_stream_is_made_again_from_the_lowest_consumer(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Redis was wiped the outbox publishes again from where the slowest consumer is, even with nothing new."""
    monkeypatch.setattr(outbox, "CHECK_INTERVAL_S", 0.05)
    box = Outbox(redis_client, pool)
    async with running(box.run):
        box.follow(0, 0)
        box.committed(0, await journal.write(0, 50))
        await until(lambda: box.lag(0) == 0)
        await consumers.save(pool, "fast", {0: 45})
        await consumers.save(pool, "slow", {0: 30})
        await redis_client.flushall()
        await until(lambda: box.statistics().resumed >= 2 and box.lag(0) == 0)
    assert [entry.sequence for entry in await stream(redis_client, 0)] == list(range(31, 52))


async def test_a_stream_that_lost_its_end_is_completed(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """A failover to a replica that was behind: what it misses is published again before what is new."""
    box = Outbox(redis_client, pool)
    async with running(box.run):
        box.follow(0, 0)
        entries = await journal.write(0, 20)
        box.committed(0, entries)
        await until(lambda: box.lag(0) == 0)
        await redis_client.delete(wire.stream_of(0))
        shorter = client.Publication(0, 0, True, entries[:12])
        assert await client.publish(redis_client, [shorter], 1_000) == [12]
        more = await journal.write(0, 3)
        box.committed(0, more)
        await until(lambda: box.lag(0) == 0)
    assert await stream(redis_client, 0) == entries + more


async def test_a_stream_of_another_database_is_made_anew(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """Redis outlived the database: a stream that is ahead of the journal is not believed."""
    await redis_client.xadd(wire.stream_of(0), {"e": b"stale"}, id="900-0")
    box = Outbox(redis_client, pool)
    entries = await journal.write(0, 4)
    await consumers.save(pool, "reader", {0: 0})
    box.follow(0, journal.head(0))
    async with running(box.run):
        await until(lambda: box.lag(0) == 0)
    assert await stream(redis_client, 0) == entries


async def test_streams_are_bounded(journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis) -> None:
    """A stream keeps about as many entries as it may, the newest ones."""
    box = Outbox(redis_client, pool, max_length=300)
    async with running(box.run):
        box.follow(0, 0)
        for _ in range(4):
            box.committed(0, await journal.write(0, 700))
        await until(lambda: box.lag(0) == 0)
    found = [entry.sequence for entry in await stream(redis_client, 0)]
    assert 300 <= len(found) <= 900
    assert found[-1] == journal.head(0)


async def test_losing_redis_only_makes_the_outbox_lag(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis, valkey: Any
) -> None:
    """While Redis is killed entries are committed; the lag says so, and is gone after it is back, empty."""
    box = Outbox(redis_client, pool)
    async with running(box.run):
        box.follow(0, 0)
        box.committed(0, await journal.write(0, 10))
        await until(lambda: box.lag(0) == 0)
        await consumers.save(pool, "reader", {0: 7})
        valkey.server.kill()
        try:
            box.committed(0, await journal.write(0, 25_000))  # more than memory keeps
            await until(lambda: box.statistics().failures >= 2)
            assert box.lag(0) == 25_000
        finally:
            valkey.server.start()  # from this thread: the child ends with the thread that made it
        await until(lambda: box.lag(0) == 0, timeout_s=30)
    found = [entry.sequence for entry in await stream(redis_client, 0)]
    assert found == list(range(found[0], journal.head(0) + 1))
    assert len(found) >= outbox.MAX_LENGTH


async def test_a_redis_that_takes_no_writes_only_makes_the_outbox_lag(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """Two of three Redis nodes are away: entries are committed, and published once one is back."""
    box = Outbox(redis_client, pool)
    async with running(box.run):
        box.follow(0, 0)
        await redis_client.config_set("min-replicas-to-write", 1)
        try:
            box.committed(0, await journal.write(0, 10))
            await until(lambda: box.statistics().failures >= 2)
            assert box.lag(0) == journal.head(0)
        finally:
            await redis_client.config_set("min-replicas-to-write", 0)
        await until(lambda: box.lag(0) == 0)
    assert [entry.sequence for entry in await stream(redis_client, 0)] == list(range(1, journal.head(0) + 1))


async def test_a_check_that_redis_did_not_answer_is_made_again(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis comes back empty: a stream with nothing new is made again at once, not at the next check."""
    monkeypatch.setattr(outbox, "CHECK_INTERVAL_S", 3_600.0)
    box = Outbox(redis_client, pool)
    async with running(box.run):
        box.follow(0, 0)
        box.committed(0, await journal.write(0, 10))
        await until(lambda: box.lag(0) == 0)
        await consumers.save(pool, "reader", {0: 7})
        valkey.server.kill()
        try:
            box._checked_at_s = float("-inf")  # the time for a check comes while Redis is away
            box.follow(1, 0)
            await until(lambda: box.statistics().failures >= 1)
        finally:
            valkey.server.start()
        await until(lambda: box.statistics().resumed >= 3 and box.lag(0) == 0, timeout_s=30)
    assert [entry.sequence for entry in await stream(redis_client, 0)] == list(range(8, journal.head(0) + 1))


async def test_a_consumer_hears_everything_once_and_goes_on_after_a_restart(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """From the beginning, through a restart, in order; positions are in Postgres."""
    box = Outbox(redis_client, pool)
    heard = Heard()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(box.run))
        for shard in range(3):
            box.follow(shard, 0)
            box.committed(shard, await journal.write(shard, 20))
        reading = Consumer("history", redis_client, pool, range(3), heard, from_beginning=True)
        async with running(reading.run):
            await until(lambda: all(heard.sequences(s) == list(range(1, 22)) for s in range(3)))
        await reading.close()
        box.committed(1, await journal.write(1, 30))
        again = Consumer("history", redis_client, pool, range(3), heard, from_beginning=True)
        async with running(again.run):
            await until(lambda: heard.sequences(1) == list(range(1, 52)))
        await again.close()
    assert await consumers.load(pool, "history", range(3)) == {0: 21, 1: 51, 2: 21}
    assert await consumers.lowest(pool, 1) == 51
    assert heard.sequences(0) == list(range(1, 22))


async def test_a_consumer_that_is_stopped_while_it_saves_its_position_saves_it_when_it_closes(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """Or an orderly restart would hear the last half second again."""
    entries = await journal.write(0, 20)
    box = Outbox(redis_client, pool)
    box.follow(0, 0)
    heard = Heard()
    reading = Consumer("history", redis_client, pool, [0], heard, from_beginning=True)
    async with running(box.run):
        async with pool.acquire() as other:
            await consumers.save(pool, "history", {0: 0})
            async with other.transaction():
                await other.execute("SELECT FROM betting.consumer_positions FOR UPDATE")
                async with running(reading.run):
                    await until(lambda: reading.position(0) == len(entries))
                    await until_blocked(pool)
        await reading.close()
    assert await consumers.load(pool, "history", [0]) == {0: len(entries)}


async def until_blocked(pool: asyncpg.Pool) -> None:
    """Until some statement waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(20):
        while not await pool.fetchval(waiting):  # noqa: ASYNC110 - another session decides
            await asyncio.sleep(0.01)


async def test_a_consumer_without_a_name_hears_what_is_new(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """It starts at the present and leaves no position behind."""
    await journal.write(0, 20)
    box = Outbox(redis_client, pool)
    box.follow(0, journal.head(0))
    heard = Heard()
    reading = Consumer(None, redis_client, pool, [0], heard)
    async with running(box.run), running(reading.run):
        await until(lambda: reading.position(0) == journal.head(0))
        new = await journal.write(0, 3)
        box.committed(0, new)
        await until(lambda: len(heard.sequences(0)) == 3)
    await reading.close()
    assert heard.by_shard[0] == new
    assert await pool.fetchval("SELECT count(*) FROM betting.consumer_positions") == 0


async def test_gaps_in_a_stream_are_filled_from_the_journal(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """Records that were trimmed, lost or garbled are read from the journal, in their place; repeats are dropped."""
    entries = await journal.write(0, 1_200)
    for entry in (*entries[700:710], entries[900]):
        sequence, data = wire.pack([entry])
        garbled = b"?" if entry.sequence == 705 else data
        await redis_client.xadd(wire.stream_of(0), {"e": garbled}, id=sequence + b"-0")
    heard = Heard()
    reading = Consumer("gaps", redis_client, pool, [0], heard, from_beginning=True)
    await consumers.save(pool, "gaps", {0: 3})
    async with running(reading.run):
        await until(lambda: reading.position(0) >= 901)
    assert heard.by_shard[0][: 901 - 3] == entries[3:901]
    assert reading.statistics().from_journal >= 880


async def test_without_redis_a_consumer_reads_the_journal(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen Redis: entries still arrive; thawed, they do not arrive again."""
    monkeypatch.setattr(consumer, "AWAY_POLL_S", 0.01)
    heard = Heard()
    box = Outbox(redis_client, pool)
    reading = Consumer("steady", redis_client, pool, [0], heard, from_beginning=True)
    async with running(box.run), running(reading.run):
        box.follow(0, 0)
        box.committed(0, await journal.write(0, 5))
        await until(lambda: reading.position(0) == 6)
        valkey.server.signal(signal.SIGSTOP)
        try:
            await until(lambda: reading.statistics().redis_failures >= 1)  # else a routine check may find the entries
            box.committed(0, await journal.write(0, 1_500))
            await until(lambda: reading.position(0) == 1_506, timeout_s=30)
        finally:
            valkey.server.signal(signal.SIGCONT)
        await until(lambda: box.lag(0) == 0, timeout_s=30)
        box.committed(0, await journal.write(0, 5))
        await until(lambda: reading.position(0) == 1_511)
    assert heard.sequences(0) == list(range(1, 1_512))


async def test_positions_never_move_back(pool: asyncpg.Pool) -> None:
    """A late save of an older position is without effect."""
    await consumers.save(pool, "c", {0: 10, 1: 5})
    await consumers.save(pool, "c", {0: 7, 1: 6})
    assert await consumers.load(pool, "c", [0, 1, 2]) == {0: 10, 1: 6}


async def test_what_the_handler_raises_ends_the_consumer(
    journal: Any, pool: asyncpg.Pool, redis_client: redis.asyncio.Redis
) -> None:
    """It fails loudly, and the entries come again to the next one."""
    await journal.write(0, 3)

    async def broken(_shard: int, _entries: Sequence[Entry]) -> None:
        raise ArithmeticError("no")

    reading = Consumer("fragile", redis_client, pool, [0], broken, from_beginning=True)
    async with asyncio.timeout(10):
        with pytest.raises(ArithmeticError):
            await reading.run()
    await reading.close()
    assert await consumers.load(pool, "fragile", [0]) == {0: 0}
