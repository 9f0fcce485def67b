"""What a request key was answered with, from the database: for keys too old to be in an owner's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

# LATERAL with LIMIT: one index look-up per key, whatever the planner believes about table sizes.
_FIND = """
SELECT wanted.shard, wanted.key, j.sequence, j.kind, j.body, j.account, j.bet, j.at_us
FROM unnest($1::int[], $2::uuid[]) AS wanted (shard, key)
CROSS JOIN LATERAL (
    SELECT sequence FROM betting.requests WHERE request_key = wanted.key AND shard = wanted.shard LIMIT 1
) r
CROSS JOIN LATERAL (
    SELECT sequence, kind, body, account, bet, at_us
    FROM betting.journal WHERE shard = wanted.shard AND sequence = r.sequence LIMIT 1
) j
"""


class PriorEntry(NamedTuple):
    """The entry that answered a request key."""

    sequence: int
    kind: int
    body: bytes
    account: bytes
    bet: bytes | None
    at_us: int


async def find(
    connection: asyncpg.Connection, keys: Sequence[tuple[int, bytes]]
) -> dict[tuple[int, bytes], PriorEntry]:
    """The entries that answered these (shard, request key) pairs, in one query; unused keys are not in the result."""
    rows = await connection.fetch(_FIND, [shard for shard, _key in keys], [key for _shard, key in keys])
    return {(row[0], row[1]): PriorEntry(*row[2:]) for row in rows}
