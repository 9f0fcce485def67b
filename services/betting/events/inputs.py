"""What feeds and bettors send to event-service, checked. Pure: INVALID_ARGUMENT names the place."""

from __future__ import annotations

import re
from collections.abc import Iterable

from betting.events import transitions
from betting.internal.v1 import feed_pb2
from betting.runtime.errors import ServiceError, invalid_argument, shown
from betting.v1 import event_pb2

SPORTS_MAX = 100
LEAGUES_MAX = 1_000
EVENTS_MAX = 1_000
MARKETS_PER_EVENT_MAX = 100
SELECTIONS_MAX = 100
SELECTION_ID_MAX = 32_767
NAME_CHARACTERS_MAX = 100
GOALS_MAX = 999
LINE_QUARTERS_MAX = 400
# The year 9999; a time beyond it is a unit mistaken.
TIME_US_MAX = 253_402_300_800_000_000

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_SELECTIONS = {
    event_pb2.MARKET_KIND_MATCH_RESULT: (1, 2, 3),
    event_pb2.MARKET_KIND_OVER_UNDER: (1, 2),
    event_pb2.MARKET_KIND_ASIAN_HANDICAP: (1, 2),
}


def catalogue(request: feed_pb2.UpsertCatalogueRequest) -> None:
    """Checks an upsert as a whole. Raises INVALID_ARGUMENT; the database checks what refers to what."""
    _check_count("sports", len(request.sports), SPORTS_MAX)
    _check_count("leagues", len(request.leagues), LEAGUES_MAX)
    _check_count("events", len(request.events), EVENTS_MAX)
    for index, sport in enumerate(request.sports):
        _check_id(f"sports[{index}].sport_id", sport.sport_id)
        _check_name(f"sports[{index}].name", sport.name)
    for index, league in enumerate(request.leagues):
        _check_league(f"leagues[{index}]", league)
    for index, event in enumerate(request.events):
        _check_event(f"events[{index}]", event)
    _check_distinct("sports", [sport.sport_id for sport in request.sports])
    _check_distinct("leagues", [league.league_id for league in request.leagues])
    _check_distinct("events", [event.event_id for event in request.events])
    _check_distinct("markets", [market.market_id for event in request.events for market in event.markets])


def positive_id(field: str, value: int) -> int:
    """An event or market id. Raises INVALID_ARGUMENT ID_INVALID."""
    if value <= 0:
        raise invalid_argument("ID_INVALID", f"{field} is {value}: ids are positive")
    return value


def optional_text_id(field: str, value: str) -> str:
    """A sport's or league's id, or empty for all. Raises INVALID_ARGUMENT ID_INVALID."""
    if value:
        _check_id(field, value)
    return value


def optional_event_status(value: int) -> int:
    """A status to filter by, or 0 for all. Raises INVALID_ARGUMENT STATUS_INVALID."""
    if value and value not in transitions.EVENT_STEPS:
        raise invalid_argument("STATUS_INVALID", f"status {value} is none of scheduled, started, finished, abandoned")
    return value


def event_status(request: feed_pb2.SetEventStatusRequest) -> tuple[int, int, int]:
    """(status, home goals, away goals) to set. Raises INVALID_ARGUMENT: a score goes with finished only."""
    status, score = int(request.status), (request.home_goals, request.away_goals)
    if status not in transitions.EVENT_STEPS:
        raise invalid_argument("STATUS_INVALID", f"status {status} is none of scheduled, started, finished, abandoned")
    if status != transitions.FINISHED and any(score):
        raise invalid_argument(
            "SCORE_UNEXPECTED", f"a score ({score[0]}-{score[1]}) goes with finished only: leave it out"
        )
    if not all(0 <= goals <= GOALS_MAX for goals in score):
        raise invalid_argument("SCORE_INVALID", f"score {score[0]}-{score[1]}: give 0 to {GOALS_MAX} goals each")
    return status, *score


def market_status(value: int) -> int:
    """A market's status to set. Raises INVALID_ARGUMENT STATUS_INVALID."""
    if value not in transitions.MARKET_STEPS:
        raise invalid_argument("STATUS_INVALID", f"status {value} is none of open, suspended, closed, resulted, void")
    return value


def _check_league(place: str, league: event_pb2.League) -> None:
    _check_id(f"{place}.league_id", league.league_id)
    _check_id(f"{place}.sport_id", league.sport_id)
    _check_name(f"{place}.name", league.name)
    if league.country:
        _check_name(f"{place}.country", league.country)


def _check_event(place: str, event: event_pb2.Event) -> None:
    positive_id(f"{place}.event_id", event.event_id)
    _check_id(f"{place}.league_id", event.league_id)
    _check_name(f"{place}.home", event.home)
    _check_name(f"{place}.away", event.away)
    _check_time(f"{place}.starts_at_us", event.starts_at_us)
    if event.status not in {0, transitions.SCHEDULED}:
        raise _bad(
            "STATUS_INVALID",
            f"{place}.status",
            f"{event.status}, but a new event is scheduled (1): move it on with SetEventStatus",
        )
    _check_count(f"{place}.markets", len(event.markets), MARKETS_PER_EVENT_MAX)
    for index, market in enumerate(event.markets):
        _check_market(f"{place}.markets[{index}]", event.event_id, market)
    _check_distinct(f"{place}.markets", [(market.kind, market.line_quarters) for market in event.markets])


def _check_market(place: str, event_id: int, market: event_pb2.Market) -> None:
    positive_id(f"{place}.market_id", market.market_id)
    if market.event_id not in {0, event_id}:
        raise _bad("ID_INVALID", f"{place}.event_id", f"{market.event_id} is not the event it stands in ({event_id})")
    expected = _SELECTIONS.get(market.kind)
    if expected is None:
        raise _bad("KIND_INVALID", f"{place}.kind", f"{market.kind} is no kind of market: give 1 to 3")
    if abs(market.line_quarters) > LINE_QUARTERS_MAX:
        raise _bad(
            "LINE_INVALID",
            f"{place}.line_quarters",
            f"{market.line_quarters} quarter goals: give -{LINE_QUARTERS_MAX} to {LINE_QUARTERS_MAX}",
        )
    if market.kind == event_pb2.MARKET_KIND_MATCH_RESULT and market.line_quarters:
        raise _bad(
            "LINE_INVALID",
            f"{place}.line_quarters",
            f"{market.line_quarters}, but a match result has no line: leave it 0",
        )
    if market.kind == event_pb2.MARKET_KIND_OVER_UNDER and market.line_quarters <= 0:
        raise _bad(
            "LINE_INVALID", f"{place}.line_quarters", f"{market.line_quarters}, but a total needs a line above 0"
        )
    if market.status not in {0, transitions.OPEN, transitions.SUSPENDED}:
        raise _bad(
            "STATUS_INVALID",
            f"{place}.status",
            f"{market.status}, but a new market is open (1) or suspended (2): use SetMarketStatus",
        )
    _check_time(f"{place}.closes_at_us", market.closes_at_us)
    if tuple(sorted(selection.selection_id for selection in market.selections)) != expected:
        raise _bad("SELECTIONS_INVALID", f"{place}.selections", f"this kind has the selection_ids {list(expected)}")
    for selection in market.selections:
        _check_name(f"{place}.selections name", selection.name)


def _check_id(place: str, text: str) -> None:
    if not _ID.fullmatch(text):
        raise _bad("ID_INVALID", place, f"{shown(text)} is not 1 to 40 letters, digits, dots, dashes and underscores")


def _check_name(place: str, text: str) -> None:
    if not text.strip() or len(text) > NAME_CHARACTERS_MAX or not text.isprintable():
        raise _bad("NAME_INVALID", place, f"{shown(text)} is not 1 to {NAME_CHARACTERS_MAX} printable characters")


def _check_time(place: str, time_us: int) -> None:
    if not 0 < time_us < TIME_US_MAX:
        raise _bad("TIME_INVALID", place, f"{time_us} is not a time in microseconds since 1970")


def _check_count(place: str, count: int, maximum: int) -> None:
    if count > maximum:
        raise _bad("TOO_MANY", place, f"{count} in one call are too many: at most {maximum}")


def _check_distinct(place: str, keys: Iterable[object]) -> None:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise _bad("REPEATED", place, f"{key} appears twice: send it once")
        seen.add(key)


def _bad(reason: str, place: str, what: str) -> ServiceError:
    return invalid_argument(reason, f"{place}: {what}; nothing was changed")
