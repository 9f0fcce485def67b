"""Prices through real gRPC and Postgres: versions, closings, producers, history, restarts, roles, bad input."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any

import asyncpg
import grpc
import pytest

from betting.internal.v1 import feed_pb2
from betting.odds.board import KEEP_FINAL_US
from betting.odds.store import Store
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, odds_pb2

SECOND_US = 1_000_000
OPEN = event_pb2.MARKET_STATUS_OPEN
SUSPENDED = event_pb2.MARKET_STATUS_SUSPENDED
CLOSED = event_pb2.MARKET_STATUS_CLOSED
RESULTED = event_pb2.MARKET_STATUS_RESULTED


async def test_versions_rise_by_one_with_each_change(odds: Any, make_prices: Any) -> None:
    """A new producer is asked for a snapshot; repeats change nothing; a new price is the next version."""
    assert await odds.publish(make_prices(11)) is True
    before = await odds.prices(11)
    assert (before.status, before.stale, before.version) == (SUSPENDED, True, 1)
    assert await odds.publish(make_prices(11), snapshot=True) is False
    assert await odds.publish(make_prices(11)) is False
    opened = await odds.prices(11)
    assert (opened.status, opened.stale, opened.version, opened.producer_id) == (OPEN, False, 2, "feed")
    await odds.publish(make_prices(11, 95))
    moved = await odds.prices(11)
    assert (moved.version, moved.prices[0].price.numerator, moved.event_id) == (3, 95, 1)


async def test_a_market_closes_at_its_time(odds: Any, make_prices: Any, eventually: Any) -> None:
    """At its closing time the quote reads closed at once, as the very version that is then stored."""
    offer = make_prices(11)
    await odds.publish(offer, snapshot=True)
    odds.clock.time_us = offer.closes_at_us
    shown = await odds.prices(11)
    assert (shown.status, shown.version, shown.changed_at_us) == (CLOSED, 2, offer.closes_at_us)

    async def versions() -> list[tuple[int, int]]:
        return [(price.version, price.status) for price in (await _history(odds, 11)).prices]

    assert await eventually(versions, lambda found: len(found) == 2) == [(2, CLOSED), (1, OPEN)]
    assert (await odds.prices(11)).version == 2


async def test_results_are_final(odds: Any, make_prices: Any) -> None:
    """A resulted market keeps its prices and takes no further offers; the rest of such a call counts."""
    await odds.publish(make_prices(11), make_prices(12), snapshot=True)
    await odds.publish(make_prices(11, status=RESULTED, prices=[]))
    resulted = await odds.prices(11)
    assert (resulted.status, resulted.version, len(resulted.prices)) == (RESULTED, 2, 2)
    await odds.publish(make_prices(11), make_prices(12, 93), snapshot=True)
    assert (await odds.prices(11)) == resulted
    assert (await odds.prices(12)).version == 2


async def test_silence_suspends_and_only_a_snapshot_reopens(odds: Any, make_prices: Any, eventually: Any) -> None:
    """Over 20 s without a word: that producer's markets only. Being heard again reopens nothing; its snapshot does."""
    await odds.publish(make_prices(11), snapshot=True)
    await odds.publish(make_prices(21), snapshot=True, producer="other")
    odds.clock.time_us += 15 * SECOND_US
    await odds.publish(producer="other")
    odds.clock.time_us += 6 * SECOND_US

    silent = await eventually(lambda: odds.prices(11), lambda quote: quote.status == SUSPENDED)
    assert (silent.version, silent.stale) == (2, True)
    assert (await odds.prices(21)).status == OPEN
    assert await _producers(odds) == {"feed": odds_pb2.PRODUCER_STATUS_SILENT, "other": odds_pb2.PRODUCER_STATUS_ALIVE}

    assert await odds.publish() is True
    assert await odds.publish(make_prices(11, 99)) is True
    odds.clock.time_us += 1 * SECOND_US
    recovering = await odds.prices(11)
    assert (recovering.status, recovering.stale, recovering.version) == (SUSPENDED, True, 3)
    assert (await _producers(odds))["feed"] == odds_pb2.PRODUCER_STATUS_RECOVERING

    assert await odds.publish(make_prices(11, 99), snapshot=True) is False
    reopened = await odds.prices(11)
    assert (reopened.status, reopened.stale, reopened.version) == (OPEN, False, 4)
    assert (await _producers(odds))["feed"] == odds_pb2.PRODUCER_STATUS_ALIVE


async def test_what_a_snapshot_leaves_out_is_closed(odds: Any, make_prices: Any) -> None:
    """Only the same producer's live markets are closed by its snapshot."""
    await odds.publish(make_prices(11), make_prices(12), snapshot=True)
    await odds.publish(make_prices(21), snapshot=True, producer="other")
    await odds.publish(make_prices(12), snapshot=True)
    assert [(await odds.prices(id_)).status for id_ in (11, 12, 21)] == [CLOSED, OPEN, OPEN]


async def test_a_restart_continues_versions(start_odds: Any, make_prices: Any) -> None:
    """A restarted odds-service knows every quote, asks for a snapshot, and counts on from the version it had."""
    async with start_odds() as first:
        await first.publish(make_prices(11), snapshot=True)
        await first.publish(make_prices(11, 95))
        before = await first.prices(11)
    async with start_odds() as second:
        assert await second.prices(11) == before
        assert await second.publish() is True
        assert await second.publish(make_prices(11, 97), snapshot=True) is False
        assert (await second.prices(11)).version == before.version + 1


async def test_what_memory_forgot_goes_on(start_odds: Any, make_prices: Any) -> None:
    """A resulted market that a restart did not load is read from the database, and keeps counting from there."""
    async with start_odds() as first:
        await first.publish(make_prices(11), snapshot=True)
        await first.publish(make_prices(11, status=RESULTED, prices=[]))
        first.clock.time_us += KEEP_FINAL_US + 1
    async with start_odds() as second:
        assert not (await _snapshot(second)).prices
        assert (await second.prices(11)).version == 2
        await second.publish(make_prices(11, status=event_pb2.MARKET_STATUS_VOID, prices=[]))
        assert ((await second.prices(11)).version, (await second.prices(11)).status) == (
            3,
            event_pb2.MARKET_STATUS_VOID,
        )


async def test_pruning_keeps_the_current_version(odds: Any, make_prices: Any, database: Any) -> None:
    """Old versions go, the one a market has now stays, however old it is."""
    for price in (91, 92, 93):
        await odds.publish(make_prices(11, price), snapshot=True)
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=1) as pool:
        store = Store(pool)
        assert await store.prune(odds.clock.time_us) == 0
        assert await store.prune(odds.clock.time_us + 1) == 2
    assert [quote.version for quote in (await _history(odds, 11)).prices] == [3]


async def test_silence_while_the_service_was_away_suspends(start_odds: Any, make_prices: Any, eventually: Any) -> None:
    """Prices that were loaded after a long absence are not bettable until their producer has sent a snapshot."""
    async with start_odds() as first:
        await first.publish(make_prices(11), snapshot=True)
        first.clock.time_us += 21 * SECOND_US
    async with start_odds() as second:
        await eventually(lambda: second.prices(11), lambda quote: quote.status == SUSPENDED)


async def test_a_later_life_of_an_instance_counts(start_odds: Any, make_prices: Any) -> None:
    """Started under the same name it takes over at once; the earlier life can write nothing any more and says so."""
    async with start_odds() as first:
        await first.publish(make_prices(11), snapshot=True)
        async with start_odds() as second:
            with pytest.raises(ServiceError) as caught:
                await first.publish(make_prices(11, 95))
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_ACTIVE")
            await second.publish(make_prices(11, 97), snapshot=True)
            assert (await second.prices(11)).version == 2
            with pytest.raises(ServiceError, match="NOT_ACTIVE"):
                await first.prices(11)


async def test_a_standby_takes_over_from_the_dead(
    start_odds: Any, make_prices: Any, database: Any, eventually: Any
) -> None:
    """Once the life that took over is gone, the one that stood by is active again, with its prices."""
    async with start_odds(takeover_after="6") as first:
        async with start_odds() as second:
            await second.publish(make_prices(11), snapshot=True)
            with pytest.raises(ServiceError, match="NOT_ACTIVE"):
                await first.publish(make_prices(11, 95))

        async def price() -> Any:
            try:
                return await first.prices(11)
            except ServiceError as error:
                return error

        quote = await eventually(price, lambda answer: not isinstance(answer, ServiceError))
        assert (quote.version, quote.prices[0].price.numerator) == (1, 91)


async def test_who_learns_in_the_middle_of_a_publication_that_another_took_over_says_so(
    start_odds: Any, make_prices: Any, database: Any, eventually: Any
) -> None:
    """Its beat finds out while the publication waits for the database: call again, not an internal error."""
    async with start_odds(takeover_after="60") as first, start_odds() as second:
        await second.publish(make_prices(11), snapshot=True)
        holder = await asyncpg.connect(database.dsn)
        async with holder.transaction():
            await holder.execute("LOCK TABLE odds.current IN ACCESS EXCLUSIVE MODE")
            failing = asyncio.ensure_future(_failure(first.publish(make_prices(77))))

            async def standing_by() -> Any:
                return await _failure(first.ask("ListProducers", odds_pb2.ListProducersRequest()))

            await eventually(standing_by, lambda failure: failure is not None and failure.reason == "NOT_ACTIVE")
        await holder.close()
        failure = await failing
        assert failure is not None
        assert failure.reason == "NOT_ACTIVE"


async def test_a_lost_database_loses_no_version(start_odds: Any, make_prices: Any, database: Any) -> None:
    """Connections cut in mid-air: the call fails or succeeds, and the history has each version once, without a hole."""
    async with start_odds() as odds:
        await odds.publish(make_prices(11), snapshot=True)
        admin = await asyncpg.connect(database.dsn)
        for price in range(100, 120):
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
            for _ in range(3):
                failure = await _failure(odds.publish(make_prices(11, price)))
                if failure is None:
                    break
                assert failure.code is grpc.StatusCode.UNAVAILABLE
        await admin.close()
        await odds.publish(make_prices(11, 200), snapshot=True)
        history = (await _history(odds, 11)).prices
        assert [quote.version for quote in history] == list(range(len(history), 0, -1))
        assert (await odds.prices(11)) == history[0]
        assert history[0].prices[0].price.numerator == 200


async def test_history_pages(odds: Any, make_prices: Any) -> None:
    """Newest first, in pages that do not overlap; a token of another market is refused."""
    for price in range(91, 96):
        await odds.publish(make_prices(11, price), snapshot=True)
    first = await _history(odds, 11, page_size=2)
    second = await _history(odds, 11, page_size=2, page_token=first.next_page_token)
    third = await _history(odds, 11, page_size=2, page_token=second.next_page_token)
    versions = [[quote.version for quote in page.prices] for page in (first, second, third)]
    assert versions == [[5, 4], [3, 2], [1]]
    assert third.next_page_token == ""
    with pytest.raises(ServiceError, match="PAGE_TOKEN_INVALID"):
        await _history(odds, 12, page_token=first.next_page_token)


async def test_bulk_leaves_out_what_is_not_there(odds: Any, make_prices: Any) -> None:
    """Known markets come in the order asked for, once each."""
    await odds.publish(make_prices(11), make_prices(12), snapshot=True)
    request = odds_pb2.BulkGetPricesRequest(market_ids=[12, 404, 11, 12])
    found = await odds.ask("BulkGetPrices", request)
    assert [quote.market_id for quote in found.prices] == [12, 11]


async def test_only_services_publish(odds: Any, make_prices: Any) -> None:
    """Without a token nobody publishes, and nothing is left of the attempt."""
    with pytest.raises(ServiceError) as caught:
        await odds.publish(make_prices(11), token=b"")
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert await _producers(odds) == {}


async def test_other_peoples_markets_are_refused(odds: Any, make_prices: Any) -> None:
    """A market stays with its producer and its event; a call that says otherwise changes nothing at all."""
    await odds.publish(make_prices(11), snapshot=True)
    with pytest.raises(ServiceError, match="MARKET_OF_OTHER_PRODUCER"):
        await odds.publish(make_prices(21), make_prices(11, 95), producer="other")
    with pytest.raises(ServiceError, match="MARKET_OF_OTHER_EVENT"):
        await odds.publish(make_prices(31), make_prices(11, event_id=99))
    assert (await odds.prices(11)).version == 1
    bulk = await odds.ask("BulkGetPrices", odds_pb2.BulkGetPricesRequest(market_ids=[21, 31]))
    assert not bulk.prices


def _bad_offers() -> list[tuple[str, dict[str, Any]]]:
    def price(selection_id: int, numerator: int, denominator: int) -> odds_pb2.SelectionPrice:
        message = odds_pb2.SelectionPrice(selection_id=selection_id)
        message.price.numerator, message.price.denominator = numerator, denominator
        return message

    return [
        ("ID_INVALID", {"market_id": -1}),
        ("ID_INVALID", {"event_id": -1}),
        ("STATUS_INVALID", {"status": 0}),
        ("STATUS_INVALID", {"status": 9}),
        ("CLOSING_TIME_INVALID", {"closes_at_us": 0}),
        ("CLOSING_TIME_INVALID", {"closes_at_us": 2**62}),
        ("PRICES_MISSING", {"prices": []}),
        ("PRICE_INVALID", {"prices": [price(1, 0, 1)]}),
        ("PRICE_INVALID", {"prices": [price(1, 1, 1_000_001)]}),
        ("PRICE_INVALID", {"prices": [odds_pb2.SelectionPrice(selection_id=1)]}),
        ("SELECTION_ID_INVALID", {"prices": [price(0, 1, 1)]}),
        ("SELECTION_ID_INVALID", {"prices": [price(40_000, 1, 1)]}),
        ("SELECTION_REPEATED", {"prices": [price(1, 1, 1), price(1, 2, 1)]}),
        ("TOO_MANY_SELECTIONS", {"prices": [price(number, 1, 1) for number in range(1, 102)]}),
    ]


@pytest.mark.parametrize(("reason", "fields"), _bad_offers())
async def test_bad_offers_name_the_place(odds: Any, make_prices: Any, reason: str, fields: dict[str, Any]) -> None:
    """Every malformed offer is INVALID_ARGUMENT with its reason and index, and the good one beside it is not taken."""
    with pytest.raises(ServiceError) as caught:
        await odds.publish(make_prices(21), make_prices(**fields), snapshot=True)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert "changes[1]" in caught.value.message
    assert await _producers(odds) == {}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("PRODUCER_ID_INVALID", {"producer_id": ""}),
        ("PRODUCER_ID_INVALID", {"producer_id": "Not This"}),
        ("PRODUCER_ID_INVALID", {"producer_id": "x" * 65}),
        ("PRODUCER_NAME_INVALID", {"producer_name": ""}),
        ("PRODUCER_NAME_INVALID", {"producer_name": "a\nb"}),
        ("MARKET_REPEATED", {}),
    ],
)
async def test_bad_publications(odds: Any, make_prices: Any, reason: str, fields: dict[str, Any]) -> None:
    """Producers have proper names, and a market stands once in a call."""
    changes = [make_prices(11), make_prices(11)] if not fields else []
    defaults = {"producer_id": "feed", "producer_name": "A feed", "changes": changes}
    with pytest.raises(ServiceError) as caught:
        await odds.publish_raw(feed_pb2.PublishPricesRequest(**(defaults | fields)))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("GetPrices", odds_pb2.GetPricesRequest(market_id=0), "INVALID_ARGUMENT", "MARKET_ID_INVALID"),
        ("GetPrices", odds_pb2.GetPricesRequest(market_id=404), "NOT_FOUND", "MARKET_NOT_FOUND"),
        ("BulkGetPrices", odds_pb2.BulkGetPricesRequest(), "INVALID_ARGUMENT", "MARKET_IDS_COUNT"),
        (
            "BulkGetPrices",
            odds_pb2.BulkGetPricesRequest(market_ids=range(1, 502)),
            "INVALID_ARGUMENT",
            "MARKET_IDS_COUNT",
        ),
        ("BulkGetPrices", odds_pb2.BulkGetPricesRequest(market_ids=[1, -1]), "INVALID_ARGUMENT", "MARKET_ID_INVALID"),
        ("ListPriceHistory", odds_pb2.ListPriceHistoryRequest(), "INVALID_ARGUMENT", "MARKET_ID_INVALID"),
        ("ListPriceHistory", odds_pb2.ListPriceHistoryRequest(market_id=404), "NOT_FOUND", "MARKET_NOT_FOUND"),
        (
            "ListPriceHistory",
            odds_pb2.ListPriceHistoryRequest(market_id=1, page_size=501),
            "INVALID_ARGUMENT",
            "PAGE_SIZE_OUT_OF_RANGE",
        ),
        (
            "ListPriceHistory",
            odds_pb2.ListPriceHistoryRequest(market_id=1, page_token="?"),
            "INVALID_ARGUMENT",
            "PAGE_TOKEN_INVALID",
        ),
    ],
)
async def test_bad_reads(odds: Any, method: str, request_: Any, code: str, reason: str) -> None:
    """What cannot be meant is INVALID_ARGUMENT with a reason, what is not there NOT_FOUND."""
    with pytest.raises(ServiceError) as caught:
        await odds.ask(method, request_)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode[code], reason)


async def _failure(call: Awaitable[Any]) -> ServiceError | None:
    try:
        await call
    except ServiceError as error:
        return error
    return None


async def _snapshot(odds: Any) -> Any:
    async with aclosing(odds.watch()) as stream:
        return (await anext(stream)).snapshot


async def _history(odds: Any, market_id: int, **fields: Any) -> Any:
    return await odds.ask("ListPriceHistory", odds_pb2.ListPriceHistoryRequest(market_id=market_id, **fields))


async def _producers(odds: Any) -> dict[str, int]:
    found = await odds.ask("ListProducers", odds_pb2.ListProducersRequest())
    return {producer.producer_id: producer.status for producer in found.producers}
