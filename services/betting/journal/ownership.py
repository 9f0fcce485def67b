"""Who may write a shard: acquire, steal, take again, release, freeze. Each is one autocommitted compare-and-set.

An UPDATE of a shard's row waits for appends that hold it FOR SHARE; once it returns, what the owner before appended is
committed or never will be. The head is read by a later statement: the UPDATE's own snapshot misses the last batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import structlog

from betting.journal import reader, replays
from betting.journal.directory import (
    InstanceRow,
    Observed,
    ShardRow,
    announce_draining,
    beat,
    mark_exited,
    observe,
    refuse,
    register,
    shards,
)

_log = structlog.get_logger(component=__name__)

__all__ = [
    "Acquired", "InstanceRow", "Observed", "Release", "ShardRow", "StealBlocked", "acquire", "acquire_group",
    "announce_draining", "beat", "freeze", "mark_exited", "observe", "refuse", "register", "release", "release_group",
    "replay_finished", "replay_started", "shards", "steal", "take_again", "unfreeze",
]  # fmt: skip

# A healthy append holds its locks for milliseconds. Who holds one longer is ended.
STEAL_LOCK_TIMEOUT = "200ms"
STEAL_ATTEMPTS = 15

# The lock timeout is set inside the statement: no transaction to be left open, nothing to be reset.
_TAKE = """
UPDATE betting.shards s
SET owner = $2, address = $3, epoch = s.epoch + 1, state = 'owned', reason = ''
FROM (SELECT set_config('lock_timeout', $5, true) AS applied) AS limits
WHERE s.shard_id = $1 AND limits.applied IS NOT NULL AND {condition}
RETURNING s.epoch
"""
_ACQUIRE = _TAKE.format(condition="s.epoch = $4 AND s.state IN ('free', 'owned')")
_TAKE_AGAIN = _TAKE.format(condition="s.epoch >= $4 AND s.state = 'owned' AND s.owner = $2")

# Rows that anybody has locked, an append in flight for one, are left out: these never wait, so they neither hang nor
# end in a deadlock. Ascending, as appends lock them.
_ACQUIRE_GROUP = """
WITH unlocked AS MATERIALIZED (
    SELECT s.shard_id
    FROM unnest($1::int[], $2::bigint[]) AS wanted (shard, epoch)
    JOIN betting.shards s ON s.shard_id = wanted.shard
    WHERE s.epoch = wanted.epoch AND s.state IN ('free', 'owned')
        AND NOT EXISTS (SELECT FROM betting.replays r WHERE r.shard = s.shard_id)
    ORDER BY s.shard_id
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE betting.shards s
SET owner = $3, address = $4, epoch = s.epoch + 1, state = 'owned', reason = ''
FROM unlocked WHERE s.shard_id = unlocked.shard_id
RETURNING s.shard_id, s.epoch
"""
_RELEASE_GROUP = """
WITH unlocked AS MATERIALIZED (
    SELECT s.shard_id, given.receiver
    FROM unnest($1::int[], $2::bigint[], $3::text[]) AS given (shard, epoch, receiver)
    JOIN betting.shards s ON s.shard_id = given.shard
    WHERE s.owner = $4 AND s.epoch = given.epoch AND s.state = 'owned'
    ORDER BY s.shard_id
    FOR NO KEY UPDATE OF s SKIP LOCKED
), released AS (
    UPDATE betting.shards s
    SET owner = NULL, address = NULL, state = 'free', desired_owner = coalesce(unlocked.receiver, s.desired_owner)
    FROM unlocked WHERE s.shard_id = unlocked.shard_id
    RETURNING s.shard_id, s.epoch
), forgiven AS (
    DELETE FROM betting.replays r USING released
    WHERE r.shard = released.shard_id AND r.epoch = released.epoch AND r.loading_by = $4 AND r.deaths = '{}'
), remembered AS (
    UPDATE betting.replays r SET loading_by = r.deaths[1] FROM released
    WHERE r.shard = released.shard_id AND r.epoch = released.epoch AND r.loading_by = $4 AND r.deaths <> '{}'
)
SELECT shard_id FROM released
"""

_END_HOLDERS = """
SELECT a.pid, pg_terminate_backend(a.pid)
FROM pg_stat_activity a
WHERE a.application_name = right($1, 63) AND a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND EXISTS (
        SELECT FROM pg_locks l
        WHERE l.pid = a.pid AND l.granted AND l.relation = 'betting.shards'::regclass AND l.mode <> 'AccessShareLock'
    )
"""


class StealBlocked(Exception):
    """The shard's row stays locked by something that is not the old owner."""


class Acquired(NamedTuple):
    """The epoch to write at, and the last committed sequence: nobody of an older epoch can add to it."""

    epoch: int
    head_sequence: int


async def acquire(
    connection: asyncpg.Connection, shard: int, owner: str, address: str, seen_epoch: int
) -> Acquired | None:
    """Takes a shard if its epoch is still the one seen. None: somebody else was faster, or it is frozen or quarantined.

    Waits for an append in flight. A shard whose replay has killed two owners is quarantined instead.
    """
    if await replays.quarantined(connection, shard, seen_epoch):
        return None
    return await _taken(connection, _ACQUIRE, shard, owner, address, seen_epoch, "0")


async def acquire_group(
    connection: asyncpg.Connection, seen: Mapping[int, int], owner: str, address: str
) -> dict[int, Acquired]:
    """Takes, in one statement, those of these shards that can be taken without waiting. seen: shard to the epoch seen.

    Not in the answer: what somebody else was faster to take, what is frozen or quarantined, and what `acquire` or
    `steal` have to look at alone: rows that are locked now, and shards whose last replay did not finish.
    """
    shards = sorted(seen)
    rows = await connection.fetch(_ACQUIRE_GROUP, shards, [seen[shard] for shard in shards], owner, address)
    epochs: dict[int, int] = dict(rows)
    heads = await reader.heads(connection, sorted(epochs))
    return {shard: Acquired(epochs[shard], heads[shard]) for shard in sorted(epochs)}


async def steal(
    connection: asyncpg.Connection, shard: int, owner: str, address: str, seen_epoch: int
) -> Acquired | None:
    """`acquire` from an owner that does not answer: ends its connections where they hold the shard's lock.

    Raises StealBlocked after about three seconds.
    """
    if await replays.quarantined(connection, shard, seen_epoch):
        return None
    old_owner = await connection.fetchval("SELECT owner FROM betting.shards WHERE shard_id = $1", shard)
    return await _taken_by_force(connection, _ACQUIRE, shard, owner, address, seen_epoch, old_owner)


async def take_again(
    connection: asyncpg.Connection, shard: int, owner: str, address: str, epoch: int
) -> Acquired | None:
    """After an append with unknown outcome: the shard at a new epoch, once the old statement has ended either way.

    A try before, whose answer was lost, may have raised the epoch for this owner already: that one counts too. None: it
    has another owner now, or was frozen. Raises StealBlocked.
    """
    return await _taken_by_force(connection, _TAKE_AGAIN, shard, owner, address, epoch, owner)


async def _taken_by_force(
    connection: asyncpg.Connection, sql: str, shard: int, owner: str, address: str, epoch: int, old_owner: str | None
) -> Acquired | None:
    for _attempt in range(STEAL_ATTEMPTS):
        try:
            return await _taken(connection, sql, shard, owner, address, epoch, STEAL_LOCK_TIMEOUT)
        except asyncpg.LockNotAvailableError:
            ended = await connection.fetch(_END_HOLDERS, old_owner or "")
            _log.warning("shard lock held", shard=shard, holder=old_owner, ended=[row[0] for row in ended])
    raise StealBlocked(f"shard {shard} stayed locked for {STEAL_ATTEMPTS} times {STEAL_LOCK_TIMEOUT}")


async def _taken(
    connection: asyncpg.Connection, sql: str, shard: int, owner: str, address: str, epoch: int, lock_timeout: str
) -> Acquired | None:
    new_epoch = await connection.fetchval(sql, shard, owner, address, epoch, lock_timeout)
    if new_epoch is None:
        return None
    return Acquired(new_epoch, await reader.head(connection, shard))


async def release(connection: asyncpg.Connection, shard: int, owner: str, epoch: int, to: str | None = None) -> bool:
    """Gives the shard up; `to` is the instance that should take it. False: it was not ours at this epoch."""
    released = await connection.fetchval(
        """
        UPDATE betting.shards
        SET owner = NULL, address = NULL, state = 'free', desired_owner = coalesce($4, desired_owner)
        WHERE shard_id = $1 AND owner = $2 AND epoch = $3 AND state = 'owned'
        RETURNING true
        """,
        shard, owner, epoch, to,
    )  # fmt: skip
    await replays.finished(connection, shard, owner, epoch)
    return bool(released)


class Release(NamedTuple):
    """A shard to be given up at this epoch; `to` is the instance that should take it, None: anybody."""

    shard: int
    epoch: int
    to: str | None


async def release_group(connection: asyncpg.Connection, owner: str, given: Sequence[Release]) -> Collection[int]:
    """Gives shards up in one statement, and returns which. The others were not ours at this epoch, or are locked.

    That this owner has not finished a replay is no death; what is known of owners before it stays.
    """
    columns = [list(column) for column in zip(*given, strict=True)] or [[], [], []]
    return {row[0] for row in await connection.fetch(_RELEASE_GROUP, *columns, owner)}


async def freeze(connection: asyncpg.Connection, shard: int, owner: str, epoch: int, why: str) -> bool:
    """Nothing can be appended from now on; a person must look. False: it was not ours at this epoch."""
    frozen = await connection.fetchval(
        """
        UPDATE betting.shards SET state = 'frozen', reason = $4
        WHERE shard_id = $1 AND owner = $2 AND epoch = $3 AND state = 'owned'
        RETURNING true
        """,
        shard, owner, epoch, why,
    )  # fmt: skip
    await replays.finished(connection, shard, owner, epoch)
    return bool(frozen)


async def unfreeze(connection: asyncpg.Connection, shard: int) -> bool:
    """A person's decision: a frozen or quarantined shard may be taken again, by anybody. False: it was neither."""
    await replays.forgive(connection, shard)
    await connection.execute("UPDATE betting.instances SET refused_shard = NULL WHERE refused_shard = $1", shard)
    unfrozen = await connection.fetchval(
        """
        UPDATE betting.shards SET owner = NULL, address = NULL, state = 'free', epoch = epoch + 1, reason = ''
        WHERE shard_id = $1 AND state IN ('frozen', 'quarantined')
        RETURNING true
        """,
        shard,
    )
    return bool(unfrozen)


async def replay_started(
    connection: asyncpg.Connection, shard: int, owner: str, epoch: int, before: tuple[int, int] | None = None
) -> bool:
    """Call before loading a shard. Should this owner end before `replay_finished`, the replay is blamed.

    False: the shard is not ours at this epoch, or is frozen: it is not to be loaded. before: another shard and its
    epoch that is loaded now; `replay_finished` need not be called for it.
    """
    return await replays.started(connection, shard, owner, epoch, before)


async def replay_finished(connection: asyncpg.Connection, shard: int, owner: str, epoch: int) -> None:
    """Call once a shard is loaded: the replay kills nobody."""
    await replays.finished(connection, shard, owner, epoch)
