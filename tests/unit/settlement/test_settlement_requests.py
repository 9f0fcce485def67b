"""What a result means for a market that has others already, and what a score means for a market. Pure."""

from __future__ import annotations

import grpc
import hypothesis
import pytest
from hypothesis import strategies as st

from betting.engine.outcomes import MarketKind, Outcome, decide_market, possible_results
from betting.runtime.errors import ServiceError
from betting.settlement import requests
from betting.settlement.requests import RecordedVersion, RefusedResult, RequestedSettlement
from betting.v1 import event_pb2, settlement_pb2

HOME, AWAY, VOID = {1: 5, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 5}, {1: 3, 2: 3, 3: 3}


def wanted(outcomes: dict[int, int], version: int = 1) -> RequestedSettlement:
    """A result of market 7."""
    return RequestedSettlement(7, version, 1, outcomes, voids=False)


def known(*results: dict[int, int], done: bool = True) -> list[RecordedVersion]:
    """Versions 1, 2, … of a market; all but the last are done."""
    last = len(results)
    return [RecordedVersion(n, outcomes, outcomes is VOID, done or n < last) for n, outcomes in enumerate(results, 1)]


def test_a_first_result_and_the_next_version_are_recorded() -> None:
    """None: nothing says it yet."""
    assert requests.recorded_as([], wanted(HOME)) is None
    assert requests.recorded_as(known(HOME), wanted(AWAY, 2)) is None


def test_the_same_result_again_is_the_version_there_is() -> None:
    """Also when a later version is in force: whoever repeats a request gets its answer."""
    assert requests.recorded_as(known(HOME), wanted(HOME)) == 1
    assert requests.recorded_as(known(HOME, AWAY), wanted(HOME)) == 1


@pytest.mark.parametrize(
    ("there", "asked", "reason"),
    [
        (known(HOME), wanted(AWAY), "VERSION_TAKEN"),
        (known(HOME, AWAY), wanted(AWAY), "VERSION_TAKEN"),
        ([], wanted(HOME, 2), "VERSION_NOT_NEXT"),
        (known(HOME), wanted(AWAY, 3), "VERSION_NOT_NEXT"),
        (known(HOME, done=False), wanted(AWAY, 2), "VERSION_UNFINISHED"),
    ],
)
def test_what_contradicts_is_refused(there: list[RecordedVersion], asked: RequestedSettlement, reason: str) -> None:
    """Each with its own reason, and the version to use."""
    with pytest.raises(ServiceError) as problem:
        requests.recorded_as(there, asked)
    assert problem.value.reason == reason


def test_a_void_stands_against_a_score_and_so_does_a_correction_to_the_same() -> None:
    """A person voided it, or the feed says at last what a person said before; others do not."""
    assert requests.stands_against_score(known(VOID), wanted(HOME)) == 1
    assert requests.stands_against_score(known(HOME, VOID), wanted(AWAY)) == 2
    assert requests.stands_against_score(known(AWAY, HOME), wanted(HOME)) == 2
    assert requests.stands_against_score(known(AWAY), wanted(HOME)) is None
    assert requests.stands_against_score(known(VOID, AWAY), wanted(HOME)) is None
    assert requests.stands_against_score([], wanted(HOME)) is None


def test_a_void_gives_way_to_a_correction_by_number() -> None:
    """The next version is an explicit correction, also of a void."""
    assert requests.stands_against_score(known(VOID), wanted(HOME, 2)) is None


def market(kind: int, *selections: int, line: int = 0) -> event_pb2.Market:
    """A market of event 1."""
    return event_pb2.Market(
        market_id=7,
        event_id=1,
        kind=kind,  # type: ignore[arg-type]  # also kinds that there are not
        line_quarters=line,
        selections=[event_pb2.Selection(selection_id=each) for each in selections],
    )


def test_a_score_decides_the_markets_it_can_and_names_the_others() -> None:
    """A kind that this release does not know, selections a score says nothing of: those are for a person."""
    event = event_pb2.Event(
        event_id=1,
        markets=[market(1, 1, 2, 3), market(2, 1, 2, line=10), market(2, 1, 2, 3, line=10), market(99, 1, 2)],
    )
    results = requests.from_score(event, 2, 0, 1)
    assert [type(each) for each in results] == [RequestedSettlement, RequestedSettlement, RefusedResult, RefusedResult]
    assert [each.outcomes for each in results] == [HOME, {1: 1, 2: 5}, {}, {}]


def given(*outcomes: int) -> list[settlement_pb2.SelectionOutcome]:
    """An operator's outcomes of selections 1, 2, …"""
    return [
        settlement_pb2.SelectionOutcome(selection_id=each, outcome=settlement_pb2.Outcome.Name(outcome))
        for each, outcome in enumerate(outcomes, 1)
    ]


@pytest.mark.parametrize(
    ("of", "outcomes", "says"),
    [
        (market(1, 1, 2, 3), (5, 5, 5), "selections 1 WON, 2 WON, 3 WON contradict each other"),
        (market(1, 1, 2, 3), (5, 5, 1), "Give one of: selections 1 WON, 2 LOST, 3 LOST; selections 1 LOST, 2 WON"),
        (market(1, 1, 2, 3), (1, 1, 1), "no score gives that"),
        (market(1, 1, 2, 3), (5, 1, 3), "or VOID for every selection"),
        (market(1, 1, 2, 3), (4, 2, 2), "no score gives that"),
        (market(2, 1, 2, line=10), (5, 5), "no score gives that at the line 2.5"),
        (market(2, 1, 2, line=10), (1, 1), "market 7 (over under)"),
        (market(2, 1, 2, line=10), (4, 2), "Give one of: selections 1 WON, 2 LOST; selections 1 LOST, 2 WON; or VOID"),
        (market(2, 1, 2, line=9), (4, 2), "selections 1 HALF_LOST, 2 HALF_WON"),
        (market(2, 1, 2, line=1), (1, 5), "at the line 0.25"),
        (market(3, 1, 2, line=-1), (5, 2), "market 7 (asian handicap)"),
        (market(3, 1, 2, line=-1), (4, 2), "selections 1 HALF_LOST, 2 HALF_WON"),
    ],
)
def test_outcomes_that_no_score_gives_are_refused(of: event_pb2.Market, outcomes: tuple[int, ...], says: str) -> None:
    """Every selection as WON would pay everybody. The message has what was given and what can be."""
    with pytest.raises(ServiceError) as problem:
        requests.from_outcomes(of, given(*outcomes), 1)
    assert (problem.value.code, problem.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OUTCOMES_IMPOSSIBLE")
    assert says in problem.value.message


@hypothesis.given(
    st.sampled_from(MarketKind), st.integers(-80, 80), st.integers(0, 12), st.integers(0, 12), st.booleans()
)
def test_what_a_score_gives_and_a_void_are_accepted(
    kind: MarketKind, line: int, home: int, away: int, voids: bool
) -> None:
    """Whatever the line, in quarters too."""
    outcomes = decide_market(kind, line, home, away)
    if voids:
        outcomes = dict.fromkeys(outcomes, Outcome.VOID)
    settled = requests.from_outcomes(market(kind, *outcomes, line=line), given(*outcomes.values()), 1)
    assert settled.outcomes == outcomes


@pytest.mark.parametrize("line", [-(2**31), -21, -4, -1, 0, 1, 2, 3, 10, 11, 2**31 - 1])
@pytest.mark.parametrize("kind", [MarketKind.OVER_UNDER, MarketKind.ASIAN_HANDICAP])
def test_what_is_possible_at_a_line_is_what_scores_near_it_give(kind: MarketKind, line: int) -> None:
    """Nothing more and nothing less, also at the largest lines, at once."""
    near = abs(line) // 4
    scores = [(n, 0) for n in range(near + 8)] + [(0, n) for n in range(near + 8)] if near < 100 else []
    found = possible_results(kind, line)
    assert 1 <= len(found) <= 3
    if scores:
        assert {tuple(each.values()) for each in found} == {
            tuple(decide_market(kind, line, *score).values()) for score in scores
        }


def test_a_market_that_no_score_decides_takes_any_outcomes() -> None:
    """A kind that this release does not know is for a person to judge."""
    for of in (market(99, 1, 2), market(2, 1, 2, 3, line=10)):
        outcomes = [5] * len(of.selections)
        assert requests.from_outcomes(of, given(*outcomes), 1).outcomes == dict(enumerate(outcomes, 1))


@pytest.mark.parametrize(
    ("status", "starts_in_us", "refused"),
    [
        (event_pb2.EVENT_STATUS_SCHEDULED, 1, True),
        (event_pb2.EVENT_STATUS_ABANDONED, 1, True),
        (event_pb2.EVENT_STATUS_SCHEDULED, 0, False),
        (event_pb2.EVENT_STATUS_STARTED, 1, False),
        (event_pb2.EVENT_STATUS_FINISHED, 1, False),
    ],
)
def test_no_result_before_the_start(status: event_pb2.EventStatus, starts_in_us: int, refused: bool) -> None:
    """By the catalogue's start and our clock, unless the feed has started the event."""
    now_us = 1_767_225_600_000_000
    event = event_pb2.Event(event_id=3, status=status, starts_at_us=now_us + starts_in_us)
    if not refused:
        requests.check_started(event, now_us)
        return
    with pytest.raises(ServiceError, match="event 3 has not started: it starts at 2026-01-01 00:00:00 UTC") as problem:
        requests.check_started(event, now_us)
    assert (problem.value.code, problem.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_STARTED")
