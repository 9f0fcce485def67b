"""What a replay has to do at a moment of season time, given what it has done. Pure.

Season time is what the season file's dates and times say; wall time is ours. `speed` is season seconds per wall second:
1 replays at life's pace, 60,480 makes a season week pass in ten seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from betting.feeds.decimals import Odds
from betting.feeds.replay import path
from betting.feeds.seasons import Match, Season, SeasonMarket

US_PER_S = 1_000_000
MATCH_US = 105 * 60 * US_PER_S
# There is always something to bet on: at least this many rounds of the league are open.
ROUNDS_AHEAD = 2
# A price moves about this often by the wall clock, and never fewer or more times than this.
WALL_US_PER_MOVE = 30 * US_PER_S
MOVES_MIN = 12
MOVES_MAX = 2_000
SPEED_UNIT = 1_000


class Stage(enum.IntEnum):
    """How far a match has come; each is reached by one repeatable step from the one before."""

    WAITING = 0
    OFFERED = 1
    STARTED = 2
    FINISHED = 3
    SETTLED = 4


@dataclass(frozen=True, slots=True)
class Timetable:
    """How season time runs in wall time (both in microseconds since 1970), made once per replay and stored.

    `open_ahead_us` is how long, in season time, a match is open before its kick-off.
    """

    season_begin_us: int
    wall_begin_us: int
    speed_thousandths: int
    open_ahead_us: int

    def season_us(self, wall_us: int) -> int:
        """The season's time at a moment of ours."""
        return self.season_begin_us + (wall_us - self.wall_begin_us) * self.speed_thousandths // SPEED_UNIT

    def wall_us(self, season_us: int) -> int:
        """The first moment of ours at which the season's time is `season_us`."""
        return self.wall_begin_us - (self.season_begin_us - season_us) * SPEED_UNIT // self.speed_thousandths


def timetable(
    season: Season, wall_now_us: int, speed_thousandths: int, lead_in_us: int, open_ahead_us: int, open_at_least_us: int
) -> Timetable:
    """A timetable that begins now, with the first kick-off `lead_in_us` of wall time ahead.

    A match opens `open_ahead_us` of season time before its kick-off, but at least `open_at_least_us` of wall time.
    """
    lead_in_season_us = lead_in_us * speed_thousandths // SPEED_UNIT
    open_us = max(open_ahead_us, open_at_least_us * speed_thousandths // SPEED_UNIT)
    return Timetable(season.matches[0].kick_off_us - lead_in_season_us, wall_now_us, speed_thousandths, open_us)


class Slot(NamedTuple):
    """A match in the timetable: season times, and by the wall clock when its betting ends."""

    match: Match
    opens_at_us: int
    kick_off_us: int
    ends_at_us: int
    closes_at_wall_us: int
    moves: int

    def due_at_us(self, stage: Stage) -> int:
        """The season time from which a stage may be reached."""
        return (0, self.opens_at_us, self.kick_off_us, self.ends_at_us, self.ends_at_us)[stage]

    def prices(self, market: SeasonMarket, season_us: int) -> list[Odds]:
        """The market's prices at a moment between opening and kick-off; the last move has the closing prices."""
        elapsed, whole = season_us - self.opens_at_us, self.kick_off_us - self.opens_at_us
        move = min(self.moves - 1, max(0, self.moves * elapsed // whole))
        part = path.pace(self.match.event_id, self.moves)[move]
        return [path.price_at(selection.opening, selection.closing, part) for selection in market.selections]


class ScheduleStep(NamedTuple):
    """Bring this match to this stage."""

    slot: Slot
    stage: Stage


class Schedule:
    """A season in a timetable."""

    def __init__(self, season: Season, table: Timetable) -> None:
        self.season = season
        self.table = table
        self.slots = tuple(_slots(season, table))

    def due(self, season_us: int, stages: Mapping[int, Stage], wanted: Iterable[Stage]) -> list[ScheduleStep]:
        """The next step of each match whose time has come and whose next stage is `wanted`, earliest first."""
        kinds = frozenset(wanted)
        steps = []
        for slot in self.slots:
            stage = stages.get(slot.match.event_id, Stage.WAITING)
            if stage is not Stage.SETTLED:
                following = Stage(stage + 1)
                if following in kinds and season_us >= slot.due_at_us(following):
                    steps.append(ScheduleStep(slot, following))
        return sorted(steps, key=lambda step: step.slot.due_at_us(step.stage))

    def on_offer(self, season_us: int, stages: Mapping[int, Stage]) -> list[Slot]:
        """Matches in the catalogue that have not kicked off."""
        return [
            slot
            for slot in self.slots
            if stages.get(slot.match.event_id) is Stage.OFFERED and slot.opens_at_us <= season_us < slot.kick_off_us
        ]

    def is_over(self, stages: Mapping[int, Stage]) -> bool:
        """Whether every match is settled."""
        return all(stages.get(slot.match.event_id) is Stage.SETTLED for slot in self.slots)


def _slots(season: Season, table: Timetable) -> Iterable[Slot]:
    ahead = ROUNDS_AHEAD * max(1, len({match.home for match in season.matches}) // 2)
    for index, match in enumerate(season.matches):
        opens = match.kick_off_us - table.open_ahead_us
        if index >= ahead:
            opens = min(opens, season.matches[index - ahead].kick_off_us)
        opens = table.season_begin_us if index < ahead else max(opens, table.season_begin_us)
        closes_wall = table.wall_us(match.kick_off_us)
        moves = (closes_wall - table.wall_us(opens)) // WALL_US_PER_MOVE
        yield Slot(
            match=match,
            opens_at_us=opens,
            kick_off_us=match.kick_off_us,
            ends_at_us=match.kick_off_us + MATCH_US,
            closes_at_wall_us=closes_wall,
            moves=min(MOVES_MAX, max(MOVES_MIN, moves)),
        )
