"""The healer's side of the directory: its term, its heartbeat, and the desired owners of shards.

A paused healer can wake up after any check of its own, so every statement carries its term: with an older term it
changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

_NEW_TERM = """
INSERT INTO betting.healer_beat AS h (term, beat_at) VALUES (1, clock_timestamp())
ON CONFLICT (only_row) DO UPDATE SET term = h.term + 1, beat_at = clock_timestamp()
RETURNING term
"""

# Ascending, as appends lock rows: the other way round the two could end in a deadlock.
_PLACE = """
WITH fence AS MATERIALIZED (
    SELECT term FROM betting.healer_beat WHERE term = $1 FOR SHARE
), locked AS MATERIALIZED (
    SELECT s.shard_id, wanted.owner
    FROM fence, unnest($2::int[], $3::text[]) AS wanted (shard, owner)
    JOIN betting.shards s ON s.shard_id = wanted.shard
    WHERE s.desired_owner IS DISTINCT FROM wanted.owner
    ORDER BY s.shard_id
    FOR NO KEY UPDATE OF s
), changed AS (
    UPDATE betting.shards s SET desired_owner = locked.owner
    FROM locked WHERE s.shard_id = locked.shard_id
    RETURNING s.shard_id
)
SELECT EXISTS (SELECT FROM fence), (SELECT count(*) FROM changed)
"""

_MARK_DEAD = """
WITH fence AS MATERIALIZED (
    SELECT term FROM betting.healer_beat WHERE term = $1 FOR SHARE
), marked AS (
    UPDATE betting.instances SET exited = true FROM fence WHERE life = $2 AND NOT exited RETURNING life
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM marked)
"""

_DRAIN = """
WITH fence AS MATERIALIZED (
    SELECT term FROM betting.healer_beat WHERE term = $1 FOR SHARE
), drained AS (
    UPDATE betting.instances SET draining = true FROM fence WHERE life = $2 AND NOT exited AND NOT draining
    RETURNING life
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM drained)
"""

# The lock timeout is set inside the statement: no transaction to be left open, nothing to be reset.
_FORCE_RELEASE = """
WITH fence AS MATERIALIZED (
    SELECT term, set_config('lock_timeout', '200ms', true) FROM betting.healer_beat WHERE term = $1 FOR SHARE
), released AS (
    UPDATE betting.shards SET owner = NULL, address = NULL, state = 'free'
    FROM fence WHERE shard_id = $2 AND owner = $3 AND epoch = $4 AND state = 'owned' AND desired_owner IS NOT NULL
    RETURNING shard_id
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM released)
"""

_FREEZE = """
WITH fence AS MATERIALIZED (
    SELECT term, set_config('lock_timeout', '200ms', true) FROM betting.healer_beat WHERE term = $1 FOR SHARE
), stopped AS (
    UPDATE betting.shards SET state = 'frozen', reason = $3 FROM fence WHERE shard_id = $2 AND state = 'owned'
    RETURNING shard_id
)
SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM stopped)
"""


class StaleTerm(Exception):
    """Another healer has started since: this one must stop."""


async def begin_term(connection: asyncpg.Connection) -> int:
    """A new term, higher than every one before; from now on older ones are refused."""
    term: int = await connection.fetchval(_NEW_TERM)
    return term


async def beat(connection: asyncpg.Connection, term: int) -> None:
    """Writes the heartbeat of the healer at this term: while it is recent, `desired_owner` decides.

    Raises StaleTerm.
    """
    found = await connection.fetchval(
        "UPDATE betting.healer_beat SET beat_at = clock_timestamp() WHERE term = $1 RETURNING true", term
    )
    if not found:
        raise StaleTerm(f"term {term} is over")


async def place(connection: asyncpg.Connection, term: int, wanted: Mapping[int, str | None]) -> int:
    """Sets the desired owner of these shards; returns how many changed. Raises StaleTerm, having changed nothing."""
    shards = sorted(wanted)
    return int(await _fenced(connection, _PLACE, term, shards, [wanted[shard] for shard in shards]))


async def mark_dead(connection: asyncpg.Connection, term: int, owner: str) -> bool:
    """Marks this life dead: its shards may be taken, and if it wakes up, its next heartbeat stops it.

    False: it was marked before, or there is no such life. Raises StaleTerm, having changed nothing.
    """
    return bool(await _fenced(connection, _MARK_DEAD, term, owner))


async def force_release(connection: asyncpg.Connection, term: int, shard: int, owner: str, epoch: int) -> bool:
    """Releases a shard in the name of an owner that does not: who it is meant for takes it at the next epoch.

    False: the owner or the epoch has changed. Raises StaleTerm, having changed nothing; asyncpg.PostgresError when
    the owner holds its row for longer than 200 ms (then it hangs in an append, and is marked dead for that).
    """
    return bool(await _fenced(connection, _FORCE_RELEASE, term, shard, owner, epoch))


async def drain(connection: asyncpg.Connection, term: int, owner: str) -> bool:
    """Marks this life as draining: it hands its shards over, as when it drains by itself.

    False: it was marked before, or there is no such life. Raises StaleTerm, having changed nothing.
    """
    return bool(await _fenced(connection, _DRAIN, term, owner))


async def freeze(connection: asyncpg.Connection, term: int, shard: int, reason: str) -> bool:
    """Stops a shard, whoever owns it: its next append matches no row. A person unfreezes it (`betting unfreeze`).

    False: nobody owns it, or it is stopped already. Raises StaleTerm, having changed nothing; asyncpg.PostgresError
    when an append holds its row for longer than 200 ms.
    """
    return bool(await _fenced(connection, _FREEZE, term, shard, reason))


async def _fenced(connection: asyncpg.Connection, statement: str, term: int, *arguments: object) -> int | bool:
    """What a statement of ours did, by its second column; the first says whether the term still holds."""
    row = await connection.fetchrow(statement, term, *arguments)
    assert row is not None
    if not row[0]:
        raise StaleTerm(f"term {term} is over")
    done: int | bool = row[1]
    return done
