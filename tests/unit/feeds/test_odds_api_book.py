"""What becomes of the events of The Odds API: the next step of each, and events that change their mind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from betting.feeds.decimals import Odds
from betting.feeds.seasons import identity
from betting.feeds.the_odds_api import book as books
from betting.feeds.the_odds_api import fixtures, messages
from betting.feeds.the_odds_api.book import Book
from betting.feeds.the_odds_api.fixtures import FINISHED, SCHEDULED, STARTED, Fixture, FixtureStep
from betting.feeds.the_odds_api.model import SourceEvent, SourceMarket, SourceScore
from betting.feeds.the_odds_api.polling import DAY_US, HOUR_US
from betting.v1 import event_pb2

NOW_US = 1_786_788_000_000_000
EPL = "soccer_epl"
ID = "36808dc52374b40df08cab6b1d5664d1"
HALF = Odds(1, 2)
OUTAGE_US = 16_000_000
MAX_AGE_US = 600_000_000


def handicap(line_quarters: int = -2, as_of_us: int = NOW_US) -> SourceMarket:
    return SourceMarket(3, line_quarters, "pinnacle", as_of_us, (HALF, Odds(2, 1)))


def event(source_id: str = ID, starts_in_us: int = HOUR_US, **fields: object) -> SourceEvent:
    made = SourceEvent(source_id, EPL, "EPL", "Alpha", "Beta", NOW_US + starts_in_us, (handicap(),))
    return replace(made, **fields)  # type: ignore[arg-type]


def score(home: str = "Alpha", away: str = "Beta", goals: tuple[int, int] = (2, 1)) -> SourceScore:
    return SourceScore(ID, home, away, NOW_US + HOUR_US, *goals)


def taken(*events: SourceEvent, now_us: int = NOW_US) -> Book:
    made = books.of_sports([EPL], OUTAGE_US)
    made.answered(now_us)
    assert made.take_odds(EPL, events, now_us) == []
    return made


def listed(book: Book, source_id: str = ID) -> Fixture:
    """The fixture as it is once the catalogue has it."""
    fixture = book.fixtures[fixtures.event_id(source_id)]
    fixture.listed_start_us, fixture.listed = fixture.starts_at_us, fixture.to_list()
    return fixture


def test_ids_follow_from_the_source_s() -> None:
    """The same in every run, different for each event, and exact in every JSON reader."""
    assert fixtures.event_id(ID) == 2_491_295_154_367_650
    assert fixtures.event_id(ID) != fixtures.event_id(ID[::-1])
    assert 0 < fixtures.event_id(ID) < 2**52


def test_a_fixture_lives_step_by_step() -> None:
    """Listed, started at its kick-off, finished with its result, settled, and then known to be over."""
    book = taken(event())
    fixture = book.fixtures[fixtures.event_id(ID)]
    assert fixture.next_step(NOW_US) is FixtureStep.LIST
    listed(book)
    assert fixture.next_step(NOW_US) is None
    assert fixture.next_step(NOW_US + HOUR_US) is FixtureStep.START
    fixture.status = STARTED
    assert fixture.next_step(NOW_US + HOUR_US) is None
    assert book.take_scores(EPL, [score()], NOW_US + 3 * HOUR_US) == []
    assert (fixture.next_step(NOW_US + 3 * HOUR_US), fixture.goals) == (FixtureStep.FINISH, (2, 1))
    fixture.status = FINISHED
    assert fixture.next_step(NOW_US + 3 * HOUR_US) is FixtureStep.SETTLE
    book.end(fixture.event_id, fixture.goals)
    assert book.fixtures == {}
    [skip] = book.take_odds(EPL, [event(starts_in_us=9 * HOUR_US)], NOW_US)
    assert "over already" in skip.why


def test_what_was_put_aside_waits() -> None:
    """A refused step is not taken again before its time."""
    book = taken(event())
    fixture = book.fixtures[fixtures.event_id(ID)]
    fixture.aside_until_us = NOW_US + 1
    assert book.due(NOW_US, FixtureStep.LIST) == []
    assert book.due(NOW_US + 1, FixtureStep.LIST) == [(fixture, FixtureStep.LIST)]


def test_only_listed_markets_are_offered() -> None:
    """A bet on what the catalogue does not have could never be settled."""
    book = taken(event())
    assert messages.prices(book.fixtures.values(), MAX_AGE_US, NOW_US) == {}
    fixture = listed(book)
    [quote] = messages.prices([fixture], MAX_AGE_US, NOW_US).values()
    assert quote.market_id == identity.market_id(fixture.event_id, 3, -2)
    assert quote.status == event_pb2.MARKET_STATUS_OPEN


@pytest.mark.parametrize(
    ("present", "age_us", "starts_in_us", "status"),
    [
        (True, MAX_AGE_US, HOUR_US, "OPEN"),
        (True, MAX_AGE_US + 1, HOUR_US, "SUSPENDED"),
        (False, 0, HOUR_US, "SUSPENDED"),
        (True, 0, 0, "CLOSED"),
        (False, MAX_AGE_US + 1, 0, "CLOSED"),
    ],
)
def test_quotes_are_open_while_they_can_be_trusted(present: bool, age_us: int, starts_in_us: int, status: str) -> None:
    """In the last answer, not too old, before the kick-off."""
    book = taken(event(markets=(handicap(as_of_us=NOW_US - age_us),)))
    fixture = listed(book)
    fixture.starts_at_us = NOW_US + starts_in_us
    fixture.present = fixture.present if present else frozenset()
    [quote] = messages.prices([fixture], MAX_AGE_US, NOW_US).values()
    assert event_pb2.MarketStatus.Name(quote.status) == f"MARKET_STATUS_{status}"


def test_events_in_play_or_without_markets_are_not_taken() -> None:
    """They were never offered, so nothing is owed to anybody."""
    assert taken(event(starts_in_us=0), event("x", markets=())).fixtures == {}


def test_an_event_put_off_in_time_moves() -> None:
    """Start and closing time of all its markets, also of those that are no longer offered."""
    book = taken(event())
    fixture = listed(book)
    later_us = NOW_US + 30 * HOUR_US
    assert book.take_odds(EPL, [event(starts_at_us=later_us, markets=(handicap(-3),))], NOW_US) == []
    assert fixture.next_step(NOW_US) is FixtureStep.LIST
    assert {market.closes_at_us for market in fixture.to_list().values()} == {later_us}
    assert len(fixture.to_list()) == 2


def test_an_event_put_off_too_late_waits_for_its_result() -> None:
    """Its betting stays ended; its result is asked for when it is played, days later, and taken."""
    book = taken(event())
    fixture = listed(book)
    late_us, played_us = NOW_US + 2 * HOUR_US, NOW_US + 9 * DAY_US
    [skip] = book.take_odds(EPL, [event(starts_at_us=played_us)], late_us)
    assert "put off after its betting ended" in skip.why
    assert fixture.starts_at_us == NOW_US + HOUR_US
    fixture.status = STARTED
    assert book.views(played_us)[0].awaited_us == [played_us]
    assert book.overdue(played_us) == []
    assert book.take_scores(EPL, [score()], played_us + 2 * HOUR_US) == []
    assert fixture.goals == (2, 1)


def test_an_event_brought_forward_is_listed_and_started() -> None:
    """The catalogue hears of the new time first, so that its markets close with it."""
    book = taken(event())
    fixture = listed(book)
    assert book.take_odds(EPL, [event(starts_in_us=-1, markets=())], NOW_US) == []
    assert fixture.next_step(NOW_US) is FixtureStep.LIST
    listed(book)
    assert fixture.next_step(NOW_US) is FixtureStep.START


def test_other_sides_under_the_same_id_are_not_taken() -> None:
    """Selections must not change what bets on them mean; the event is suspended, its result for a person to give."""
    book = taken(event())
    fixture = listed(book)
    [skip] = book.take_odds(EPL, [event(home="Gamma")], NOW_US)
    assert "others than before" in skip.why
    assert (fixture.home, fixture.present) == ("Alpha", frozenset())
    [skip] = book.take_scores(EPL, [score(home="Gamma")], NOW_US + 3 * HOUR_US)
    assert "other sides" in skip.why
    assert fixture.goals is None


def test_results_that_cannot_be_are_not_taken() -> None:
    """One before the start; another one than was settled; the first of two counts."""
    book = taken(event())
    fixture = listed(book)
    [skip] = book.take_scores(EPL, [score()], NOW_US)
    assert "it starts at 2026-08-15T11:00:00Z: waiting" in skip.why
    book.take_scores(EPL, [score(), score(goals=(5, 5))], NOW_US + 3 * HOUR_US)
    assert fixture.goals == (2, 1)
    book.end(fixture.event_id, fixture.goals)
    assert book.take_scores(EPL, [score()], NOW_US + 4 * HOUR_US) == []
    [skip] = book.take_scores(EPL, [score(goals=(2, 2))], NOW_US + 4 * HOUR_US)
    assert "differs from what was settled" in skip.why


def test_results_of_others_mean_nothing() -> None:
    """The source tells all scores of a league, also of matches that were never offered."""
    book = taken(event("x"))
    assert book.take_scores(EPL, [score()], NOW_US + 3 * HOUR_US) == []


def test_results_that_will_never_come_are_for_a_person() -> None:
    """After three days the source has forgotten: said until somebody settles or voids."""
    book = taken(event())
    fixture = listed(book)
    fixture.status = STARTED
    assert book.overdue(fixture.starts_at_us + 3 * DAY_US - 1) == []
    assert book.overdue(fixture.starts_at_us + 3 * DAY_US) == [fixture]
    fixture.goals = (0, 0)
    assert book.overdue(fixture.starts_at_us + 3 * DAY_US) == []


def test_what_never_came_into_the_catalogue_is_forgotten() -> None:
    """It kicked off before event-service took it: nobody can have bet on it."""
    book = taken(event())
    book.tidy(NOW_US)
    assert len(book.fixtures) == 1
    book.tidy(NOW_US + HOUR_US)
    assert book.fixtures == {}


def test_events_of_another_sport_are_left_out() -> None:
    """An answer about one league must not change another."""
    book = books.of_sports([EPL], OUTAGE_US)
    [skip] = book.take_odds(EPL, [event(sport_key="soccer_x")], NOW_US)
    assert "not of soccer_epl" in skip.why
    assert book.fixtures == {}


def test_lines_without_end_are_bounded() -> None:
    """New lines of one event beyond the bound are left out and counted; known ones go on."""
    book = taken(event(markets=tuple(handicap(line) for line in range(fixtures.MARKETS_MAX))))
    [skip] = book.take_odds(EPL, [event(markets=(handicap(0), handicap(-1), handicap(-2)))], NOW_US)
    assert skip.why.startswith("2 new lines")
    fixture = book.fixtures[fixtures.event_id(ID)]
    assert (len(fixture.markets), len(fixture.present)) == (fixtures.MARKETS_MAX, 1)


def test_a_snapshot_is_whole_when_every_sport_is_fresh() -> None:
    """After a gap between answers all prices from before it are old; a sport the source refuses is not waited for."""
    book = books.of_sports([EPL, "soccer_x"], OUTAGE_US)
    book.answered(NOW_US)
    book.take_odds(EPL, [], NOW_US)
    assert not book.is_whole(NOW_US)
    book.take_odds("soccer_x", [], NOW_US)
    assert book.is_whole(NOW_US)
    book.answered(NOW_US + OUTAGE_US)
    assert book.is_whole(NOW_US + OUTAGE_US)
    back_us = NOW_US + 2 * OUTAGE_US + 1
    book.sports[EPL].retry_at_us = back_us + DAY_US
    assert book.answered(back_us)
    assert not book.is_whole(back_us)
    assert book.sports[EPL].retry_at_us == 0
    book.take_odds(EPL, [], back_us)
    book.sports["soccer_x"].aside_until_us = back_us + 1
    assert book.is_whole(back_us)


def test_a_clock_set_back_makes_everything_old() -> None:
    """Times in the future are no times to wait for."""
    book = taken(event())
    before_us = NOW_US - DAY_US
    book.set_back(before_us)
    assert book.answered_at_us == before_us
    assert not book.is_whole(before_us)


def test_a_restarted_feed_knows_its_events() -> None:
    """From the catalogue: status, sides, lines; with the same ids, so nothing has to be listed anew."""
    book = taken(event())
    fixture = listed(book)
    request = messages.catalogue([fixture])
    assert [(sport.sport_id, sport.name) for sport in request.sports] == [("football", "Football")]
    [stored] = request.events
    stored.status = event_pb2.EVENT_STATUS_SCHEDULED
    known = fixtures.known(stored, EPL)
    assert (known.listed, known.listed_start_us, known.status) == (fixture.listed, fixture.starts_at_us, SCHEDULED)
    other = books.of_sports([EPL], OUTAGE_US)
    other.fixtures[known.event_id] = known
    assert other.take_odds(EPL, [event()], NOW_US) == []
    assert known.next_step(NOW_US) is None
    assert len(messages.prices([known], MAX_AGE_US, NOW_US)) == 1


def test_results_name_every_listed_market() -> None:
    """Also lines that were offered once only."""
    book = taken(event())
    fixture = listed(book)
    book.take_odds(EPL, [event(markets=())], NOW_US)
    assert [(each.market_id, each.status) for each in messages.results(fixture)] == [
        (market_id, event_pb2.MARKET_STATUS_RESULTED) for market_id in fixture.listed
    ]
