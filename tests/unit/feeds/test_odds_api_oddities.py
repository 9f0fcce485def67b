"""Odd answers of The Odds API, one file each: what is offered, what is a result, and what is waited for."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.feeds.decimals import Odds
from betting.feeds.the_odds_api import book as books
from betting.feeds.the_odds_api import decoding, fixtures, messages, parsing
from betting.feeds.the_odds_api.book import Book
from betting.feeds.the_odds_api.decoding import SkipError
from betting.feeds.the_odds_api.fixtures import FINISHED, SCHEDULED, STARTED, Fixture
from betting.feeds.the_odds_api.markets import Rules
from betting.feeds.the_odds_api.model import Skip, SourceEvent, SourceScore

ODDITIES = Path(__file__).parents[2] / "golden" / "the_odds_api" / "oddities"
NAMES = sorted(path.stem for path in ODDITIES.glob("*.json"))
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
NOW_US = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
MAX_AGE_US = 10 * MINUTE_US
RULES = Rules("decimal", (), MAX_AGE_US)
EPL = "soccer_epl"
EVENT_ID = fixtures.event_id("a" * 32)
RESULT, TOTAL, HANDICAP = 1, 2, 3
SOUND = (Odds(9, 10), Odds(13, 5), Odds(31, 10))  # Alpha 1.9, draw 3.6, Beta 4.1
SOUND_TOTAL = (Odds(17, 20), Odds(1, 1))
SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"


def raw(name: str) -> Any:
    return json.loads((ODDITIES / f"{name}.json").read_bytes())


def events_of(document: object, now_us: int = NOW_US) -> tuple[list[SourceEvent], list[Skip]]:
    return parsing.events(decoding.decode(json.dumps(document).encode()), RULES, now_us)


def scores_of(document: object) -> tuple[list[SourceScore], list[Skip]]:
    return parsing.scores(decoding.decode(json.dumps(document).encode()))


def offered(name: str) -> dict[tuple[int, int], tuple[str, tuple[Odds, ...]]]:
    """Bookmaker and prices by kind and line of the only event; nothing is left out."""
    [event], skips = events_of(raw(name))
    assert skips == []
    return {(each.kind, each.line_quarters): (each.bookmaker, each.prices) for each in event.markets}


def listed(book: Book) -> Fixture:
    """The only fixture, as it is once the catalogue has it."""
    fixture = book.fixtures[EVENT_ID]
    fixture.listed_start_us, fixture.listed = fixture.starts_at_us, fixture.to_list()
    return fixture


def book_with(starts_at_us: int, sport: str = EPL) -> tuple[Book, Fixture]:
    """A book whose only match is Alpha against Beta, in the catalogue since an hour before its start."""
    [event], _ = events_of(raw("odds_kick_off_in_2_min"))
    event = replace(event, sport_key=sport, starts_at_us=starts_at_us)
    book = books.of_sports([sport], 16_000_000)
    assert book.take_odds(sport, [event], starts_at_us - HOUR_US) == []
    return book, listed(book)


def score_at(starts_at_us: int, goals: tuple[int, int] = (0, 0)) -> SourceScore:
    return SourceScore("a" * 32, "Alpha", "Beta", starts_at_us, *goals)


def test_a_match_put_off_is_not_over_before_it_was_played() -> None:
    """Put off by five hours after its betting ended, then "completed" 0-0: the real result counts, hours later."""
    book = books.of_sports([EPL], 16_000_000)
    events, _ = events_of(raw("odds_kick_off_in_2_min"))
    assert book.take_odds(EPL, events, NOW_US) == []
    fixture = listed(book)
    ended_us = NOW_US + 3 * MINUTE_US
    fixture.status = STARTED
    put_off, _ = events_of(raw("odds_put_off_5_h_same_id"), ended_us)
    [skip] = book.take_odds(EPL, put_off, ended_us)
    assert "put off after its betting ended" in skip.why
    scores, skips = scores_of(raw("scores_completed_0_0_but_starts_later"))
    assert skips == []
    [skip] = book.take_scores(EPL, scores, ended_us)
    assert skip.why == "it is said to be completed, but it starts at 2026-11-01T17:00:00Z: waiting for its result"
    played_us = NOW_US + 5 * HOUR_US
    [skip] = book.take_scores(EPL, scores, played_us + 99 * MINUTE_US)
    assert "started at 2026-11-01T17:00:00Z and none of its sport is over before 2026-11-01T18:40:00Z" in skip.why
    assert fixture.goals is None
    assert book.take_scores(EPL, [score_at(played_us, (3, 1))], played_us + 105 * MINUTE_US) == []
    assert fixture.goals == (3, 1)


def test_a_match_put_off_in_time_moves_and_waits_too() -> None:
    """The same answers while betting goes on: it moves with its start, and "completed" is no result."""
    book = books.of_sports([EPL], 16_000_000)
    for name in ("odds_kick_off_in_2_min", "odds_put_off_5_h_same_id"):
        assert book.take_odds(EPL, events_of(raw(name))[0], NOW_US) == []
        fixture = listed(book)
    assert fixture.starts_at_us == NOW_US + 5 * HOUR_US
    [skip] = book.take_scores(EPL, scores_of(raw("scores_completed_0_0_but_starts_later"))[0], NOW_US)
    assert "it starts at 2026-11-01T17:00:00Z" in skip.why
    assert (fixture.goals, fixture.status) == (None, SCHEDULED)


def test_scores_alone_may_tell_that_a_match_was_put_off() -> None:
    """A feed that was restarted, or has no credits for odds: the scores' own start counts, and tells when to ask."""
    book, fixture = book_with(NOW_US - HOUR_US)
    [skip] = book.take_scores(EPL, scores_of(raw("scores_completed_0_0_but_starts_later"))[0], NOW_US)
    assert "it starts at 2026-11-01T17:00:00Z" in skip.why
    assert fixture.goals is None
    assert book.views(NOW_US)[0].awaited_us == [NOW_US + 5 * HOUR_US]


def test_a_match_is_not_over_20_minutes_after_its_start() -> None:
    """No football is over before 100 minutes, breaks included; the same answer later is a result."""
    book, fixture = book_with(NOW_US - 20 * MINUTE_US)
    scores, _ = scores_of(raw("scores_completed_20_min_after_start"))
    for minutes in (20, 45, 90, 99):
        [skip] = book.take_scores(EPL, scores, fixture.starts_at_us + minutes * MINUTE_US)
        assert "none of its sport is over before 2026-11-01T13:20:00Z: waiting for its result" in skip.why
        assert fixture.goals is None
    assert book.take_scores(EPL, scores, fixture.starts_at_us + 100 * MINUTE_US) == []
    assert fixture.goals == (0, 0)


@pytest.mark.parametrize(("sport", "minutes"), [*fixtures.SHORTEST_MATCH_MIN.items(), ("kabaddi", 60)])
def test_each_sport_lasts_its_time(sport: str, minutes: int) -> None:
    """Waited for until the sport's shortest match could be over, and not a moment longer."""
    book, fixture = book_with(NOW_US, f"{sport}_x")
    over_us = NOW_US + minutes * MINUTE_US
    assert len(book.take_scores(f"{sport}_x", [score_at(NOW_US)], over_us - 1)) == 1
    assert fixture.goals is None
    assert book.take_scores(f"{sport}_x", [score_at(NOW_US)], over_us) == []
    assert fixture.goals == (0, 0)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scores_null", "scores is not a list"),
        ("scores_empty_list", "not those of its two sides"),
        ("scores_one_side_null", "not a whole number"),
        ("scores_blank_text", "not a whole number"),
    ],
)
def test_a_score_with_a_hole_is_no_result(name: str, why: str) -> None:
    """Nothing is read into what is missing; it is said, and asked again."""
    found, [skip] = scores_of(raw(name))
    assert found == []
    assert why in skip.why


@pytest.mark.parametrize("value", ["2", 2, 2.0, " 2 ", "2.0"])
def test_goals_are_whole_numbers_however_they_are_written(value: object) -> None:
    """As text, as the format says, or as a number."""
    document = raw("scores_numbers")
    assert [(each.home_goals, each.away_goals) for each in scores_of(document)[0]] == [(2, 1)]
    document[0]["scores"][0]["score"] = value
    [found], skips = scores_of(document)
    assert (found.home_goals, found.away_goals, skips) == (2, 1, [])


@pytest.mark.parametrize("value", [2.5, -1, "1e1", "٢", "", "  ", "2-1", True, None, [2], {}, 1000, "NaN"])
def test_what_is_no_number_of_goals_is_no_result(value: object) -> None:
    """Halves, signs, exponents, digits of other scripts, anything."""
    document = raw("scores_numbers")
    document[0]["scores"][1]["score"] = value
    found, [skip] = scores_of(document)
    assert found == []
    assert "not a whole number from 0 to 999" in skip.why


def test_the_away_side_may_come_first() -> None:
    """Outcomes are found by name: each price stands with its own selection."""
    assert offered("away_first") == {
        (RESULT, 0): ("williamhill", SOUND),
        (HANDICAP, -3): ("williamhill", (Odds(1, 1), Odds(9, 10))),
        (TOTAL, 9): ("williamhill", (Odds(17, 20), Odds(1, 1))),
    }


def test_sides_told_the_other_way_round_keep_their_selections() -> None:
    """Selection 1 stays Alpha with Alpha's price and handicap, and the goals are Alpha's first."""
    book = books.of_sports([EPL], 16_000_000)
    assert book.take_odds(EPL, events_of(raw("away_first"))[0], NOW_US) == []
    fixture = listed(book)
    before = messages.prices([fixture], MAX_AGE_US, NOW_US)
    assert book.take_odds(EPL, events_of(raw("sides_swapped"))[0], NOW_US) == []
    after = messages.prices([fixture], MAX_AGE_US, NOW_US)
    assert (fixture.home, fixture.away) == ("Alpha", "Beta")
    assert after.keys() == before.keys()
    for market_id in fixture.present:
        assert after[market_id] == before[market_id]
    assert len(fixture.present) == 2
    scores, _ = scores_of(raw("scores_sides_swapped"))
    assert book.take_scores(EPL, scores, fixture.starts_at_us + 2 * HOUR_US) == []
    assert fixture.goals == (2, 1)


@pytest.mark.parametrize("name", ["no_break_space", "space_in_event_no_break_space_in_outcome"])
def test_a_no_break_space_is_a_space(name: str) -> None:
    """Event and market are kept, under the name with plain spaces."""
    [event], skips = events_of(raw(name))
    assert (event.home, skips) == ("1. FC Alpha", [])
    assert [(each.kind, each.prices) for each in event.markets] == [(RESULT, SOUND)]


@pytest.mark.parametrize("space", [*SPACES, "  ", " \u00a0", "\u200b \ufeff"])
def test_a_space_is_a_space(space: str) -> None:
    """In the event, in an outcome, around a name, in a score: whichever space it is, it is the same club."""
    odd = f"{space}1.{space}FC{space}Alpha{space}"
    for place in ("event", "outcome"):
        document = raw("no_break_space")
        event, outcome = document[0], document[0]["bookmakers"][0]["markets"][0]["outcomes"][0]
        event["home_team"], outcome["name"] = (odd, "1. FC Alpha") if place == "event" else ("1. FC Alpha", odd)
        [found], skips = events_of(document)
        assert (found.home, len(found.markets), skips) == ("1. FC Alpha", 1, [])
    document = raw("scores_numbers")
    document[0]["home_team"] = "1. FC Alpha"
    document[0]["scores"][0]["name"] = odd
    assert [(each.home, each.home_goals) for each in scores_of(document)[0]] == [("1. FC Alpha", 2)]


def test_letters_with_accents_are_the_same_letters_however_they_are_composed() -> None:
    """One source writes é as one character, another as two."""
    document = raw("odds_kick_off_in_2_min")
    document[0]["home_team"] = "Atl\u00e9tico"
    document[0]["bookmakers"][0]["markets"][0]["outcomes"][0]["name"] = "Atle\u0301tico"
    [event], skips = events_of(document)
    assert (event.home, len(event.markets), skips) == ("Atl\u00e9tico", 1, [])


def test_a_catalogue_with_older_spellings_knows_its_events() -> None:
    """Names that were stored with two spaces, by an earlier release, are the same sides."""
    book, fixture = book_with(NOW_US + HOUR_US)
    fixture.home, fixture.away = "Alpha\u00a0 City", "Beta "
    event = events_of(raw("odds_put_off_5_h_same_id"))[0][0]
    assert book.take_odds(EPL, [replace(event, home="Alpha City")], NOW_US) == []
    assert len(fixture.present) == 1


@pytest.mark.parametrize(
    "name",
    ["price_1", "price_1_0", "price_0", "price_null", "thin_exchange_all_1_01", "thin_exchange_1_01_1000"],
)
def test_an_offer_that_is_none_gives_way_to_the_next_bookmaker_s(name: str) -> None:
    """An exchange that comes first by name, without a usable price: the sound bookmaker behind it is taken, whole."""
    assert offered(name) == {(RESULT, 0): ("williamhill", SOUND), (TOTAL, 10): ("williamhill", SOUND_TOTAL)}


@pytest.mark.parametrize(
    ("prices", "taken"),
    [
        ((1.01, 1.01, 1.01), False),
        ((1.01, 1000, 1.02), False),
        ((2.0, 2.0, 2.0), False),
        ((2.3, 2.3, 2.3), False),  # 1.304
        ((2.31, 2.31, 2.31), True),  # 1.299
        ((3.0, 3.0, 3.0), True),
        ((3.01, 3.01, 3.01), False),
        ((100, 100, 100), False),
        ((1.01, 1000, 1000), False),
        ((1.05, 15, 29), True),
    ],
)
def test_a_book_adds_up_to_one_and_a_margin(prices: tuple[float, ...], taken: bool) -> None:
    """From 1 to 1.3; below and above, nobody would stand by these prices."""
    document = raw("thin_exchange_all_1_01")
    for outcome, price in zip(document[0]["bookmakers"][0]["markets"][0]["outcomes"], prices, strict=True):
        outcome["price"] = price
    [event], _ = events_of(document)
    [bookmaker] = {each.bookmaker for each in event.markets if each.kind == RESULT}
    assert bookmaker == ("betfair_ex_uk" if taken else "williamhill")


def test_totals_and_handicaps_of_a_thin_exchange_are_no_offers() -> None:
    """1.01 on both sides adds up to 1.98: the line of the bookmaker behind it is taken."""
    document = raw("away_first")
    thin = copy.deepcopy(document[0]["bookmakers"][0]) | {"key": "betfair_ex_uk"}
    for market in thin["markets"]:
        for outcome in market["outcomes"]:
            outcome["price"] = 1.01
    document[0]["bookmakers"].insert(0, thin)
    [event], skips = events_of(document)
    assert {each.bookmaker for each in event.markets} == {"williamhill"}
    assert skips == []


def test_a_spread_without_its_point_is_no_offer() -> None:
    """No line is guessed; the other markets stay, and the reason is said."""
    [event], [skip] = events_of(raw("spread_without_point"))
    assert {(each.kind, each.prices) for each in event.markets} == {(RESULT, SOUND), (TOTAL, SOUND_TOTAL)}
    assert (skip.what.endswith(", spreads"), skip.why) == (True, "betfair_ex_uk: point is not a number")


@pytest.mark.parametrize(
    ("home", "away", "quarters"), [(-0.0, 0, 0), (0, -0.0, 0), (0, 0, 0), (1, -1, 4), (-2.0, 2, -8)]
)
def test_whole_and_zero_points_are_lines(home: float, away: float, quarters: int) -> None:
    """Minus zero is zero, 1 and 1.0 are one goal."""
    document = raw("whole_number_point_minus_zero")
    outcomes = document[0]["bookmakers"][0]["markets"][0]["outcomes"]
    outcomes[0]["point"], outcomes[1]["point"] = home, away
    [event], skips = events_of(document)
    assert skips == []
    [handicap] = [each for each in event.markets if each.kind == HANDICAP]
    assert (handicap.line_quarters, handicap.prices) == (quarters, (Odds(9, 10), Odds(9, 10)))


def test_every_odd_answer_has_a_test() -> None:
    """A file that is added without its right value fails here."""
    text = Path(__file__).read_text()
    assert [name for name in NAMES if not re.search(rf'"{name}"', text)] == []


ODD_TEXTS = st.sampled_from(["", " ", "\u00a0", "Alpha", "Beta", "Draw", "Over", "0", "-0.0", "1e9", "9" * 30, "\x00"])
ODD_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from([0, -0.0, 1, 1.0, 1.01, 1000, 2.25, -0.75])
    | ODD_TEXTS
    | st.text(max_size=5)
    | st.sampled_from(["2026-11-01T12:00:00Z", "2026-11-01T17:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"])
    | st.builds(list)
    | st.builds(dict)
)


def places(value: Any) -> Any:
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


def mutated(data: st.DataObject, document: Any) -> Any:
    """The answer with up to four values replaced, removed, doubled, or exchanged for another place's."""
    for _ in range(data.draw(st.integers(0, 4))):
        found = list(places(document))
        if not found:
            break
        holder, key = data.draw(st.sampled_from(found))
        change = data.draw(st.sampled_from(["replace", "remove", "double", "exchange"]))
        if change == "replace":
            holder[key] = data.draw(ODD_VALUES)
        elif change == "remove":
            del holder[key]
        elif change == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            other, other_key = data.draw(st.sampled_from(found))
            holder[key] = copy.deepcopy(other[other_key])
    return document


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_sequence_of_changed_answers_breaks_the_book(data: st.DataObject) -> None:
    """Any answers in any order at any time: offers are sound, and no result comes before its match can be over."""
    book = books.of_sports([EPL], 16_000_000)
    now_us = NOW_US
    book.answered(now_us)
    for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6)):
        document = decoding.decode(json.dumps(mutated(data, raw(name))).encode())
        try:
            if name.startswith("scores"):
                book.take_scores(EPL, parsing.scores(document)[0], now_us)
            else:
                book.take_odds(EPL, parsing.events(document, RULES, now_us)[0], now_us)
        except SkipError:
            pass
        for fixture in book.fixtures.values():
            check(fixture, now_us)
        messages.catalogue(book.fixtures.values()).SerializeToString()
        book.views(now_us)
        book.overdue(now_us)
        now_us += data.draw(st.sampled_from([0, 1, 3, 30, 105, 400])) * MINUTE_US


def check(fixture: Fixture, now_us: int) -> None:
    """What holds of every fixture after every answer; then the catalogue takes what is due."""
    if fixture.goals is not None and fixture.status != FINISHED:
        assert fixtures.result_from_us(fixture, fixture.starts_at_us) <= now_us
        fixture.status = FINISHED
    if fixture.starts_at_us > now_us:
        fixture.listed_start_us, fixture.listed = fixture.starts_at_us, fixture.to_list()
    for quote in messages.prices([fixture], MAX_AGE_US, now_us).values():
        prices = [each.price.numerator / each.price.denominator + 1 for each in quote.prices]
        assert 0.999 < sum(1 / price for price in prices) < 1.301
