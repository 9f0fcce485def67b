"""Counts replays that ended their owners. A shard that ended two in a row is quarantined."""

from __future__ import annotations

import asyncpg
import structlog

_log = structlog.get_logger(component=__name__)

MAX_DEATHS = 2

# Whoever is noted as loading at the epoch that is now taken away has not finished: it counts as a death.
_DEATHS = """
SELECT ARRAY(SELECT DISTINCT unnest(r.deaths || r.loading_by))
FROM betting.replays r JOIN betting.shards s ON s.shard_id = r.shard
WHERE r.shard = $1 AND r.epoch = $2 AND s.epoch = $2
"""

_QUARANTINE = """
UPDATE betting.shards
SET owner = NULL, address = NULL, state = 'quarantined', epoch = epoch + 1, reason = $3
WHERE shard_id = $1 AND epoch = $2 AND state IN ('free', 'owned')
"""

# Only the owner at this epoch is recorded: one that was stopped for a while, and goes on with shards that others have
# loaded meanwhile, would count as a death that never was. FOR SHARE: a change of owner comes before this, or after it.
# Others see the record at once; that it can be lost when Postgres itself ends in that moment is worth no wait for the
# disk: it costs one more try at a shard that ends its owners.
_STARTED = """
WITH ours AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) FROM betting.shards
    WHERE shard_id = $1 AND owner = $2 AND epoch = $3 AND state = 'owned'
    FOR SHARE
), before AS (
    DELETE FROM betting.replays WHERE shard = $4 AND loading_by = $2 AND epoch = $5
), recorded AS (
    INSERT INTO betting.replays AS r (shard, loading_by, epoch) SELECT $1, $2, $3 FROM ours
    ON CONFLICT (shard) DO UPDATE SET
        loading_by = $2,
        epoch = $3,
        deaths = CASE
            WHEN r.loading_by = $2 OR r.loading_by = ANY (r.deaths) THEN r.deaths ELSE r.deaths || r.loading_by
        END
    WHERE r.epoch < $3
)
SELECT EXISTS (SELECT FROM ours)
"""
_FINISHED = """
WITH cheap AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS applied)
DELETE FROM betting.replays USING cheap
WHERE shard = $1 AND loading_by = $2 AND epoch = $3 AND cheap.applied IS NOT NULL
"""


async def quarantined(connection: asyncpg.Connection, shard: int, seen_epoch: int) -> bool:
    """Whether taking the shard would be one owner too many; if so it is in quarantine now."""
    deaths = await connection.fetchval(_DEATHS, shard, seen_epoch) or []
    if len(deaths) < MAX_DEATHS:
        return False
    why = f"replaying it ended {len(deaths)} owners: {', '.join(sorted(deaths))}"
    await connection.execute(_QUARANTINE, shard, seen_epoch, why)
    _log.critical("shard quarantined", shard=shard, why=why)
    return True


async def started(
    connection: asyncpg.Connection, shard: int, owner: str, epoch: int, before: tuple[int, int] | None = None
) -> bool:
    """Records who is replaying. An earlier replay that was recorded and did not finish counts as a death.

    False: the shard is not this owner's at this epoch, or is frozen, and nothing is recorded for it. before: another
    shard (never this one) and its epoch, whose replay by this owner has finished.
    """
    return bool(await connection.fetchval(_STARTED, shard, owner, epoch, *(before or (None, None))))


async def finished(connection: asyncpg.Connection, shard: int, owner: str, epoch: int) -> None:
    """The replay ended well, or in a way that was recorded: earlier deaths were not its fault."""
    await connection.execute(_FINISHED, shard, owner, epoch)


async def forgive(connection: asyncpg.Connection, shard: int) -> None:
    """Resets the count, after an operator has looked."""
    await connection.execute("DELETE FROM betting.replays WHERE shard = $1", shard)
