"""Publishes committed entries to one Redis stream per shard. It lags when Redis is away, and holds nothing up.

Where it goes on is the stream's own last id; after a loss (stream gone, or shorter than what was published) the lowest
position of any consumer. What was just committed comes from memory, anything else from the journal.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import redis.asyncio

from betting.engine.entries import Entry
from betting.journal import consumers, reader
from betting.journal.connection import DRIVER_ERRORS
from betting.runtime import backoff, logs
from betting.runtime.loops import FailureLog, woken_within
from betting.streams import client

_log = logs.get(__name__)

MAX_LENGTH = 10_000  # entries kept per stream; who is further behind reads the journal
CHUNK_ENTRIES = 1_000  # per stream and round trip
MAX_BUFFERED_ENTRIES = 4_000  # per shard in memory (2 MB), seconds of the busiest; beyond, the journal is read again
CHECK_INTERVAL_S = 2.0  # a stream that was lost while nothing is published is noticed within this
GATHER_S = 0.02  # a round trip costs about as much for many entries as for one
BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0


class OutboxStatistics(NamedTuple):
    """Counters since the process started. `lag_entries`: of all shards now."""

    published: int
    resumed: int
    failures: int
    lag_entries: int


class _Stream:
    """One shard: followed since `began`, committed up to `head`, published up to `position` (None: ask the stream)."""

    __slots__ = ("began", "buffer", "buffered", "fresh", "head", "position", "shard")

    def __init__(self, shard: int, head: int) -> None:
        self.shard = shard
        self.began = head
        self.head = head
        self.position: int | None = None
        self.fresh = False  # there is no stream yet: the next publication makes it
        self.buffer: deque[Sequence[Entry]] = deque()
        self.buffered = 0

    @property
    def behind(self) -> bool:
        return self.position is None or self.position < self.head

    def add(self, entries: Sequence[Entry]) -> None:
        self.head = entries[-1].sequence
        self.buffer.append(entries)
        self.buffered += len(entries)
        while self.buffered > MAX_BUFFERED_ENTRIES:
            self.buffered -= len(self.buffer.popleft())

    def take(self, after: int) -> list[Entry]:
        """What memory holds right after this sequence, at most a chunk; empty when it does not hold it."""
        while self.buffer and self.buffer[0][-1].sequence <= after:
            self.buffered -= len(self.buffer.popleft())
        taken: list[Entry] = []
        for entries in self.buffer:
            if entries[0].sequence > after + 1 + len(taken):
                break
            taken += entries[after + 1 + len(taken) - entries[0].sequence :]
            if len(taken) >= CHUNK_ENTRIES:
                break
        return taken[:CHUNK_ENTRIES]


class Outbox:
    """The outbox of this process, for all its shards; `run` is a background task.

    Every other method returns at once.
    """

    def __init__(self, redis_client: redis.asyncio.Redis, pool: asyncpg.Pool, *, max_length: int = MAX_LENGTH) -> None:
        self._redis = redis_client
        self._pool = pool
        self._max_length = max_length
        self._streams: dict[int, _Stream] = {}
        self._wake = asyncio.Event()
        self._checked_at_s = float("-inf")
        self._published = 0
        self._resumed = 0
        self._failures = 0

    def follow(self, shard: int, head: int) -> None:
        """Starts publishing a shard that this process owns now; its journal ends at `head`."""
        self._streams[shard] = _Stream(shard, head)
        self._wake.set()

    def forget(self, shard: int) -> None:
        """Stops publishing a shard that another process owns now."""
        self._streams.pop(shard, None)

    def committed(self, shard: int, entries: Sequence[Entry]) -> None:
        """Adds durable entries, which follow those of the previous call."""
        stream = self._streams.get(shard)
        if stream is not None and entries:
            stream.add(entries)
            self._wake.set()

    def lag(self, shard: int) -> int:
        """The number of committed entries of the shard that are not in its stream."""
        stream = self._streams.get(shard)
        if stream is None:
            return 0
        return max(0, stream.head - (stream.position or 0))

    def statistics(self) -> OutboxStatistics:
        """Counters and the lag of all shards."""
        return OutboxStatistics(self._published, self._resumed, self._failures, sum(map(self.lag, self._streams)))

    async def run(self) -> None:
        """Publishes for the life of the process; while Redis or Postgres fail it waits."""
        behind, pauses_s = FailureLog(_log, "outbox behind"), backoff.pauses_s(BACKOFF_S, MAX_BACKOFF_S)
        while True:
            try:
                await self._publish_everything()
            except (client.RedisUnavailable, *DRIVER_ERRORS) as problem:
                self._failures += 1
                behind.failed(problem, lag_entries=self.statistics().lag_entries)
                await asyncio.sleep(backoff.jittered(next(pauses_s), random.random()))
                continue
            behind.worked()
            pauses_s = backoff.pauses_s(BACKOFF_S, MAX_BACKOFF_S)
            await woken_within(self._wake, CHECK_INTERVAL_S)
            await asyncio.sleep(GATHER_S)

    async def _publish_everything(self) -> None:
        """Until every stream ends where its journal does; from time to time checks that all streams are still there."""
        self._wake.clear()
        now_s = time.monotonic()
        check = now_s - self._checked_at_s >= CHECK_INTERVAL_S
        todo = [stream for stream in self._streams.values() if check or stream.behind]
        while todo:
            await self._resume([stream for stream in todo if stream.position is None])
            publications = [await self._next(stream) for stream in todo]
            lasts = await client.publish(self._redis, publications, self._max_length)
            for stream, sent, last in zip(todo, publications, lasts, strict=True):
                self._note(stream, sent, last)
            todo = [stream for stream in todo if self._streams.get(stream.shard) is stream and stream.behind]
        if check:  # a check that failed half-way is made again, as soon as Redis answers
            self._checked_at_s = now_s

    async def _next(self, stream: _Stream) -> client.Publication:
        after = stream.position
        assert after is not None, "it was resumed before"
        entries = stream.take(after)
        if not entries and after < stream.head:
            async with self._pool.acquire() as connection:
                entries = await reader.read_entries(connection, stream.shard, after, CHUNK_ENTRIES)
        return client.Publication(stream.shard, after, stream.fresh, entries)

    async def _resume(self, streams: Sequence[_Stream]) -> None:
        """Finds out where to go on, of all of them in one round trip: after a hand-over they are many."""
        if not streams:
            return
        lasts = await client.last_sequences(self._redis, [stream.shard for stream in streams])
        for stream, found in zip(streams, lasts, strict=True):
            last = await self._checked(stream, found) if found > stream.head else found
            stream.fresh = last == client.NO_STREAM
            if stream.fresh:
                lowest = await consumers.lowest(self._pool, stream.shard)
                last = stream.began if lowest is None else lowest
                last = max(min(last, stream.head), stream.head - self._max_length)
            stream.position = last
            self._resumed += 1
            _log.info("outbox resumed", shard=stream.shard, after=last, head=stream.head, new_stream=stream.fresh)

    async def _checked(self, stream: _Stream, last: int) -> int:
        """A stream that is ahead of the journal itself is of another life of the database: it is made anew."""
        head = (await reader.heads(self._pool, [stream.shard]))[stream.shard]
        if last <= head:
            return last
        _log.error("stream ahead of journal", shard=stream.shard, stream=last, journal_head=head)
        await client.delete(self._redis, stream.shard)
        return client.NO_STREAM

    def _note(self, stream: _Stream, sent: client.Publication, last: int) -> None:
        if sent.entries and last == sent.entries[-1].sequence:
            stream.position, stream.fresh = last, False
            stream.head = max(stream.head, last)
            self._published += len(sent.entries)
        elif last == client.NO_STREAM and stream.fresh:
            return  # nothing to publish yet
        elif last != sent.after:
            stream.position = None  # somebody else published, or the stream was lost: ask it
