"""What is due when: the timetable, the slots, the steps."""

from __future__ import annotations

import in_process
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.feeds.replay import messages
from betting.feeds.replay.schedule import (
    MATCH_US,
    MOVES_MAX,
    MOVES_MIN,
    Schedule,
    ScheduleStep,
    Stage,
    Timetable,
    timetable,
)
from betting.feeds.replay.settings import ReplaySettings
from betting.feeds.seasons import load_season
from betting.v1 import event_pb2

SECOND = 1_000_000
DAY = 86_400 * SECOND
WALL = 1_800_000_000 * SECOND
SEASON = load_season("E0-2024-25")


def season_schedule(speed: int = 1, lead_in_s: int = 300, at_least_s: int = 20) -> Schedule:
    table = timetable(SEASON, WALL, speed * 1000, lead_in_s * SECOND, 14 * DAY, at_least_s * SECOND)
    return Schedule(SEASON, table)


def run(plan: Schedule, season_us: int, stages: dict[int, Stage]) -> list[ScheduleStep]:
    """Takes every step that is due, as the lifecycle would."""
    taken = []
    while steps := plan.due(season_us, stages, Stage):
        for step in steps:
            stages[step.slot.match.event_id] = step.stage
            taken.append(step)
    return taken


def test_at_life_s_pace_the_season_begins_in_minutes() -> None:
    """Kick-offs keep their distances in wall time, the first is the lead-in away."""
    plan = season_schedule()
    first, second = plan.slots[0], plan.slots[1]
    assert first.closes_at_wall_us == WALL + 300 * SECOND
    assert second.closes_at_wall_us - first.closes_at_wall_us == second.kick_off_us - first.kick_off_us


def test_two_rounds_are_open_from_the_start() -> None:
    """At the first moment twenty matches are to be offered, and none is to be started."""
    plan = season_schedule()
    begin = plan.table.season_us(WALL)
    due = plan.due(begin, {}, Stage)
    assert len(due) >= 20
    assert {step.stage for step in due} == {Stage.OFFERED}


@pytest.mark.parametrize("speed", [1, 60, 3600, 60_480, 1_000_000])
def test_there_is_always_time_and_something_to_bet_on(speed: int) -> None:
    """At any speed every match is open for the promised wall time, and rounds are open until the last two."""
    plan = season_schedule(speed=speed, lead_in_s=20)
    for slot in plan.slots:
        open_s = (slot.closes_at_wall_us - plan.table.wall_us(slot.opens_at_us)) / SECOND
        assert open_s >= 19.9
        assert MOVES_MIN <= slot.moves <= MOVES_MAX
    for slot in plan.slots[: len(plan.slots) - 21]:
        open_then = [s for s in plan.slots if s.opens_at_us <= slot.kick_off_us < s.kick_off_us]
        assert len(open_then) >= 10


def test_a_demo_of_two_minutes_sees_dozens_settled() -> None:
    """At a season week in ten seconds, over forty matches have ended after 100 seconds, and others are open."""
    plan = season_schedule(speed=60_480, lead_in_s=20)
    stages: dict[int, Stage] = {}
    run(plan, plan.table.season_us(WALL + 100 * SECOND), stages)
    assert sum(stage is Stage.SETTLED for stage in stages.values()) > 40
    assert sum(stage is Stage.OFFERED for stage in stages.values()) >= 20


def test_steps_come_one_at_a_time_and_in_order() -> None:
    """A match that is long over still goes through every stage; nothing is due twice."""
    plan = season_schedule()
    stages: dict[int, Stage] = {}
    taken = run(plan, plan.slots[-1].ends_at_us, stages)
    assert len(taken) == 380 * 4
    for slot in plan.slots[:3]:
        own = [step.stage for step in taken if step.slot is slot]
        assert own == [Stage.OFFERED, Stage.STARTED, Stage.FINISHED, Stage.SETTLED]
    assert plan.is_over(stages)
    assert plan.due(plan.slots[-1].ends_at_us + DAY, stages, Stage) == []


def test_stages_are_due_at_their_times() -> None:
    """Started at kick-off and not before; finished and settled after 105 minutes and not before."""
    plan = season_schedule()
    slot = plan.slots[0]
    event_id = slot.match.event_id

    def due(season_us: int, stage: Stage) -> list[Stage]:
        steps = plan.due(season_us, {event_id: stage}, (Stage.STARTED, Stage.FINISHED, Stage.SETTLED))
        return [step.stage for step in steps if step.slot is slot]

    assert due(slot.kick_off_us - 1, Stage.OFFERED) == []
    assert due(slot.kick_off_us, Stage.OFFERED) == [Stage.STARTED]
    assert due(slot.kick_off_us + MATCH_US - 1, Stage.STARTED) == []
    assert due(slot.kick_off_us + MATCH_US, Stage.STARTED) == [Stage.FINISHED]
    assert due(slot.kick_off_us + MATCH_US, Stage.FINISHED) == [Stage.SETTLED]


def test_only_offered_matches_are_priced_until_kick_off() -> None:
    """Not before the catalogue has them, not from kick-off on."""
    plan = season_schedule()
    slot, offered = plan.slots[0], {plan.slots[0].match.event_id: Stage.OFFERED}
    assert plan.on_offer(slot.kick_off_us - 1, {}) == []
    assert plan.on_offer(slot.kick_off_us - 1, offered) == [slot]
    assert plan.on_offer(slot.kick_off_us, offered) == []


def test_prices_go_from_opening_to_closing() -> None:
    """The first move has the opening prices, the last before kick-off the closing prices."""
    slot = season_schedule().slots[0]
    for market in slot.match.markets:
        assert slot.prices(market, slot.opens_at_us) == [each.opening for each in market.selections]
        assert slot.prices(market, slot.kick_off_us - 1) == [each.closing for each in market.selections]


@given(st.integers(1, 10**9), st.integers(0, 10**15), st.integers(-(10**9), 10**15))
def test_wall_time_is_the_first_moment_of_a_season_time(speed: int, begin: int, after: int) -> None:
    """At wall_us(t) the season has reached t, a microsecond earlier it has not."""
    table = Timetable(begin, WALL, speed, DAY)
    season_us = begin + after
    wall = table.wall_us(season_us)
    assert table.season_us(wall) >= season_us
    assert table.season_us(wall - 1) < season_us


def test_names_say_what_is_bet_on() -> None:
    """Selections of each kind, in the order of their ids; signs follow the side."""
    match = SEASON.matches[0]
    names = {(m.kind, m.line_quarters): messages.selection_names(match, m) for m in match.markets}
    assert names[event_pb2.MARKET_KIND_MATCH_RESULT, 0] == ["Man United", "Draw", "Fulham"]
    assert names[event_pb2.MARKET_KIND_OVER_UNDER, 10] == ["Over 2.5", "Under 2.5"]
    assert names[event_pb2.MARKET_KIND_ASIAN_HANDICAP, -3] == ["Man United −0.75", "Fulham +0.75"]


@pytest.mark.parametrize(("speed", "seconds"), [("1", 300), ("0.5", 300), ("5", 60), ("60480", 30)])
def test_the_first_kick_off_leaves_time_to_bet(speed: str, seconds: int) -> None:
    """Five minutes at life's pace, sooner when faster, never under thirty seconds; plain numbers mean seconds."""
    assert in_process.settings(ReplaySettings, speed=speed).lead_in_us() == seconds * SECOND
    assert in_process.settings(ReplaySettings, speed=speed, lead_in="7").lead_in_us() == 7 * SECOND
