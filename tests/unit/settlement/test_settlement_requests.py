"""What a result means for a market that has others already, and what a score means for a market. Pure."""

from __future__ import annotations

import pytest

from betting.runtime.errors import ServiceError
from betting.settlement import requests
from betting.settlement.requests import RecordedVersion, RefusedResult, RequestedSettlement
from betting.v1 import event_pb2

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
