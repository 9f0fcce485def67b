"""What the journal says after a demo: which acknowledged requests it does not have, and what was settled meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from betting.engine.entries import Kind
from betting.supervision.errors import LocalError

TIMEOUT_S = 10.0
_MISSING = """
SELECT told.key::text FROM unnest($1::uuid[]) AS told (key)
WHERE NOT EXISTS (SELECT FROM betting.journal j WHERE j.request_key = told.key)
"""
_SETTLED = """
SELECT (SELECT count(*) FROM betting.journal WHERE kind = $1),
    (SELECT count(DISTINCT event_id) FROM settlement.settlements WHERE finished_at_us IS NOT NULL)
"""


@dataclass(frozen=True)
class Evidence:
    """`missing`: request keys that were acknowledged and are not in the journal."""

    missing: frozenset[str]
    bets_settled: int
    events_settled: int


async def gather(dsn: str, acknowledged: Collection[str]) -> Evidence:
    """Asks the database. Raises LocalError when it does not answer."""
    try:
        connection = await asyncpg.connect(dsn, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
        try:
            missing = await connection.fetch(_MISSING, list(acknowledged))
            bets, events = await connection.fetchrow(_SETTLED, Kind.BET_SETTLED)
        finally:
            await connection.close(timeout=TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise LocalError(f"The journal could not be read after the demo: {error}") from error
    return Evidence(frozenset(row[0] for row in missing), bets, events)
