"""What everybody may read of the catalogue: lists, paging, filters, search, bad input."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2

_UNKNOWN: Any = 99


async def test_lists_sports_and_leagues(catalogue: Any, make_upsert: Any) -> None:
    """Leagues come by country and can be asked for by sport; an unknown sport has none."""
    await catalogue.feed("UpsertCatalogue", make_upsert())
    sports = (await catalogue.ask("ListSports", event_pb2.ListSportsRequest())).sports
    assert [sport.sport_id for sport in sports] == ["football"]
    leagues = (await catalogue.ask("ListLeagues", event_pb2.ListLeaguesRequest(sport_id="football"))).leagues
    assert [(league.league_id, league.country) for league in leagues] == [("E0", "England"), ("D1", "Germany")]
    assert not (await catalogue.ask("ListLeagues", event_pb2.ListLeaguesRequest(sport_id="chess"))).leagues


async def test_pages_neither_skip_nor_repeat(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Events that start together are paged by id; one added behind the reader does not disturb the pages."""
    start = make_event(1).starts_at_us
    events = [make_event(number, starts_at_us=start) for number in (5, 3, 4, 1)]
    await catalogue.feed("UpsertCatalogue", make_upsert(*events))
    first = await catalogue.ask("ListEvents", event_pb2.ListEventsRequest(page_size=2))
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(2, starts_at_us=start)))
    token = first.next_page_token
    second = await catalogue.ask("ListEvents", event_pb2.ListEventsRequest(page_size=2, page_token=token))
    assert [event.event_id for event in first.events] == [1, 3]
    assert [event.event_id for event in second.events] == [4, 5]
    assert second.next_page_token == ""
    assert [market.market_id for market in second.events[0].markets] == [40]


async def test_filters_by_league_and_status(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Each filter alone and both together."""
    await catalogue.feed("UpsertCatalogue", make_upsert(make_event(1), make_event(2, league_id="D1")))
    assert await _listed(catalogue, league_id="D1") == [2]
    assert await _listed(catalogue, status=event_pb2.EVENT_STATUS_SCHEDULED) == [1, 2]
    assert await _listed(catalogue, league_id="E0", status=event_pb2.EVENT_STATUS_FINISHED) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KÖLN", [1]),
        ("koln", [1]),
        ("  bundesliga   ham ", [2]),
        ("100%", [3]),
        ("0_", []),
        ("%%", []),
        ("\\x", [3]),
        ("prem", [3]),
        ("'; drop", []),
    ],
)
async def test_search_folds_and_takes_wildcards_literally(
    catalogue: Any, make_event: Any, make_upsert: Any, text: str, expected: list[int]
) -> None:
    """Case and accents do not matter, every word must match team or league, LIKE's own characters are characters."""
    events = [
        make_event(1, league_id="D1", home="1. FC Köln", away="Mainz"),
        make_event(2, league_id="D1", home="Hamburger SV", away="Bremen"),
        make_event(3, home="100% \\x", away="Leeds"),
    ]
    await catalogue.feed("UpsertCatalogue", make_upsert(*events))
    found = await catalogue.ask("SearchEvents", event_pb2.SearchEventsRequest(text=text))
    assert [event.event_id for event in found.events] == expected


async def test_search_pages_soonest_first(catalogue: Any, make_event: Any, make_upsert: Any) -> None:
    """Pages of a search go on where they stopped, in the order of start."""
    await catalogue.feed("UpsertCatalogue", make_upsert(*(make_event(number) for number in (3, 1, 2))))
    seen: list[int] = []
    token = ""
    for _ in range(3):
        request = event_pb2.SearchEventsRequest(text="home", page_size=1, page_token=token)
        page = await catalogue.ask("SearchEvents", request)
        seen.extend(event.event_id for event in page.events)
        token = page.next_page_token
    assert (seen, token) == ([1, 2, 3], "")


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("GetEvent", event_pb2.GetEventRequest(event_id=-1), "INVALID_ARGUMENT", "ID_INVALID"),
        ("GetEvent", event_pb2.GetEventRequest(event_id=404), "NOT_FOUND", "EVENT_NOT_FOUND"),
        ("GetMarket", event_pb2.GetMarketRequest(), "INVALID_ARGUMENT", "ID_INVALID"),
        ("GetMarket", event_pb2.GetMarketRequest(market_id=404), "NOT_FOUND", "MARKET_NOT_FOUND"),
        ("ListLeagues", event_pb2.ListLeaguesRequest(sport_id="a b"), "INVALID_ARGUMENT", "ID_INVALID"),
        ("ListEvents", event_pb2.ListEventsRequest(league_id="\x00"), "INVALID_ARGUMENT", "ID_INVALID"),
        ("ListEvents", event_pb2.ListEventsRequest(status=_UNKNOWN), "INVALID_ARGUMENT", "STATUS_INVALID"),
        ("ListEvents", event_pb2.ListEventsRequest(page_size=501), "INVALID_ARGUMENT", "PAGE_SIZE_OUT_OF_RANGE"),
        ("ListEvents", event_pb2.ListEventsRequest(page_token="x"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
        ("SearchEvents", event_pb2.SearchEventsRequest(text="a"), "INVALID_ARGUMENT", "SEARCH_TEXT_INVALID"),
        ("SearchEvents", event_pb2.SearchEventsRequest(text="a" * 101), "INVALID_ARGUMENT", "SEARCH_TEXT_INVALID"),
        ("SearchEvents", event_pb2.SearchEventsRequest(text="a\x00b"), "INVALID_ARGUMENT", "SEARCH_TEXT_INVALID"),
        ("SearchEvents", event_pb2.SearchEventsRequest(text="\u0301\u0301"), "INVALID_ARGUMENT", "SEARCH_TEXT_INVALID"),
        (
            "SearchEvents",
            event_pb2.SearchEventsRequest(text="ab", page_size=-1),
            "INVALID_ARGUMENT",
            "PAGE_SIZE_OUT_OF_RANGE",
        ),
    ],
)
async def test_bad_reads(catalogue: Any, method: str, request_: Any, code: str, reason: str) -> None:
    """What cannot be meant is INVALID_ARGUMENT with a reason, what is not there NOT_FOUND."""
    with pytest.raises(ServiceError) as caught:
        await catalogue.ask(method, request_)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode[code], reason)


async def _listed(catalogue: Any, **filters: Any) -> list[int]:
    found = await catalogue.ask("ListEvents", event_pb2.ListEventsRequest(**filters))
    return [event.event_id for event in found.events]
