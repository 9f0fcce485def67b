"""When to ask the source what. Pure: a function of the pace wanted, the credits left and what is known of each sport.

Three questions. The pulse (the list of sports) is free: it tells that the source answers. Odds cost the number of
regions times the number of markets, scores cost two. Odds are asked

- at the wanted pace when a kick-off is near, slower when none is, rarely when nothing is known to come;
- never faster than the credits above the reserve last until the month's end;
- at once for every sport after an outage: only fresh prices may be offered again.

The reserve is for results: bets are owed their settlement even when no credit is left for prices.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from betting.feeds.the_odds_api.quota import Quota, month_end_us
from betting.runtime.clock import US_PER_S

HOUR_US = 3600 * US_PER_S
DAY_US = 24 * HOUR_US
SCORES_COST = 2
# Below this nothing that costs is asked any more, results neither.
FLOOR_CREDITS = 2
# The source updates football's prices more often from six hours before the kick-off on.
NEAR_US = 6 * HOUR_US
IDLE_US = HOUR_US // 2
# Two halves, the break, added time; and how often to ask whether a match is over.
MATCH_US = 110 * 60 * US_PER_S
RESULT_EVERY_US = 5 * 60 * US_PER_S
LATE_RESULT_AFTER_US = 6 * HOUR_US
LATE_RESULT_EVERY_US = HOUR_US
# The source remembers results for three days.
RESULTS_KEPT_US = 3 * DAY_US


class RequestKind(enum.Enum):
    """What can be asked."""

    PULSE = "pulse"
    ODDS = "odds"
    SCORES = "scores"


class Request(NamedTuple):
    """One question; `sport` is empty for the pulse, `days_from` counts for scores."""

    ask: RequestKind
    sport: str = ""
    days_from: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings that decide: wanted intervals, what odds of one sport cost, and the credits kept for results."""

    poll_us: int
    pulse_us: int
    max_age_us: int
    spacing_us: int
    odds_cost: int
    reserve_credits: int


@dataclass(frozen=True, slots=True)
class SportView:
    """What is known of one sport. Times are microseconds since 1970.

    `kick_offs_us` are those to come, `awaited_us` those of matches without a result.
    """

    key: str
    odds_at_us: int | None
    scores_at_us: int | None
    kick_offs_us: Sequence[int]
    awaited_us: Sequence[int]
    aside_until_us: int = 0


class PollHistory(NamedTuple):
    """When the last question was put, when the last pulse was (or any answer came), and since when prices are fresh."""

    asked_at_us: int
    pulsed_at_us: int
    fresh_since_us: int


class PollingMode(enum.Enum):
    """How the credits allow to ask for prices."""

    AMPLE = "at the wanted pace"
    STRETCHED = "slower, so that the credits last"
    RESERVED = "not at all: the rest is for results"
    SPENT = "not at all, nor for results"


def next_request(
    pace: Pace, sports: Sequence[SportView], quota: Quota, past: PollHistory, now_us: int
) -> tuple[int, Request]:
    """The next question and when it is due; of those that are due soonest results come before prices."""
    remaining = quota.known_remaining(now_us)
    candidates = [(past.pulsed_at_us + pace.pulse_us, Request(RequestKind.PULSE))]
    for sport in sports:
        for due_us, request in _paid(pace, sport, remaining, len(sports), past.fresh_since_us, now_us):
            candidates.append((max(due_us, sport.aside_until_us), request))
    due_us, request = min(candidates, key=lambda each: (each[0], _ORDER[each[1].ask]))
    return max(due_us, past.asked_at_us + pace.spacing_us), request


_ORDER = {RequestKind.SCORES: 0, RequestKind.ODDS: 1, RequestKind.PULSE: 2}


def polling_mode(pace: Pace, sport_count: int, quota: Quota, now_us: int) -> PollingMode:
    """What the credits allow."""
    remaining = quota.known_remaining(now_us)
    if remaining is None:
        return PollingMode.AMPLE
    if remaining < FLOOR_CREDITS + SCORES_COST:
        return PollingMode.SPENT
    affordable_us = affordable_every_us(pace, sport_count, remaining, now_us)
    if affordable_us is None:
        return PollingMode.RESERVED
    return PollingMode.STRETCHED if affordable_us > pace.poll_us else PollingMode.AMPLE


def affordable_every_us(pace: Pace, sport_count: int, remaining: int | None, now_us: int) -> int | None:
    """How often all sports' odds can be asked until the month's end; None: not once more."""
    if remaining is None:
        return 0
    spendable = remaining - pace.reserve_credits
    if spendable < pace.odds_cost:
        return None
    return (month_end_us(now_us) - now_us) * pace.odds_cost * sport_count // spendable


def _paid(
    pace: Pace, sport: SportView, remaining: int | None, sport_count: int, fresh_since_us: int, now_us: int
) -> Iterable[tuple[int, Request]]:
    affordable_us = affordable_every_us(pace, sport_count, remaining, now_us)
    if affordable_us is not None:
        yield _odds_due_us(pace, sport, affordable_us, fresh_since_us, now_us), Request(RequestKind.ODDS, sport.key)
    recent = [start for start in sport.awaited_us if now_us - start < RESULTS_KEPT_US]
    if recent and (remaining is None or remaining >= FLOOR_CREDITS + SCORES_COST):
        days = -((min(recent) - now_us) // DAY_US)
        yield _scores_due_us(sport, recent, now_us), Request(RequestKind.SCORES, sport.key, min(3, max(1, days)))


def _odds_due_us(pace: Pace, sport: SportView, affordable_us: int, fresh_since_us: int, now_us: int) -> int:
    if sport.odds_at_us is None or sport.odds_at_us < fresh_since_us:
        return now_us
    return sport.odds_at_us + max(_wanted_every_us(pace, sport, now_us), affordable_us)


def _wanted_every_us(pace: Pace, sport: SportView, now_us: int) -> int:
    ahead = [start - now_us for start in sport.kick_offs_us if start > now_us]
    if not ahead:
        return max(pace.poll_us, IDLE_US)
    # Prices of matches far off need not be new, but must not become too old to be offered.
    return pace.poll_us if min(ahead) <= NEAR_US else max(pace.poll_us, pace.max_age_us // 2)


def _scores_due_us(sport: SportView, awaited_us: Sequence[int], now_us: int) -> int:
    """When a match may be over for the first time, then regularly: the youngest match sets the pace."""
    over_us = [start + MATCH_US for start in awaited_us]
    if sport.scores_at_us is None or sport.scores_at_us < min(over_us):
        return min(over_us)
    ended = [start for start in awaited_us if start + MATCH_US <= now_us]
    late = not ended or now_us - max(ended) > LATE_RESULT_AFTER_US
    upcoming = [over for over in over_us if over > sport.scores_at_us]
    regular_us = sport.scores_at_us + (LATE_RESULT_EVERY_US if late else RESULT_EVERY_US)
    return min([regular_us, *(max(over, sport.scores_at_us + RESULT_EVERY_US) for over in upcoming)])
