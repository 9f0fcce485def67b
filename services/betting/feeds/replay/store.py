"""Where a replay keeps its timetable, and the matches it has offered with how far each has come (schema `odds`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from betting.feeds.decimals import Odds
from betting.feeds.replay.reconcile import Offered
from betting.feeds.replay.schedule import Stage, Timetable
from betting.feeds.seasons import Match, PricedSelection, SeasonMarket
from betting.runtime.postgres import translated

_BEGIN = """
INSERT INTO odds.replays (replay, season_begin_us, wall_begin_us, speed_thousandths, open_ahead_us)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (replay) DO NOTHING"""

_FIND = """
SELECT season_begin_us, wall_begin_us, speed_thousandths, open_ahead_us FROM odds.replays WHERE replay = $1"""

# Never back, whoever writes last; a match is kept as it was offered.
_ADVANCE = """
INSERT INTO odds.replay_matches (replay, event_id, stage, match)
SELECT $1, * FROM unnest($2::bigint[], $3::smallint[], $4::jsonb[])
ON CONFLICT (replay, event_id) DO UPDATE SET
    stage = greatest(replay_matches.stage, excluded.stage), match = coalesce(replay_matches.match, excluded.match)"""

_KEEP = """
UPDATE odds.replay_matches kept SET match = given.match
FROM unnest($2::bigint[], $3::jsonb[]) AS given (event_id, match)
WHERE kept.replay = $1 AND kept.event_id = given.event_id"""

_NOTE = """
UPDATE odds.replay_matches noted SET attention = coalesce(given.attention, '')
FROM odds.replay_matches every
LEFT JOIN unnest($2::bigint[], $3::text[]) AS given (event_id, attention) USING (event_id)
WHERE every.replay = $1 AND noted.replay = $1 AND noted.event_id = every.event_id
  AND noted.attention <> coalesce(given.attention, '')"""

# Of laps that are over only what is still to be settled waits on.
_NOTE_OTHERS = """
UPDATE odds.replay_matches SET attention = '' WHERE replay <> $1 AND stage = $2 AND attention <> ''"""

NOTED_MAX = 1_000
_NOTED = """
SELECT replay, event_id, stage, attention FROM odds.replay_matches
WHERE attention <> '' ORDER BY event_id LIMIT $1"""


class Noted(NamedTuple):
    """A match that waits for an operator, and why."""

    replay: str
    event_id: int
    stage: Stage
    attention: str


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

    async def offered(self, replay: str) -> dict[int, Offered]:
        """The matches offered so far and how far each has come, by event id."""
        query = "SELECT event_id, stage, match FROM odds.replay_matches WHERE replay = $1"
        async with translated():
            rows = await self._pool.fetch(query, replay)
        return {row["event_id"]: Offered(_match(row["event_id"], row["match"]), Stage(row["stage"])) for row in rows}

    async def advance(self, replay: str, reached: Iterable[tuple[Match, Stage]]) -> None:
        """Records that these matches have reached these stages."""
        matches, stages = zip(*reached, strict=True)
        ids = [match.event_id for match in matches]
        async with translated():
            await self._pool.execute(_ADVANCE, replay, ids, [int(stage) for stage in stages], _texts(matches))

    async def keep(self, replay: str, matches: Sequence[Match]) -> None:
        """Replaces what is stored of these matches."""
        async with translated():
            await self._pool.execute(_KEEP, replay, [match.event_id for match in matches], _texts(matches))

    async def note(self, replay: str, attention: Mapping[int, str]) -> None:
        """Stores why a person has to look at a match, by event id; nobody has to look at the replay's others.

        Of other replays only what is not settled waits on.
        """
        async with translated():
            await self._pool.execute(_NOTE, replay, list(attention), list(attention.values()))
            await self._pool.execute(_NOTE_OTHERS, replay, int(Stage.SETTLED))

    async def noted(self) -> list[Noted]:
        """The matches that wait for an operator, the first `NOTED_MAX`."""
        async with translated():
            rows = await self._pool.fetch(_NOTED, NOTED_MAX)
        return [Noted(row["replay"], row["event_id"], Stage(row["stage"]), row["attention"]) for row in rows]

    async def looked_at(self, noted: Noted) -> None:
        """Removes a match that an operator has settled, or whose markets are void."""
        query = "UPDATE odds.replay_matches SET stage = $3, attention = '' WHERE replay = $1 AND event_id = $2"
        async with translated():
            await self._pool.execute(query, noted.replay, noted.event_id, int(Stage.SETTLED))


def _texts(matches: Iterable[Match]) -> list[str]:
    return [json.dumps(_document(match)) for match in matches]


def _document(match: Match) -> dict[str, Any]:
    """The match without its id, which is the row's; prices as numerator, denominator of opening, then of closing."""
    return {
        "line": match.line,
        "kick_off_us": match.kick_off_us,
        "sides": [match.home, match.away],
        "goals": [match.home_goals, match.away_goals],
        "certain": match.certain,
        "markets": [
            {
                "market_id": market.market_id,
                "kind": market.kind,
                "line_quarters": market.line_quarters,
                "bookmaker": market.bookmaker,
                "selections": [[each.selection_id, *each.opening, *each.closing] for each in market.selections],
            }
            for market in match.markets
        ],
    }


def _match(event_id: int, text: str | None) -> Match | None:
    if text is None:
        return None
    found = json.loads(text)
    markets = tuple(
        SeasonMarket(**(market | {"selections": tuple(_selection(*each) for each in market["selections"])}))
        for market in found["markets"]
    )
    (home, away), (home_goals, away_goals) = found["sides"], found["goals"]
    kick_off_us, line, certain = found["kick_off_us"], found["line"], found["certain"]
    return Match(event_id, line, kick_off_us, home, away, home_goals, away_goals, markets, certain)


def _selection(selection_id: int, *parts: int) -> PricedSelection:
    return PricedSelection(selection_id, Odds(*parts[:2]), Odds(*parts[2:]))
