"""Reads the entries of shards in order, each at least once: from Redis streams, and from the journal where those end.

A named consumer keeps its positions in Postgres and goes on from there; one without a name starts at the present. The
handler must bear entries it has seen: after a crash the last half second comes again. Processes of one named consumer
share its shards where they are given claims.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import asyncpg
import redis.asyncio

from betting.engine.entries import Entry
from betting.journal import consumers, reader
from betting.journal.connection import DRIVER_ERRORS
from betting.journal.consumers import ClaimLost, Claims
from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting.streams import client

_log = logs.get(__name__)

Handler = Callable[[int, Sequence[Entry]], Awaitable[None]]

BATCH_ENTRIES = 500  # per shard, from the journal
RECORDS = 20  # per shard, in one answer of Redis; each holds up to 100 entries
ROUND_RECORDS = 500  # of all shards in one answer
BLOCK_MS = 400  # shorter than the socket's timeout of a second
SAVE_INTERVAL_S = 0.5
JOURNAL_CHECK_INTERVAL_S = 5.0  # streams are compared with the journal this often
AWAY_POLL_S = 0.5  # without Redis the journal is polled
RETRY_S = 0.5


class ConsumerStatistics(NamedTuple):
    """Counters since the process started. `from_journal`: entries that did not come through Redis."""

    handled: int
    seen_before: int
    from_journal: int
    redis_failures: int


class Consumer:
    """One per purpose and process; `run` is a background task.

    handler: called with a shard and its next entries, without gaps. ClaimLost from it drops the shard; what else it
    raises ends `run`, and the entries come again.
    from_beginning: where a named consumer starts on shards it has no position for; else at the present. shared: read
    only the shards that are this process' by these claims; else all.
    """

    def __init__(
        self,
        name: str | None,
        redis_client: redis.asyncio.Redis,
        pool: asyncpg.Pool,
        shards: Sequence[int],
        handler: Handler,
        *,
        from_beginning: bool = False,
        shared: Claims | None = None,
    ) -> None:
        assert shared is None or name == shared.consumer
        self._name = name
        self._shared = shared
        self._renewed_at_s = 0.0
        self._redis = redis_client
        self._pool = pool
        self._shards = tuple(shards)
        self._handler = handler
        self._from_beginning = from_beginning
        self._positions: dict[int, int] = {}
        self._unsaved: dict[int, int] = {}
        self._saved_at_s = 0.0
        self._journal_checked_at_s = 0.0
        self._redis_failures = FailureLog(_log, "consumer reads the journal: Redis is away")
        self._counts = dict.fromkeys(ConsumerStatistics._fields, 0)
        self.started = asyncio.Event()  # positions are known

    def statistics(self) -> ConsumerStatistics:
        """The counters."""
        return ConsumerStatistics(**self._counts)

    def position(self, shard: int) -> int:
        """The last sequence handled; 0 before `run` has started."""
        return self._positions.get(shard, 0)

    async def run(self) -> None:
        """For as long as the process lives. Raises what the handler raises."""
        waits = FailureLog(_log, "consumer waits for Postgres")
        while True:
            try:
                if not self.started.is_set():
                    await self._start()
                await self._renew_if_due()
                await self._turn()
                await self._save_if_due()
                waits.worked()
            except DRIVER_ERRORS as problem:
                waits.failed(problem, consumer=self._name)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Saves the positions and gives up the claims; call it when `run` has ended."""
        if self._unsaved and self._name is not None:
            await self._save()
        if self._shared is not None:
            await self._shared.release()

    async def _start(self) -> None:
        known: dict[int, int] = {}
        if self._name is not None:
            known = await consumers.load(self._pool, self._name, self._shards)
        new = [shard for shard in self._shards if shard not in known]
        starts = dict.fromkeys(new, 0) if self._from_beginning else await reader.heads(self._pool, new)
        if self._name is not None:
            await consumers.save(self._pool, self._name, starts)
        self._positions = known | starts if self._shared is None else {}
        self.started.set()

    async def _renew_if_due(self) -> None:
        """Which shards are ours changes here only: between two turns nothing is half done."""
        if self._shared is None or time.monotonic() - self._renewed_at_s < consumers.RENEW_INTERVAL_S:
            return
        if self._unsaved:
            await self._save()  # whoever gets a shard from us goes on where we are
        held = await self._shared.renew()
        self._renewed_at_s = time.monotonic()
        if held.keys() != self._positions.keys():
            _log.info("consumer shards changed", consumer=self._name, shards=len(held), before=len(self._positions))
        # Where we are ourselves is never behind what is stored.
        self._positions = {shard: max(stored, self._positions.get(shard, 0)) for shard, stored in held.items()}

    async def _turn(self) -> None:
        """One round: what the streams hold; now and then, and whenever Redis is away, what the journal holds."""
        if not self._positions:  # more processes than shards, or others have yet to give theirs up
            await asyncio.sleep(BLOCK_MS / 1_000)
            return
        try:
            count = max(1, min(RECORDS, ROUND_RECORDS // len(self._positions)))
            found = await client.read(self._redis, self._positions, count, BLOCK_MS)
        except client.RedisUnavailable as problem:
            self._counts["redis_failures"] += 1
            self._redis_failures.failed(problem, consumer=self._name)
            await asyncio.sleep(AWAY_POLL_S)
            await self._read_journal()
            return
        self._redis_failures.worked()
        for shard, entries in found.items():
            try:
                await self._take(shard, entries)
            except ClaimLost:
                self._drop(shard)
        if time.monotonic() - self._journal_checked_at_s >= JOURNAL_CHECK_INTERVAL_S:
            await self._read_journal()

    async def _take(self, shard: int, entries: Sequence[Entry]) -> None:
        position = self._positions[shard]
        news = [entry for entry in entries if entry.sequence > position]
        self._counts["seen_before"] += len(entries) - len(news)
        if not news:
            return
        if news[0].sequence != position + 1:
            await self._fill(shard, news[0].sequence - 1)
        if news[0].sequence == self._positions[shard] + 1:
            await self._handle(shard, news)

    async def _read_journal(self) -> None:
        heads = await reader.heads(self._pool, list(self._positions))
        for shard, head in heads.items():
            try:
                await self._fill(shard, head)
            except ClaimLost:
                self._drop(shard)
        self._journal_checked_at_s = time.monotonic()

    async def _fill(self, shard: int, upto: int) -> None:
        """Everything up to this sequence, from the journal."""
        while self._positions[shard] < upto:
            position = self._positions[shard]
            async with self._pool.acquire() as connection:
                entries = await reader.read_entries(connection, shard, position, min(BATCH_ENTRIES, upto - position))
            if not entries:
                _log.error("stream ahead of journal", shard=shard, journal_head=position, stream_after=upto)
                return
            self._counts["from_journal"] += len(entries)
            await self._handle(shard, entries)

    def _drop(self, shard: int) -> None:
        _log.warning("consumer claim lost", consumer=self._name, shard=shard)
        self._positions.pop(shard, None)
        self._unsaved.pop(shard, None)
        self._renewed_at_s = 0.0

    async def _handle(self, shard: int, entries: Sequence[Entry]) -> None:
        await self._handler(shard, entries)
        self._positions[shard] = self._unsaved[shard] = entries[-1].sequence
        self._counts["handled"] += len(entries)

    async def _save(self) -> None:
        assert self._name is not None
        moved, self._unsaved = self._unsaved, {}
        try:
            await consumers.save(self._pool, self._name, moved)
        except BaseException:  # also when `run` is cancelled right here: `close` saves them
            self._unsaved = moved | self._unsaved
            raise

    async def _save_if_due(self) -> None:
        if self._name is None:
            self._unsaved = {}
        elif self._unsaved and time.monotonic() - self._saved_at_s >= SAVE_INTERVAL_S:
            await self._save()
            self._saved_at_s = time.monotonic()
