"""Which instance owns which shard, and who is alive. Ages are by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

# Instances that ended this long ago are forgotten.
FORGET_AFTER_S = 86_400.0


class ShardRow(NamedTuple):
    """One shard. `owner` is instance name and boot id. When frozen or quarantined, `reason` says why."""

    shard: int
    owner: str | None
    address: str | None
    epoch: int
    state: str  # free, owned, frozen, quarantined
    desired_owner: str | None
    reason: str


class InstanceRow(NamedTuple):
    """One life of an instance. `name` is instance name and boot id, as in `ShardRow.owner`."""

    name: str
    address: str
    formats: tuple[int, ...]
    beat_age_s: float
    draining: bool
    exited: bool


class Observed(NamedTuple):
    """Everything a decision about ownership rests on. healer_beat_age_s: None when no healer ever beat."""

    shards: tuple[ShardRow, ...]
    instances: tuple[InstanceRow, ...]
    healer_beat_age_s: float | None


_SHARDS = """
SELECT shard_id, owner, address, epoch, state, desired_owner, reason FROM betting.shards ORDER BY shard_id
"""
_INSTANCES = """
SELECT instance, address, formats, extract(epoch FROM clock_timestamp() - beat_at)::float8, draining, exited
FROM betting.instances ORDER BY instance
"""
_HEALER_AGE = "SELECT extract(epoch FROM clock_timestamp() - beat_at)::float8 FROM betting.healer_beat"

_ORPHANS = """
SELECT s.shard_id, s.owner, s.address, s.epoch, s.state, s.desired_owner, s.reason
FROM betting.shards s
LEFT JOIN betting.instances i ON i.instance = s.owner
WHERE s.state IN ('free', 'owned') AND s.owner IS DISTINCT FROM $1
    AND (i.instance IS NULL OR i.exited OR i.beat_at < clock_timestamp() - make_interval(secs => $2))
    AND NOT EXISTS (
        SELECT FROM betting.healer_beat h WHERE h.beat_at >= clock_timestamp() - make_interval(secs => $2)
    )
ORDER BY s.shard_id
"""

_REGISTER = """
INSERT INTO betting.instances (instance, name, address, formats, beat_at, started_at)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
ON CONFLICT (instance) DO UPDATE SET address = $3, formats = $4, beat_at = clock_timestamp()
"""


async def shards(connection: asyncpg.Connection) -> tuple[ShardRow, ...]:
    """Every shard, ascending."""
    return tuple(ShardRow._make(row) for row in await connection.fetch(_SHARDS))


async def instances(connection: asyncpg.Connection) -> tuple[InstanceRow, ...]:
    """Every life of every instance that is not forgotten yet, also those that ended."""
    rows = await connection.fetch(_INSTANCES)
    return tuple(InstanceRow(row[0], row[1], tuple(row[2]), row[3], row[4], row[5]) for row in rows)


async def live_instances(connection: asyncpg.Connection, beat_within_s: float) -> tuple[InstanceRow, ...]:
    """Those that beat within this time and were not seen to end."""
    return tuple(i for i in await instances(connection) if not i.exited and i.beat_age_s <= beat_within_s)


async def observe(connection: asyncpg.Connection) -> Observed:
    """Shards, instances and the age of the healer's beat."""
    return Observed(await shards(connection), await instances(connection), await connection.fetchval(_HEALER_AGE))


async def orphans(connection: asyncpg.Connection, me: str, orphaned_after_s: float = 10.0) -> tuple[ShardRow, ...]:
    """Shards without a live owner, if the healer's beat is too old as well: while it beats, nothing is an orphan."""
    return tuple(ShardRow._make(row) for row in await connection.fetch(_ORPHANS, me, orphaned_after_s))


async def register(
    connection: asyncpg.Connection, instance: str, name: str, address: str, formats: Sequence[int]
) -> None:
    """Announces a new life of the instance `name`. Its earlier lives have ended, or are told so by the fence."""
    await connection.execute(_REGISTER, instance, name, address, list(formats))
    await connection.execute(
        "UPDATE betting.instances SET exited = true WHERE name = $1 AND instance <> $2 AND NOT exited", name, instance
    )
    await connection.execute(
        "DELETE FROM betting.instances WHERE exited AND beat_at < clock_timestamp() - make_interval(secs => $1)",
        FORGET_AFTER_S,
    )


async def beat(connection: asyncpg.Connection, instance: str) -> bool:
    """Says that this instance lives. False: it is not registered, or was declared ended."""
    found = await connection.fetchval(
        "UPDATE betting.instances SET beat_at = clock_timestamp() WHERE instance = $1 RETURNING NOT exited", instance
    )
    return bool(found)


async def announce_draining(connection: asyncpg.Connection, instance: str, draining: bool = True) -> None:
    """This instance takes no more shards; `draining=False`: it takes some again."""
    await connection.execute("UPDATE betting.instances SET draining = $2 WHERE instance = $1", instance, draining)


async def mark_exited(connection: asyncpg.Connection, instance: str) -> bool:
    """Somebody who can know (supervisor, kubelet) saw it end: its shards need no waiting. False: unknown instance."""
    found = await connection.fetchval(
        "UPDATE betting.instances SET exited = true WHERE instance = $1 RETURNING true", instance
    )
    return bool(found)
