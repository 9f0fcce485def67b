"""The feed's side of the catalogue: idempotence, what may change, transitions, roles, bad input."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from betting.internal.v1 import feed_pb2
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2

HOUR_US = 3_600_000_000
_UNKNOWN: Any = 99


async def test_repeating_an_upsert_changes_nothing(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """The first call counts every row it makes, the second none, and a status set in between survives."""
    request = make_upsert(make_event(7), make_event(8))
    assert (await catalogue.feed("UpsertCatalogue", request)).changed == 1 + 2 + 2 + 2
    assert (await catalogue.feed("UpsertCatalogue", request)).changed == 0
    await _set(catalogue, 7, event_pb2.EVENT_STATUS_STARTED)
    assert (await catalogue.feed("UpsertCatalogue", request)).changed == 0
    event = (await catalogue.ask("GetEvent", event_pb2.GetEventRequest(event_id=7))).event
    assert event.status == event_pb2.EVENT_STATUS_STARTED
    assert event.markets[0].status == event_pb2.MARKET_STATUS_CLOSED


async def test_a_scheduled_event_may_be_corrected(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """A new start and a new closing time are two changed rows, and are what is read back."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    moved = make_event(7, home="Renamed", starts_at_us=make_event(7).starts_at_us + HOUR_US)
    moved.markets[0].closes_at_us += HOUR_US
    assert (await catalogue.feed("UpsertCatalogue", make_upsert(moved))).changed == 2
    event = (await catalogue.ask("GetEvent", event_pb2.GetEventRequest(event_id=7))).event
    assert (event.home, event.starts_at_us) == ("Renamed", moved.starts_at_us)
    assert event.markets[0].closes_at_us == moved.markets[0].closes_at_us
    found = await catalogue.ask("SearchEvents", event_pb2.SearchEventsRequest(text="renamed"))
    assert [event.event_id for event in found.events] == [7]


@pytest.mark.parametrize(
    ("reason", "alter"),
    [
        ("IMMUTABLE_FIELD", lambda event: event.MergeFrom(event_pb2.Event(league_id="D1"))),
        ("IMMUTABLE_FIELD", lambda event: event.markets[0].MergeFrom(_other_kind())),
        ("MARKET_EXISTS", lambda event: event.markets[0].MergeFrom(event_pb2.Market(market_id=71))),
        ("LEAGUE_UNKNOWN", lambda event: event.MergeFrom(event_pb2.Event(event_id=9, league_id="XX"))),
    ],
)
async def test_what_bets_hang_on_never_changes(
    catalogue: Any, make_event: Any, make_upsert: Any, reason: str, alter: Any
) -> None:
    """A refused upsert names why and leaves nothing of itself behind, not even its good events."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    event = make_event(7)
    alter(event)
    if event.event_id == 9:
        del event.markets[:]
    if reason == "IMMUTABLE_FIELD" and event.markets[0].kind == event_pb2.MARKET_KIND_OVER_UNDER:
        del event.markets[0].selections[2]
    error = await _refused(catalogue, "UpsertCatalogue", make_upsert(make_event(8), event))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
    listed = await catalogue.ask("ListEvents", event_pb2.ListEventsRequest())
    assert [event.event_id for event in listed.events] == [7]


async def test_a_started_event_is_fixed(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """After the start neither its time nor a further market is taken."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    await _set(catalogue, 7, event_pb2.EVENT_STATUS_STARTED)
    moved = make_event(7, starts_at_us=1_900_000_000_000_000)
    assert (await _refused(catalogue, "UpsertCatalogue", make_upsert(moved))).reason == "EVENT_NOT_SCHEDULED"
    more = make_event(7)
    more.markets.add(
        market_id=79,
        kind=event_pb2.MARKET_KIND_OVER_UNDER,
        line_quarters=10,
        closes_at_us=more.starts_at_us,
        selections=more.markets[0].selections[:2],
    )
    assert (await _refused(catalogue, "UpsertCatalogue", make_upsert(more))).reason == "EVENT_NOT_SCHEDULED"


async def test_an_event_lives_forward_only(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Scheduled, started, finished with a score, score corrected; every other way is refused by name."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    error = await _refused_status(catalogue, 7, event_pb2.EVENT_STATUS_FINISHED)
    assert (error.reason, error.code) == ("EVENT_TRANSITION", grpc.StatusCode.FAILED_PRECONDITION)
    assert "scheduled and cannot become finished: it can become started, abandoned" in error.message
    await _set(catalogue, 7, event_pb2.EVENT_STATUS_STARTED)
    await _set(catalogue, 7, event_pb2.EVENT_STATUS_STARTED)
    finished = await _set(catalogue, 7, event_pb2.EVENT_STATUS_FINISHED, 2, 1)
    assert (finished.home_goals, finished.away_goals) == (2, 1)
    corrected = await _set(catalogue, 7, event_pb2.EVENT_STATUS_FINISHED, 2, 2)
    assert (corrected.home_goals, corrected.away_goals) == (2, 2)
    for status in (event_pb2.EVENT_STATUS_SCHEDULED, event_pb2.EVENT_STATUS_STARTED, event_pb2.EVENT_STATUS_ABANDONED):
        assert (await _refused_status(catalogue, 7, status)).reason == "EVENT_TRANSITION"


async def test_markets_close_for_good(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Suspended and open again while time lasts; past the closing time a market is closed and only gets a result."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    suspended, opened = event_pb2.MARKET_STATUS_SUSPENDED, event_pb2.MARKET_STATUS_OPEN
    assert (await _set_market(catalogue, 70, suspended)).status == suspended
    assert (await _set_market(catalogue, 70, opened)).status == opened
    error = await _refused_market(catalogue, 70, event_pb2.MARKET_STATUS_RESULTED)
    assert error.reason == "MARKET_TRANSITION"
    catalogue.clock.time_us += 7 * HOUR_US
    shown = (await catalogue.ask("GetMarket", event_pb2.GetMarketRequest(market_id=70))).market
    assert shown.status == event_pb2.MARKET_STATUS_CLOSED
    assert (await _refused_market(catalogue, 70, opened)).reason == "MARKET_TRANSITION"
    resulted = await _set_market(catalogue, 70, event_pb2.MARKET_STATUS_RESULTED)
    assert resulted.status == event_pb2.MARKET_STATUS_RESULTED


async def test_abandoning_closes_markets(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """An abandoned event takes no bets; its markets can then be voided."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    event = await _set(catalogue, 7, event_pb2.EVENT_STATUS_ABANDONED)
    assert event.markets[0].status == event_pb2.MARKET_STATUS_CLOSED
    assert (await _set_market(catalogue, 70, event_pb2.MARKET_STATUS_VOID)).status == event_pb2.MARKET_STATUS_VOID


async def test_only_services_and_operators_feed(
    catalogue: Any, make_event: Any, make_upsert: Any, user_token: bytes, operator_token: bytes
) -> None:
    """No token and a bettor's token are refused on every method; an operator may."""
    calls = [
        ("UpsertCatalogue", make_upsert(make_event(7))),
        ("SetEventStatus", feed_pb2.SetEventStatusRequest(event_id=7, status=event_pb2.EVENT_STATUS_STARTED)),
        ("SetMarketStatus", feed_pb2.SetMarketStatusRequest(market_id=70, status=event_pb2.MARKET_STATUS_CLOSED)),
    ]
    for method, request in calls:
        nobody = await _refused(catalogue, method, request, b"")
        bettor = await _refused(catalogue, method, request, user_token)
        assert (nobody.code, bettor.code) == (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        await catalogue.feed(method, request, operator_token)


def _bad_upserts() -> list[tuple[str, Any]]:
    return [
        ("ID_INVALID", lambda r: r.sports.add(sport_id="no spaces", name="x")),
        ("NAME_INVALID", lambda r: r.sports.add(sport_id="x", name=" ")),
        ("NAME_INVALID", lambda r: r.leagues.add(league_id="x", sport_id="football", name="a\x00b")),
        ("REPEATED", lambda r: r.leagues.add(league_id="E0", sport_id="football", name="again")),
        ("REPEATED", lambda r: r.events.add().CopyFrom(r.events[0])),
        ("ID_INVALID", lambda r: r.events[0].MergeFrom(event_pb2.Event(event_id=-1))),
        ("TIME_INVALID", lambda r: r.events[0].MergeFrom(event_pb2.Event(starts_at_us=2**62))),
        ("NAME_INVALID", lambda r: r.events[0].MergeFrom(event_pb2.Event(home="x" * 101))),
        ("STATUS_INVALID", lambda r: r.events[0].MergeFrom(event_pb2.Event(status=event_pb2.EVENT_STATUS_FINISHED))),
        ("ID_INVALID", lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(market_id=-4))),
        ("ID_INVALID", lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(event_id=999))),
        ("KIND_INVALID", lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(kind=_UNKNOWN))),
        ("LINE_INVALID", lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(line_quarters=4))),
        ("TIME_INVALID", lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(closes_at_us=-5))),
        ("SELECTIONS_INVALID", lambda r: r.events[0].markets[0].selections.add(selection_id=4, name="x")),
        (
            "STATUS_INVALID",
            lambda r: r.events[0].markets[0].MergeFrom(event_pb2.Market(status=event_pb2.MARKET_STATUS_RESULTED)),
        ),
        ("TOO_MANY", lambda r: r.events.extend([event_pb2.Event()] * 1001)),
    ]


@pytest.mark.parametrize(("reason", "spoil"), _bad_upserts())
async def test_bad_upserts_name_the_place(
    catalogue: Any, make_event: Any, make_upsert: Any, reason: str, spoil: Any
) -> None:
    """Every malformed field is INVALID_ARGUMENT with its reason, and nothing of the call is written."""
    request = make_upsert(make_event(7))
    spoil(request)
    error = await _refused(catalogue, "UpsertCatalogue", request)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert not (await catalogue.ask("ListSports", event_pb2.ListSportsRequest())).sports


async def test_bad_status_calls(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Unknown ids are NOT_FOUND; senseless statuses, scores and ids are INVALID_ARGUMENT."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(7)))
    started, finished = event_pb2.EVENT_STATUS_STARTED, event_pb2.EVENT_STATUS_FINISHED
    assert (await _refused_status(catalogue, 999, started)).reason == "EVENT_NOT_FOUND"
    assert (await _refused_status(catalogue, 0, started)).reason == "ID_INVALID"
    assert (await _refused_status(catalogue, 7, 0)).reason == "STATUS_INVALID"
    assert (await _refused_status(catalogue, 7, started, 1, 0)).reason == "SCORE_UNEXPECTED"
    assert (await _refused_status(catalogue, 7, finished, -1, 0)).reason == "SCORE_INVALID"
    assert (await _refused_market(catalogue, 999, event_pb2.MARKET_STATUS_CLOSED)).reason == "MARKET_NOT_FOUND"
    assert (await _refused_market(catalogue, -1, event_pb2.MARKET_STATUS_CLOSED)).reason == "ID_INVALID"
    assert (await _refused_market(catalogue, 70, 17)).reason == "STATUS_INVALID"


def _other_kind() -> event_pb2.Market:
    return event_pb2.Market(kind=event_pb2.MARKET_KIND_OVER_UNDER, line_quarters=10)


async def _set(catalogue: Any, event_id: int, status: Any, home: int = 0, away: int = 0) -> Any:
    request = feed_pb2.SetEventStatusRequest(event_id=event_id, status=status, home_goals=home, away_goals=away)
    return (await catalogue.feed("SetEventStatus", request)).event


async def _set_market(catalogue: Any, market_id: int, status: Any) -> Any:
    request = feed_pb2.SetMarketStatusRequest(market_id=market_id, status=status)
    return (await catalogue.feed("SetMarketStatus", request)).market


async def _refused(catalogue: Any, method: str, request: Any, token: bytes | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await catalogue.feed(method, request, token)
    return caught.value


async def _refused_status(catalogue: Any, event_id: int, status: int, home: int = 0, away: int = 0) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await _set(catalogue, event_id, status, home, away)
    return caught.value


async def _refused_market(catalogue: Any, market_id: int, status: int) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await _set_market(catalogue, market_id, status)
    return caught.value
