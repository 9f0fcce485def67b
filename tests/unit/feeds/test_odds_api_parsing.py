"""What the feed of The Odds API reads from its answers, and what it leaves out and why."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.feeds.decimals import Odds
from betting.feeds.the_odds_api import decoding, errors, parsing
from betting.feeds.the_odds_api.decoding import SkipError
from betting.feeds.the_odds_api.markets import Rules
from betting.feeds.the_odds_api.model import Skip, SourceEvent, SourceMarket, SourceScore, turned

GOLDEN = Path(__file__).parents[2] / "golden" / "the_odds_api"
NOW_US = 1_786_788_000_000_000  # 2026-08-15T10:00:00Z
MINUTE_US = 60_000_000
RULES = Rules("decimal", ("pinnacle",), 10 * MINUTE_US)
RESULT, TOTAL, HANDICAP = 1, 2, 3

Change = Callable[[dict[str, Any]], object]


def golden(name: str) -> object:
    return decoding.decode((GOLDEN / f"{name}.json").read_bytes())


def read(document: object, rules: Rules = RULES) -> tuple[list[SourceEvent], list[Skip]]:
    """A document made of Python values, as the source would have sent it."""
    return parsing.events(decoding.decode(json.dumps(document).encode()), rules, NOW_US)


@pytest.fixture
def events() -> Any:
    """The golden odds answer, to be changed."""
    return json.loads((GOLDEN / "odds_soccer_epl.json").read_bytes())


def bookmaker(event: dict[str, Any], key: str) -> Any:
    return next(each for each in event["bookmakers"] if each["key"] == key)


def market(event: dict[str, Any], key: str, market_key: str) -> Any:
    return next(each for each in bookmaker(event, key)["markets"] if each["key"] == market_key)


def by_kind(event: SourceEvent) -> dict[int, SourceMarket]:
    return {each.kind: each for each in event.markets}


def test_football_odds_are_read_whole() -> None:
    """Markets, lines and exact prices, found by name and from the preferred bookmaker first; an event may have none."""
    found, skips = parsing.events(golden("odds_soccer_epl"), RULES, NOW_US)
    assert skips == []
    assert [(event.source_id[:4], event.home, event.away, event.league) for event in found] == [
        ("3680", "Alpha City", "Beta United", "EPL"),
        ("9b87", "Gamma Town", "Delta Rovers", "EPL"),
    ]
    assert found[0].starts_at_us == NOW_US + 4 * 60 * MINUTE_US
    assert found[1].markets == ()
    seen_us = NOW_US - 118_000_000
    assert by_kind(found[0]) == {
        RESULT: SourceMarket(RESULT, 0, "pinnacle", seen_us, (Odds(97, 100), Odds(131, 50), Odds(77, 25))),
        TOTAL: SourceMarket(TOTAL, 10, "williamhill", NOW_US - 29_000_000, (Odds(4, 5), Odds(1, 1))),
        HANDICAP: SourceMarket(HANDICAP, -3, "pinnacle", seen_us, (Odds(26, 25), Odds(22, 25))),
    }


def test_two_way_sports_and_american_prices_are_read() -> None:
    """Who wins is a handicap of 0; −110 is 10/11 exactly; a total beyond the catalogue's lines is skipped and named."""
    found, skips = parsing.events(golden("odds_basketball_nba_american"), Rules("american", (), 10 * MINUTE_US), NOW_US)
    assert [(each.kind, each.line_quarters, each.prices) for each in found[0].markets] == [
        (HANDICAP, 0, (Odds(10, 11), Odds(20, 21))),
        (HANDICAP, -14, (Odds(51, 50), Odds(25, 31))),
    ]
    assert [skip.what for skip in skips] == ["event '98e41f654ffafac222e15365e9887710', totals"]
    assert "225.5 is absurd" in skips[0].why


def test_scores_are_read_by_name() -> None:
    """Only what is completed is a result; names, not places, say whose goals they are."""
    found, skips = parsing.scores(golden("scores_soccer_epl"))
    starts_at_us = NOW_US + 4 * 60 * MINUTE_US
    assert found == [SourceScore("36808dc52374b40df08cab6b1d5664d1", "Alpha City", "Beta United", starts_at_us, 3, 1)]
    assert skips == []
    assert "soccer_epl" in parsing.sports(golden("sports"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda event: event.pop("id"), "id is not a text"),
        (lambda event: event.update(id="x" * 65), "id 'x"),
        (lambda event: event.update(home_team=None), "home_team is not a text"),
        (lambda event: event.update(home_team="a\x07b"), "printable"),
        (lambda event: event.update(home_team="a" * 81), "1 to 80"),
        (lambda event: event.update(away_team=event["home_team"]), "cannot play itself"),
        (lambda event: event.update(commence_time=1_786_788_000), "commence_time is not a text"),
        (lambda event: event.update(commence_time="2026-08-15 14:00"), "not a time such as"),
        (lambda event: event.update(commence_time="2026-02-30T14:00:00Z"), "on no calendar"),
        (lambda event: event.update(commence_time="0001-01-01T00:00:00Z"), "between 1970 and 9999"),
        (lambda event: event.update(sport_title=["EPL"]), "sport_title is not a text"),
    ],
)
def test_a_bad_event_is_skipped_alone(events: Any, change: Change, why: str) -> None:
    """One line says which and why; the other event counts."""
    change(events[0])
    found, skips = read(events)
    assert [event.home for event in found] == ["Gamma Town"]
    [skip] = skips
    assert why in skip.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h2h: h2h["outcomes"].pop(), "'Draw' is missing"),
        (lambda h2h: h2h["outcomes"][0].update(name="Nobody"), "'Alpha City' is missing"),
        (lambda h2h: h2h["outcomes"].append({"name": "Other", "price": 9.0}), "4 outcomes where 3"),
        (lambda h2h: h2h["outcomes"].append({"name": "Draw", "price": 9.0}), "'Draw' is there twice"),
        (lambda h2h: h2h["outcomes"][0].update(price="1.97"), "price is not a number"),
        (lambda h2h: h2h["outcomes"][0].update(price=None), "price is not a number"),
        (lambda h2h: h2h["outcomes"][0].update(price=1), "no profit"),
        (lambda h2h: h2h["outcomes"][0].update(price=-1.5), "not decimal odds"),
        (lambda h2h: h2h["outcomes"][0].update(price=float("nan")), "not decimal odds"),
        (lambda h2h: h2h["outcomes"][0].update(price=1e300), "not decimal odds"),
        (lambda h2h: h2h["outcomes"][0].update(price=5001), "absurd"),
        (lambda h2h: h2h["outcomes"][0].update(price=2.999999), "too fine"),
        (lambda h2h: [each.update(price=1.01) for each in h2h["outcomes"]], "add up to 2.97"),
        (lambda h2h: h2h["outcomes"][1].update(price=50.0) or h2h["outcomes"][2].update(price=50.0), "sure win"),
        (lambda h2h: h2h.update(outcomes={"a": 1}), "outcomes is not a list"),
        (lambda h2h: h2h.update(last_update="2026-08-15T09:49:59Z"), "old"),
        (lambda h2h: h2h.update(last_update="yesterday"), "not a time"),
    ],
)
def test_a_bad_offer_gives_way_to_the_next_bookmaker_s(events: Any, change: Change, why: str) -> None:
    """Missing outcomes, impossible and old prices: whole from another, or not at all and then it is said why."""
    change(market(events[0], "pinnacle", "h2h"))
    found, skips = read(events)
    assert by_kind(found[0])[RESULT].bookmaker == "williamhill"
    assert skips == []
    bookmaker(events[0], "williamhill")["markets"] = []
    found, skips = read(events)
    assert RESULT not in by_kind(found[0])
    assert HANDICAP in by_kind(found[0])
    [skip] = skips
    assert skip.what.endswith(", h2h")
    assert skip.why.startswith("pinnacle: ")
    assert why in skip.why


@pytest.mark.parametrize(
    ("points", "why"),
    [((-0.75, -0.75), "not opposite"), ((-0.7, 0.7), "quarter"), ((-100.25, 100.25), "absurd")],
)
def test_handicaps_must_be_two_sides_of_one_line(events: Any, points: tuple[float, float], why: str) -> None:
    """A line that is no line of the catalogue is not offered."""
    for outcome, point in zip(market(events[0], "pinnacle", "spreads")["outcomes"], points, strict=True):
        outcome["point"] = point
    found, [skip] = read(events)
    assert HANDICAP not in by_kind(found[0])
    assert why in skip.why


def test_a_bookmaker_that_is_there_twice_counts_with_its_newer_offer(events: Any) -> None:
    """Whatever the order; and an offer that is there twice inside one bookmaker counts not at all."""
    newer = copy.deepcopy(bookmaker(events[0], "pinnacle"))
    newer["last_update"] = "2026-08-15T09:59:59Z"
    newer["markets"][0]["outcomes"][0]["price"] = 2.02
    for place in (0, len(events[0]["bookmakers"])):
        changed = copy.deepcopy(events)
        changed[0]["bookmakers"].insert(place, newer)
        found, _ = read(changed)
        assert by_kind(found[0])[RESULT].prices[0] == Odds(51, 50)
    bookmaker(events[0], "pinnacle")["markets"] *= 2
    found, _ = read(events)
    assert by_kind(found[0])[RESULT].bookmaker == "williamhill"


def test_bookmakers_without_preference_come_by_name(events: Any) -> None:
    """The order of an answer decides nothing."""
    for order in (1, -1):
        events[0]["bookmakers"] = events[0]["bookmakers"][::order]
        found, _ = read(events, Rules("decimal", (), 10 * MINUTE_US))
        assert by_kind(found[0])[RESULT].bookmaker == "pinnacle"


def test_an_event_that_is_there_twice_is_skipped(events: Any) -> None:
    """Which of the two is right nobody knows."""
    found, skips = read([*events, events[0]])
    assert [event.home for event in found] == ["Gamma Town"]
    assert [skip.why for skip in skips] == ["it is there twice"]


def test_prices_of_the_future_are_prices_of_now(events: Any) -> None:
    """A clock of ours that is behind must not make prices last longer."""
    market(events[0], "pinnacle", "h2h")["last_update"] = "2026-08-15T11:00:00Z"
    found, _ = read(events)
    assert by_kind(found[0])[RESULT].as_of_us == NOW_US


def test_football_in_play_has_no_markets(events: Any) -> None:
    """Bookmakers go on after the kick-off; their prices then are for another bet."""
    events[0]["commence_time"] = "2026-08-15T10:00:00Z"
    found, skips = read(events)
    assert found[0].markets == ()
    assert skips == []


def test_three_outcomes_outside_football_are_skipped(events: Any) -> None:
    """They count the regular time, which the final score does not tell."""
    events[0].update(sport_key="icehockey_nhl")
    found, skips = read(events)
    assert RESULT not in by_kind(found[0])
    assert "3 outcomes where 2" in skips[0].why


def test_turning_an_event_twice_changes_nothing() -> None:
    """Turned, the home side's selection has what the away side's had; totals stay."""
    [event, _], _ = parsing.events(golden("odds_soccer_epl"), RULES, NOW_US)
    other = turned(event)
    assert (other.home, other.away) == ("Beta United", "Alpha City")
    assert by_kind(other)[HANDICAP].line_quarters == 3
    assert by_kind(other)[RESULT].prices == by_kind(event)[RESULT].prices[::-1]
    assert by_kind(other)[TOTAL] == by_kind(event)[TOTAL]
    assert turned(other) == event


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (None, "scores is not a list"),
        ([], "not those of its two sides"),
        ([{"name": "Alpha City", "score": "3"}], "not those of its two sides"),
        ([{"name": "Alpha City", "score": "3"}, {"name": "Beta", "score": "1"}], "not those of its two sides"),
        ([{"name": "Alpha City", "score": "3"}, {"name": "Alpha City", "score": "1"}], "two scores"),
        ([{"name": "Alpha City", "score": "184/6"}, {"name": "Beta United", "score": "1"}], "whole number"),
        ([{"name": "Alpha City", "score": None}, {"name": "Beta United", "score": "1"}], "whole number"),
        ([{"name": "Alpha City", "score": "-1"}, {"name": "Beta United", "score": "1"}], "whole number"),
    ],
)
def test_a_result_that_is_none_is_skipped(scores: object, why: str) -> None:
    """Money follows a result: it is read whole or not at all."""
    raw = json.loads((GOLDEN / "scores_soccer_epl.json").read_bytes())
    raw[0]["scores"] = scores
    found, skips = parsing.scores(decoding.decode(json.dumps(raw).encode()))
    assert found == []
    [skip] = skips
    assert why in skip.why


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("401_invalid_key", errors.KeyRejectedError),
        ("401_out_of_usage_credits", errors.QuotaExhaustedError),
        ("404_unknown_sport", errors.InvalidQueryError),
        ("422_invalid_market_combo", errors.InvalidQueryError),
        ("429_exceeded_freq_limit", errors.RateLimitedError),
    ],
)
def test_errors_are_told_apart_by_their_code(name: str, kind: type[errors.SourceError]) -> None:
    """Two answers with status 401 mean two things."""
    code = parsing.error_code((GOLDEN / f"{name}.json").read_bytes())
    error = errors.of_status(int(name[:3]), code, None)
    assert type(error) is kind
    assert error.code == code == name[4:].upper()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.KeyRejectedError),
        (429, errors.RateLimitedError),
        (404, errors.InvalidQueryError),
        (403, errors.UnreachableError),
        (302, errors.UnreachableError),
        (500, errors.UnreachableError),
        (503, errors.UnreachableError),
    ],
)
def test_errors_without_a_code_are_told_by_their_status(status: int, kind: type[errors.SourceError]) -> None:
    """A proxy's page is no JSON."""
    assert type(errors.of_status(status, parsing.error_code(b"<html>"), None)) is kind
    assert type(errors.of_status(429, "OUT_OF_USAGE_CREDITS", None)) is errors.QuotaExhaustedError


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)
KEYS = st.sampled_from(["id", "bookmakers", "key", "markets", "outcomes", "name", "price", "point", "scores", "score"])


def parse_everything(body: bytes) -> None:
    """All parsers on one body: SkipError is the only thing they may raise, and what they give is sound."""
    parsing.error_code(body)
    for odds_format in ("decimal", "american"):
        try:
            document = decoding.decode(body)
            parsing.sports(document)
            found, _ = parsing.events(document, Rules(odds_format, (), 10 * MINUTE_US), NOW_US)
            parsing.scores(document)
        except SkipError:
            continue
        for each in (market for event in found for market in event.markets):
            assert len(each.prices) == (3 if each.kind == RESULT else 2)
            assert all(1 <= part <= 1_000_000 for odds in each.prices for part in odds)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_skipped(body: bytes) -> None:
    """Nothing but the typed skip comes out."""
    parse_everything(body)


@given(ANY_JSON)
def test_any_json_is_read_or_skipped(document: object) -> None:
    """Nothing but the typed skip comes out, NaN and lone surrogates included."""
    parse_everything(json.dumps(document).encode())


@settings(max_examples=300)
@given(st.data())
def test_an_answer_with_anything_in_one_place_is_read_or_skipped(data: st.DataObject) -> None:
    """Any one value of a real answer replaced by any other, removed, or doubled."""
    name = data.draw(st.sampled_from(["odds_soccer_epl", "odds_basketball_nba_american", "scores_soccer_epl"]))
    document = json.loads((GOLDEN / f"{name}.json").read_bytes())
    places = list(_places(document))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(ANY_JSON | st.just(document) | st.dictionaries(KEYS, ANY_JSON, max_size=4))
    try:
        body = json.dumps(document).encode()
    except ValueError:  # it holds itself: JSON cannot say that
        return
    parse_everything(body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" + b"9" * 10_000 + b"]", b'"\\ud800"', b"\xef\xbb\xbf[]"])
def test_bodies_made_to_hurt_are_read_or_skipped(body: bytes) -> None:
    """Deep nesting, endless numbers, half a character, a byte order mark."""
    parse_everything(body)


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)
