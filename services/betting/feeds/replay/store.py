"""Where a replay keeps its timetable and how far each match has come (schema `odds`)."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from betting.feeds.replay.schedule import Stage, Timetable
from betting.runtime.postgres import translated

_BEGIN = """
INSERT INTO odds.replays (replay, season_begin_us, wall_begin_us, speed_thousandths, open_ahead_us)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (replay) DO NOTHING"""

_FIND = """
SELECT season_begin_us, wall_begin_us, speed_thousandths, open_ahead_us FROM odds.replays WHERE replay = $1"""

# Never back, whoever writes last.
_ADVANCE = """
INSERT INTO odds.replay_matches (replay, event_id, stage)
SELECT $1, * FROM unnest($2::bigint[], $3::smallint[])
ON CONFLICT (replay, event_id) DO UPDATE SET stage = greatest(replay_matches.stage, excluded.stage)"""


class Store:
    """Every method raises ServiceError."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def timetable(self, replay: str) -> Timetable | None:
        """The timetable of a replay that has begun."""
        async with translated():
            row = await self._pool.fetchrow(_FIND, replay)
        return None if row is None else Timetable(*row)

    async def begin(self, replay: str, table: Timetable) -> Timetable:
        """Stores a timetable unless the replay has one; the one that counts."""
        values = (table.season_begin_us, table.wall_begin_us, table.speed_thousandths, table.open_ahead_us)
        async with translated():
            await self._pool.execute(_BEGIN, replay, *values)
        stored = await self.timetable(replay)
        assert stored is not None, "a timetable is never deleted while its replay runs"
        return stored

    async def stages(self, replay: str) -> dict[int, Stage]:
        """How far each match has come, by event id; those not in it are waiting."""
        query = "SELECT event_id, stage FROM odds.replay_matches WHERE replay = $1"
        async with translated():
            return {row["event_id"]: Stage(row["stage"]) for row in await self._pool.fetch(query, replay)}

    async def advance(self, replay: str, reached: Iterable[tuple[int, Stage]]) -> None:
        """Remembers that these matches have reached these stages."""
        ids, stages = zip(*reached, strict=True)
        async with translated():
            await self._pool.execute(_ADVANCE, replay, list(ids), [int(stage) for stage in stages])
