"""What a request key was answered with, from the database: for keys too old to be in an owner's memory.

A key belongs to its user, so several users of a shard may have used the same one; whose answer is whose, the owner of
the shard knows (`ShardState.own_answer`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import asyncpg

# LATERAL: an index look-up per key, whatever the planner believes about table sizes.
_FIND = """
SELECT wanted.shard, wanted.key, j.sequence, j.kind, j.body, j.account, j.bet, j.at_us
FROM unnest($1::int[], $2::uuid[]) AS wanted (shard, key)
CROSS JOIN LATERAL (
    SELECT sequence FROM betting.requests WHERE request_key = wanted.key AND shard = wanted.shard
) r
CROSS JOIN LATERAL (
    SELECT sequence, kind, body, account, bet, at_us
    FROM betting.journal WHERE shard = wanted.shard AND sequence = r.sequence LIMIT 1
) j
"""

_MISSING = """
SELECT told.key::text FROM unnest($1::uuid[]) AS told (key)
WHERE NOT EXISTS (SELECT FROM betting.journal j WHERE j.request_key = told.key)
"""


class PriorEntry(NamedTuple):
    """An entry that answered a request key."""

    sequence: int
    kind: int
    body: bytes
    account: bytes
    bet: bytes | None
    at_us: int


async def find(
    connection: asyncpg.Connection, keys: Collection[tuple[int, bytes]]
) -> dict[tuple[int, bytes], list[PriorEntry]]:
    """The entries that answered these (shard, request key) pairs, in one query; unused keys are not in the result."""
    wanted = sorted(set(keys))
    rows = await connection.fetch(_FIND, [shard for shard, _key in wanted], [key for _shard, key in wanted])
    found: dict[tuple[int, bytes], list[PriorEntry]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(PriorEntry(*row[2:]))
    return found


async def missing(connection: asyncpg.Connection, keys: Collection[str]) -> frozenset[str]:
    """Those of these request keys, as text, that no entry of the journal carries. For drills: it reads all of it."""
    return frozenset(row[0] for row in await connection.fetch(_MISSING, list(keys)))
