"""Which instance owns which shard, and who is alive. Ages are by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from betting.life import Life

# NOTIFY tells of every change of `shards` and `instances` on it; the payload is the shard, or the life.
CHANNEL = "betting_shards"

# Instances that ended this long ago are forgotten.
FORGET_AFTER_S = 86_400.0


class ShardRow(NamedTuple):
    """One shard. `owner` and `desired_owner` are lives, as text (see `betting.life`).

    reason: why it is frozen or quarantined.
    """

    shard: int
    owner: str | None
    address: str | None
    epoch: int
    state: str  # free, owned, frozen, quarantined
    desired_owner: str | None
    reason: str


class InstanceRow(NamedTuple):
    """One life of an instance, as text in `life`, as in `ShardRow.owner`.

    draining: it takes no shards, because it stops, or has only just started. generation: of its deployment, increasing;
    age_s: since it registered. refused: the shard that it could not load when another generation could be asked to; it
    takes no shards then.
    """

    life: str
    address: str
    formats: tuple[int, ...]
    beat_age_s: float
    draining: bool
    exited: bool
    generation: int = 0
    age_s: float = 0.0
    refused: int | None = None


class Observed(NamedTuple):
    """Everything a decision about ownership rests on. healer_beat_age_s: None when no healer ever beat."""

    shards: tuple[ShardRow, ...]
    instances: tuple[InstanceRow, ...]
    healer_beat_age_s: float | None


_SHARDS = """
SELECT shard_id, owner, address, epoch, state, desired_owner, reason FROM betting.shards ORDER BY shard_id
"""
_INSTANCES = """
SELECT life, address, formats, extract(epoch FROM clock_timestamp() - beat_at)::float8, draining, exited, generation,
    extract(epoch FROM clock_timestamp() - started_at)::float8, refused_shard
FROM betting.instances ORDER BY life
"""
_COUNTS = """
SELECT count(*),
    count(*) FILTER (
        WHERE state = 'owned' AND NOT exited AND beat_at >= clock_timestamp() - make_interval(secs => $1)
    ),
    count(*) FILTER (WHERE state IN ('frozen', 'quarantined'))
FROM betting.shards LEFT JOIN betting.instances ON life = owner
"""
_FORMATS = """
SELECT formats FROM betting.instances
WHERE NOT exited AND beat_at >= clock_timestamp() - make_interval(secs => $1)
"""
_RUNNING = """
SELECT DISTINCT instance FROM betting.instances
WHERE NOT exited AND beat_at >= clock_timestamp() - make_interval(secs => $1) ORDER BY instance
"""
_HEALER_AGE = "SELECT extract(epoch FROM clock_timestamp() - beat_at)::float8 FROM betting.healer_beat"

_REGISTER = """
INSERT INTO betting.instances
    (life, workload, instance, boot_id, address, formats, generation, draining, beat_at, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), clock_timestamp())
ON CONFLICT (life) DO UPDATE
SET address = $5, formats = $6, generation = $7, draining = $8, beat_at = clock_timestamp()
"""


async def shards(
    connection: asyncpg.Connection | asyncpg.Pool, *, timeout_s: float | None = None
) -> tuple[ShardRow, ...]:
    """Every shard, ascending."""
    return tuple(ShardRow._make(row) for row in await connection.fetch(_SHARDS, timeout=timeout_s))


async def unserved(connection: asyncpg.Connection) -> int:
    """The number of shards that are free, frozen or quarantined."""
    count: int = await connection.fetchval("SELECT count(*) FROM betting.shards WHERE state <> 'owned'")
    return count


class Counts(NamedTuple):
    """Numbers of shards: all, owned by a life that runs, and stopped (frozen or quarantined)."""

    shards: int
    owned: int
    stopped: int


async def counts(connection: asyncpg.Connection, *, running_within_s: float) -> Counts:
    """How many shards there are, by their state. A life runs whose heartbeat is not older than `running_within_s`
    seconds and that was not marked as ended."""
    row = await connection.fetchrow(_COUNTS, running_within_s)
    return Counts._make(row)


async def formats_read(connection: asyncpg.Connection, *, running_within_s: float) -> tuple[tuple[int, ...], ...]:
    """The formats of journal entries that each bet-service reads whose life runs, see `counts`."""
    return tuple(tuple(row[0]) for row in await connection.fetch(_FORMATS, running_within_s))


async def running(connection: asyncpg.Connection, *, running_within_s: float) -> tuple[str, ...]:
    """The names of the bet-services whose life runs, see `counts`."""
    return tuple(row[0] for row in await connection.fetch(_RUNNING, running_within_s))


async def instances(connection: asyncpg.Connection) -> tuple[InstanceRow, ...]:
    """Every life of every instance that is not forgotten yet, also those that ended."""
    rows = await connection.fetch(_INSTANCES)
    return tuple(InstanceRow(row[0], row[1], tuple(row[2]), *row[3:]) for row in rows)


async def observe(connection: asyncpg.Connection) -> Observed:
    """Shards, instances and the age of the healer's beat."""
    return Observed(await shards(connection), await instances(connection), await connection.fetchval(_HEALER_AGE))


async def register(
    connection: asyncpg.Connection,
    life: Life,
    address: str,
    formats: Sequence[int],
    *,
    generation: int = 0,
    draining: bool = False,
) -> None:
    """Registers a new life of an instance; its earlier lives are marked as ended.

    generation: of its deployment, at least 0. draining: it takes no shards before `announce_draining` says so.
    """
    known = (str(life), life.workload, life.instance, life.boot_id, address, list(formats))
    await connection.execute(_REGISTER, *known, generation, draining)
    await connection.execute(
        "UPDATE betting.instances SET exited = true WHERE instance = $1 AND life <> $2 AND NOT exited",
        life.instance,
        str(life),
    )
    await connection.execute(
        "DELETE FROM betting.instances WHERE exited AND beat_at < clock_timestamp() - make_interval(secs => $1)",
        FORGET_AFTER_S,
    )


async def beat(connection: asyncpg.Connection, life: str) -> bool:
    """Writes the heartbeat of this life. False: it is not registered, or was marked as ended."""
    found = await connection.fetchval(
        "UPDATE betting.instances SET beat_at = clock_timestamp() WHERE life = $1 RETURNING NOT exited", life
    )
    return bool(found)


async def announce_draining(connection: asyncpg.Connection, life: str, draining: bool = True) -> None:
    """Marks this life as draining, so that it gets no more shards; `draining=False` undoes it."""
    await connection.execute("UPDATE betting.instances SET draining = $2 WHERE life = $1", life, draining)


async def refuse(connection: asyncpg.Connection, life: str, shard: int) -> None:
    """Records that this life could not load a shard that another version is asked to load: it gets no more shards."""
    query = "UPDATE betting.instances SET draining = true, refused_shard = $2 WHERE life = $1"
    await connection.execute(query, life, shard)


async def mark_exited(connection: asyncpg.Connection, life: str) -> bool:
    """Records that a supervisor or kubelet saw this life end: its shards need no waiting. False: unknown life."""
    found = await connection.fetchval("UPDATE betting.instances SET exited = true WHERE life = $1 RETURNING true", life)
    return bool(found)
