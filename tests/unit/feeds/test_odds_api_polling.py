"""When the feed of The Odds API asks what: pace, credits, kick-offs, results, outages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.feeds.the_odds_api import quota
from betting.feeds.the_odds_api.polling import (
    DAY_US,
    FLOOR_CREDITS,
    HOUR_US,
    IDLE_US,
    MATCH_US,
    SCORES_COST,
    Pace,
    PollHistory,
    PollingMode,
    Request,
    RequestKind,
    SportView,
    next_request,
    polling_mode,
)
from betting.feeds.the_odds_api.quota import Quota

S = 1_000_000
# Ten days before the month's end.
NOW_US = int(datetime(2026, 8, 22, tzinfo=UTC).timestamp()) * S
PACE = Pace(poll_us=60 * S, pulse_us=8 * S, max_age_us=600 * S, spacing_us=S // 5, odds_cost=3, reserve_credits=50)
AMPLE = Quota(1_000_000, 0, 3, NOW_US)


def sport(key: str = "soccer_epl", **fields: object) -> SportView:
    defaults: dict[str, object] = {
        "odds_at_us": NOW_US,
        "scores_at_us": None,
        "kick_offs_us": [NOW_US + HOUR_US],
        "awaited_us": [],
    }
    return SportView(key, **(defaults | fields))  # type: ignore[arg-type]


def first(
    *sports: SportView, credits_left: Quota = AMPLE, pulsed_ago_us: int = 0, fresh_since_us: int = 0
) -> tuple[int, Request]:
    """What is asked next, and in how many microseconds."""
    past = PollHistory(NOW_US - S, NOW_US - pulsed_ago_us, fresh_since_us)
    due_us, request = next_request(PACE, sports, credits_left, past, NOW_US)
    return due_us - NOW_US, request


def odds_due_us(view: SportView, credits_left: Quota = AMPLE, fresh_since_us: int = 0) -> int | None:
    """When odds would be asked if there were no pulse; None: not at all."""
    past = PollHistory(NOW_US - S, NOW_US + 400 * DAY_US, fresh_since_us)
    due_us, request = next_request(PACE, [view], credits_left, past, NOW_US)
    return due_us - NOW_US if request.ask is RequestKind.ODDS else None


def test_the_pulse_fills_the_gaps() -> None:
    """It is asked when nothing has been heard for its interval, and costs nothing."""
    assert first(sport(), pulsed_ago_us=5 * S) == (3 * S, Request(RequestKind.PULSE))
    assert first(sport(), credits_left=Quota(0, 500, 0, NOW_US)) == (8 * S, Request(RequestKind.PULSE))


def test_odds_are_asked_at_the_pace_that_kick_offs_want() -> None:
    """Near: as set. Far: often enough that prices do not become too old. None to come: rarely."""
    assert odds_due_us(sport(kick_offs_us=[NOW_US + 6 * HOUR_US])) == 60 * S
    assert odds_due_us(sport(kick_offs_us=[NOW_US + 7 * HOUR_US, NOW_US - S])) == 300 * S
    assert odds_due_us(sport(kick_offs_us=[])) == IDLE_US


def test_questions_keep_their_distance() -> None:
    """What is overdue waits for the spacing all the same."""
    due_us, request = next_request(PACE, [sport(odds_at_us=None)], AMPLE, PollHistory(NOW_US, NOW_US, 0), NOW_US)
    assert (due_us - NOW_US, request) == (PACE.spacing_us, Request(RequestKind.ODDS, "soccer_epl"))


def test_credits_are_spread_over_the_rest_of_the_month() -> None:
    """650 credits, 50 of them kept: 200 questions in ten days, one every 72 minutes; two sports share them."""
    assert odds_due_us(sport(), Quota(650, 0, 3, NOW_US)) == 72 * 60 * S
    two = [sport(), sport("soccer_spain")]
    due_us, request = next_request(PACE, two, Quota(650, 0, 3, NOW_US), PollHistory(0, NOW_US + DAY_US, 0), NOW_US)
    assert (due_us - NOW_US, request.ask) == (144 * 60 * S, RequestKind.ODDS)


def test_the_reserve_is_for_results() -> None:
    """With only the reserve left no odds are asked; results are, until the floor."""
    over = sport(awaited_us=[NOW_US - MATCH_US])
    assert odds_due_us(sport(), Quota(52, 0, 3, NOW_US)) is None
    assert first(over, credits_left=Quota(52, 0, 3, NOW_US))[1] == Request(RequestKind.SCORES, "soccer_epl", 1)
    assert first(over, credits_left=Quota(FLOOR_CREDITS + SCORES_COST - 1, 0, 3, NOW_US))[1].ask is RequestKind.PULSE


def test_credits_come_back_with_the_month() -> None:
    """What was heard before the turn of the month says nothing any more."""
    old = Quota(0, 500, 3, NOW_US - 25 * DAY_US)
    assert odds_due_us(sport(odds_at_us=None), old) == 0
    assert polling_mode(PACE, 1, old, NOW_US) is PollingMode.AMPLE


def test_after_an_outage_every_sport_is_asked_at_once() -> None:
    """Prices from before it do not count, however new; those from after it do."""
    assert odds_due_us(sport(odds_at_us=NOW_US - S), fresh_since_us=NOW_US) == 0
    assert odds_due_us(sport(odds_at_us=NOW_US), fresh_since_us=NOW_US) == 60 * S


def test_a_sport_that_is_put_aside_waits() -> None:
    """Whatever is due of it."""
    assert odds_due_us(sport(odds_at_us=None, aside_until_us=NOW_US + HOUR_US)) == HOUR_US
    view = sport(odds_at_us=None, awaited_us=[NOW_US - MATCH_US], aside_until_us=NOW_US + HOUR_US)
    assert first(view)[1].ask is RequestKind.PULSE


@pytest.mark.parametrize(
    ("started_ago_us", "asked_ago_us", "due_in_us"),
    [
        (0, None, MATCH_US),  # not before it can be over
        (MATCH_US, None, 0),
        (MATCH_US, 100 * S, 0),  # asked before it was over
        (MATCH_US + HOUR_US, 100 * S, 200 * S),  # every five minutes
        (10 * HOUR_US, HOUR_US // 2, HOUR_US // 2),  # late: every hour
    ],
)
def test_results_are_asked_for_when_matches_may_be_over(
    started_ago_us: int, asked_ago_us: int | None, due_in_us: int
) -> None:
    """First after the usual length, then regularly, then rarely."""
    asked_us = None if asked_ago_us is None else NOW_US - asked_ago_us
    view = sport(odds_at_us=NOW_US + DAY_US, scores_at_us=asked_us, awaited_us=[NOW_US - started_ago_us])
    due_us, request = next_request(PACE, [view], AMPLE, PollHistory(0, NOW_US + DAY_US, 0), NOW_US)
    assert (due_us - NOW_US, request.ask) == (due_in_us, RequestKind.SCORES)


def test_results_are_looked_for_as_far_back_as_needed() -> None:
    """One to three days, never more: the source has forgotten older ones, and nothing is paid to hear that."""
    for days, asked in ((0.9, 1), (1.1, 2), (2.9, 3)):
        view = sport(awaited_us=[NOW_US - int(days * DAY_US)])
        assert first(view)[1] == Request(RequestKind.SCORES, "soccer_epl", asked)
    assert first(sport(awaited_us=[NOW_US - 3 * DAY_US]))[1].ask is RequestKind.PULSE


def test_moods_follow_the_credits() -> None:
    """Each says what is done, in the order in which credits run out."""
    levels = [
        (None, PollingMode.AMPLE),
        (10**6, PollingMode.AMPLE),
        (650, PollingMode.STRETCHED),
        (52, PollingMode.RESERVED),
        (3, PollingMode.SPENT),
    ]
    for remaining, expected in levels:
        assert polling_mode(PACE, 1, Quota(remaining, 0, 3, NOW_US), NOW_US) is expected


@given(
    remaining=st.integers(0, 2_000),
    sports=st.integers(1, 4),
    reserve=st.integers(0, 200),
    days=st.integers(0, 30),
)
def test_odds_never_take_the_reserve_and_last_the_month(remaining: int, sports: int, reserve: int, days: int) -> None:
    """A month lived in virtual time: each question pays, and what is kept for results is still there at its end."""
    pace = Pace(60 * S, 8 * S, 600 * S, 0, 3, reserve)
    begin_us = now_us = int(datetime(2026, 8, 1, tzinfo=UTC).timestamp()) * S + days * DAY_US
    end_us = quota.month_end_us(now_us)
    asked: dict[str, int | None] = {f"s{number}": None for number in range(sports)}
    left, questions = remaining, 0
    while True:
        views = [sport(key, odds_at_us=at_us, kick_offs_us=[end_us]) for key, at_us in asked.items()]
        past = PollHistory(0, end_us, 0)
        due_us, request = next_request(pace, views, Quota(left, 0, 3, now_us), past, now_us)
        if request.ask is not RequestKind.ODDS or due_us >= end_us:
            break
        now_us = max(now_us, due_us)
        asked[request.sport] = now_us
        left, questions = left - pace.odds_cost, questions + 1
        assert left >= reserve
    # And it does not save for nothing: about all that may be spent is spent, in even steps.
    spendable = max(0, remaining - reserve) // pace.odds_cost
    wanted = sports * (1 + (end_us - begin_us) // (300 * S))
    assert questions >= min(spendable, wanted) * 0.6 - sports


def test_quota_is_read_from_headers() -> None:
    """What is not said, or is not a number, changes nothing."""
    before = Quota(7, 3, 1, NOW_US)
    headers = {"x-requests-remaining": "499.0", "x-requests-used": "1", "x-requests-last": ""}
    assert quota.heard(before, headers, NOW_US + 1) == Quota(499, 1, None, NOW_US + 1)
    for odd in ({}, {"x-requests-remaining": "many"}, {"x-requests-remaining": "-1"}):
        assert quota.heard(before, odd, NOW_US + 1) == before


@pytest.mark.parametrize(("month", "end"), [(8, (2026, 9, 1)), (12, (2027, 1, 1))])
def test_months_end_at_midnight_utc(month: int, end: tuple[int, int, int]) -> None:
    """Also in December."""
    within_us = int(datetime(2026, month, 31, 23, 59, tzinfo=UTC).timestamp()) * S
    assert quota.month_end_us(within_us) == int(datetime(*end, tzinfo=UTC).timestamp()) * S
