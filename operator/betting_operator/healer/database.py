"""The healer's connection to Postgres: what it reads there, and the statements that carry its term."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

import asyncpg

from betting.journal import consumers, directory, healing_switch, placements, redis_record, schema
from betting.journal.connection import DRIVER_ERRORS, connect
from betting.journal.consumers import ConsumerRow
from betting.journal.directory import InstanceRow, ShardRow
from betting.journal.healing_switch import Switch
from betting.journal.redis_record import Row
from betting.life import Life
from betting.runtime.clock import US_PER_S, now_us
from betting.runtime.errors import ConfigurationError
from betting_operator.healer.auditing import Auditor
from betting_operator.healing.redis_signals import NOBODY, FailoverPhase, RedisRecord
from betting_operator.healing.signals import BET_SERVICE, Audit, Consumer, Database, Owner, Shard
from betting_operator.platforms.port import Stored

TIMEOUT_S = 1.0
# A life with a heartbeat this recent may write.
OWNER_RUNS_WITHIN_S = 10.0
# A stall is believed after ten seconds.
CONSUMERS_INTERVAL_S = 2.0

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('transaction_read_only') = 'on'"

T = TypeVar("T")


class Away(Exception):
    """Postgres did not do it; `how` is the state that Postgres is in."""

    def __init__(self, how: Database, problem: str) -> None:
        super().__init__(problem)
        self.how = how


class Reading(NamedTuple):
    """What one look found. redis: the record, and its age in ms.

    how: whether it can be written too. clock_offset_ms: this machine's wall clock against the database's.
    """

    how: Database

    owners: tuple[Owner, ...]
    shards: tuple[Shard, ...]
    consumers: tuple[Consumer, ...]
    switch: Switch
    redis: tuple[RedisRecord, int] | None
    audits: tuple[Audit, ...]
    clock_offset_ms: int


class HealerDatabase:
    """Connects when first used and after every failure.

    Every method raises Away; those that write raise StaleTerm too.
    """

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: asyncpg.Connection | None = None
        self._consumers: tuple[Consumer, ...] = ()
        self._consumers_at_s = float("-inf")
        self._auditor = Auditor()
        self._last_beat = Database.OK
        self._schema_is_current = False

    async def read(self) -> Reading:
        """Reads the directory and the switches; consumers every other second."""
        return await self._with(self._read)

    async def begin_term(self) -> int:
        """Begins a new term: statements of an older healer are refused from now on."""
        return await self._with(placements.begin_term)

    async def beat(self, term: int) -> None:
        """Writes the heartbeat; while it is recent, `desired_owner` decides. Its result shows whether Postgres takes
        writes.

        Raises StaleTerm.
        """
        try:
            await self._with(lambda connection: placements.beat(connection, term))
        except Away as away:
            self._last_beat = away.how
            raise
        self._last_beat = Database.OK

    def beats_no_more(self) -> None:
        """For a dry run: the result of the last heartbeat is no longer used."""
        self._last_beat = Database.OK

    async def mark_dead(self, term: int, owner: Life) -> bool:
        """See `placements.mark_dead`."""
        return await self._with(lambda connection: placements.mark_dead(connection, term, str(owner)))

    async def place(self, term: int, wanted: Mapping[int, Life]) -> int:
        """See `placements.place`."""
        names = {shard: str(owner) for shard, owner in wanted.items()}
        return await self._with(lambda connection: placements.place(connection, term, names))

    async def force_release(self, term: int, shard: int, owner: Life, epoch: int) -> bool:
        """See `placements.force_release`."""
        return await self._with(lambda connection: placements.force_release(connection, term, shard, str(owner), epoch))

    async def drain(self, term: int, owner: Life) -> bool:
        """See `placements.drain`."""
        return await self._with(lambda connection: placements.drain(connection, term, str(owner)))

    async def move_redis(self, term: int, expected: RedisRecord, to: RedisRecord) -> bool:
        """See `redis_record.move`, and `redis_record.name_first` where nobody is recorded yet."""
        if expected == NOBODY:
            return await self._with(lambda connection: redis_record.name_first(connection, term, _row(to)))
        return await self._with(lambda connection: redis_record.move(connection, term, _row(expected), _row(to)))

    async def freeze(self, term: int, shard: int, reason: str) -> bool:
        """See `placements.freeze`."""
        return await self._with(lambda connection: placements.freeze(connection, term, shard, reason))

    async def stored(self) -> Stored:
        """What is stored, as far as a version must be able to read it."""
        return await self._with(_stored)

    async def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _read(self, connection: asyncpg.Connection) -> Reading:
        seen = await directory.observe(connection)
        asked_us = now_us()
        clock_s, read_only = await connection.fetchrow(_CLOCK)
        now_s = (asked_us + now_us()) / 2 / US_PER_S
        return Reading(
            how=Database.READ_ONLY if read_only else self._last_beat,
            owners=tuple(_owners(seen.instances)),
            shards=tuple(_shard(row) for row in seen.shards),
            consumers=await self._read_consumers(connection),
            audits=await self._auditor.look(connection, [s.shard for s in seen.shards if s.state == "owned"]),
            switch=await healing_switch.read(connection),
            redis=_redis(await redis_record.read(connection)),
            clock_offset_ms=int((now_s - clock_s) * 1_000),
        )

    async def _check_schema(self, connection: asyncpg.Connection) -> None:
        """Raises Away for a schema that is still to be migrated, ConfigurationError for one of a newer release."""
        if not self._schema_is_current:
            found = await schema.look(connection)
            if found.refusal:
                raise ConfigurationError(found.refusal)
            if found.pending:
                await self.close()
                raise Away(Database.AWAY, f"it waits for {found.waits_for}")
            self._schema_is_current = True

    async def _read_consumers(self, connection: asyncpg.Connection) -> tuple[Consumer, ...]:
        if time.monotonic() - self._consumers_at_s >= CONSUMERS_INTERVAL_S:
            self._consumers = tuple(_consumer(row) for row in await consumers.progress(connection))
            self._consumers_at_s = time.monotonic()
        return self._consumers

    async def _with(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._dsn, self._name, timeout_s=TIMEOUT_S)
                    await self._check_schema(self._connection)
                return await work(self._connection)
        except DRIVER_ERRORS as error:
            await self.close()
            raise Away(_how(error), str(error) or type(error).__name__) from error


async def _stored(connection: asyncpg.Connection) -> Stored:
    migrations, compatible = await schema.applied(connection)
    formats = await directory.formats_read(connection, running_within_s=OWNER_RUNS_WITHIN_S)
    read = set.intersection(*map(set, formats)) if formats else set()
    return Stored(migrations, compatible, tuple(sorted(read)))


def _owners(rows: Iterable[InstanceRow]) -> Iterator[Owner]:
    for row in rows:
        life = _life(row.life)
        if life is not None:
            ages_ms = int(row.beat_age_s * 1_000), int(row.age_s * 1_000)
            yield Owner(life, ages_ms[0], row.draining, row.exited, row.generation, ages_ms[1])


def _shard(row: ShardRow) -> Shard:
    return Shard(row.shard, _life(row.owner), row.epoch, row.state, _life(row.desired_owner), row.reason)


def _consumer(row: ConsumerRow) -> Consumer:
    return Consumer(row.name, row.shard, row.sequence, row.head, _life(row.holder or None))


@lru_cache(maxsize=4_096)  # each is named in many rows, and in each reading: one object, found by what it is
def _life(text: str | None) -> Life | None:
    """The life that the directory names; None if it is empty, or text that no instance has written."""
    try:
        return None if text is None else Life.parse(BET_SERVICE, text)
    except ValueError:
        return None


def _redis(found: tuple[Row, float] | None) -> tuple[RedisRecord, int] | None:
    if found is None:
        return None
    row, age_s = found
    return RedisRecord(*row[:3], FailoverPhase(row.phase), *row[4:]), int(age_s * 1_000)


def _row(record: RedisRecord) -> Row:
    rest = (record.candidate, record.candidate_boot_id, record.min_replicas)
    return Row(record.primary, record.boot_id, record.epoch, record.phase.value, *rest)


def _how(error: BaseException) -> Database:
    if isinstance(error, asyncpg.CannotConnectNowError):
        return Database.RECOVERING
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return Database.FULL
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return Database.READ_ONLY
    return Database.AWAY
