"""The Odds API away, refusing, broken, and services that come late: what is suspended, and what reopens it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from odds_api_server import KEY, match
from odds_api_world import (
    EPL,
    ID_1,
    OPEN,
    SUSPENDED,
    Eventually,
    S,
    World,
    asked,
    asked_total,
    fractions,
)

from betting.feeds.the_odds_api.publisher import SAYABLE_US
from betting.v1 import odds_pb2

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", ["500", "cut", "slow", "garbage", "object", "truncated", "429_exceeded_freq_limit"])
async def test_an_outage_suspends_and_only_a_fresh_snapshot_reopens(
    world: World, eventually: Eventually, fault: str
) -> None:
    """However the source fails: suspended after the silence, also while it answers but gives no prices; then open."""
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.fail(fault)
        await _see_outage(world, eventually)
        await _see_recovery(world, eventually)


async def test_a_source_that_nobody_reaches_is_an_outage_too(world: World, eventually: Eventually) -> None:
    """Connections are refused, later they are not."""
    async with world.events(), world.odds(), world.settling(), world.feed():
        async with world.source.running(world.source_port):
            await eventually(world.statuses, lambda found: found == {OPEN})
        await _see_outage(world, eventually)
        async with world.source.running(world.source_port):
            await _see_recovery(world, eventually)


async def test_a_refused_key_ends_the_questions(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """One line says what to do, nothing more is asked, the markets are suspended, the process lives on."""
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.fail("401_invalid_key")
        await _see_outage(world, eventually)
        asked = world.source.asked.total()
        world.source.fail("")
        # A feed that would still ask does so every 0.3 s.
        began_s = time.monotonic()
        await eventually(_elapsed_s(began_s), lambda passed_s: passed_s > 1.0)
        assert world.source.asked.total() == asked
        assert await world.statuses() == {SUSPENDED}
    [line] = lines
    assert (line["code"], "BETTING_ODDS_API_KEY" in line["message"]) == ("INVALID_KEY", True)
    assert KEY not in str(lines)


async def test_a_wrong_key_from_the_start_offers_nothing(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """Nothing is published, not even a sign of life."""
    async with world.all_services(), world.feed(odds_api_key="abc"):
        await eventually(asked_total(world), lambda count: count == 1)
        began_s = time.monotonic()
        await eventually(_elapsed_s(began_s), lambda passed_s: passed_s > 0.7)
        assert world.source.asked.total() == 1
        assert await world.producer() is None
    assert [line["code"] for line in lines] == ["INVALID_KEY"]


async def test_a_refused_sport_does_not_hold_up_the_others(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """An unknown sport is put aside with one line; the other is offered."""
    world.source.unknown = frozenset({"soccer_atlantis"})
    async with world.all_services(), world.feed(odds_api_sports=f"soccer_atlantis,{EPL}"):
        await eventually(world.statuses, lambda found: found == {OPEN})
        before = world.source.asked["odds"]
        await eventually(asked(world, "odds"), lambda count: count > before + 2)
    assert [line["sport"] for line in lines if line.get("code") == "UNKNOWN_SPORT"] == ["soccer_atlantis"]
    assert [path for path, _ in world.source.queries].count("/v4/sports/soccer_atlantis/odds") == 1


async def test_old_answers_are_not_brought_to_a_late_odds_service(world: World, eventually: Eventually) -> None:
    """What was heard before the source fell silent is no sign of life any more when odds-service comes."""
    async with world.events(), world.settling(), world.source.running(world.source_port), world.feed():
        await eventually(world.event, lambda found: found is not None)
        world.source.fail("500")
        began_s = time.monotonic()
        await eventually(_elapsed_s(began_s), lambda passed_s: passed_s > SAYABLE_US / S + 0.2)
        async with world.odds():
            began_s = time.monotonic()
            # Its own breaker lets the feed through within this time: see the test of services that come late.
            await eventually(_elapsed_s(began_s), lambda passed_s: passed_s > 3.0)
            assert await world.producer() is None
            world.source.fail("")
            await eventually(world.statuses, lambda found: found == {OPEN})


async def test_services_may_come_late_and_go(world: World, eventually: Eventually, news: list[str]) -> None:
    """Nothing is asked before the catalogue is known; a restarted odds-service gets its snapshot at no cost."""
    unhurried = {"odds_api_poll": "3600", "odds_api_timeout": "8"}
    async with world.settling(), world.source.running(world.source_port), world.feed(**unhurried):
        began_s = time.monotonic()
        await eventually(_elapsed_s(began_s), lambda passed_s: passed_s > 0.5)
        assert world.source.asked.total() == 0
        async with world.events():
            await eventually(world.event, lambda found: found is not None)
            for _ in range(2):
                async with world.odds():
                    await eventually(world.statuses, lambda found: found == {OPEN})
            # At most once each time the source was heard anew: a busy machine holds the feed up for over two pulses.
            assert 1 <= world.source.asked["odds"] <= news.count("source available")


def _elapsed_s(since_s: float) -> Callable[[], Awaitable[float]]:
    async def passed_s() -> float:
        return time.monotonic() - since_s

    return passed_s


async def _see_outage(world: World, eventually: Eventually) -> None:
    quotes = await eventually(world.quotes, lambda found: {each.status for each in found.values()} == {SUSPENDED})
    assert {quote.stale for quote in quotes.values()} == {True}
    producer = await world.producer()
    assert producer is not None
    assert producer.status == odds_pb2.PRODUCER_STATUS_SILENT


async def _see_recovery(world: World, eventually: Eventually) -> None:
    world.source.fail("500", "odds")
    await eventually(world.producer, lambda found: found.status == odds_pb2.PRODUCER_STATUS_RECOVERING)
    before = world.source.asked["sports"]
    await eventually(asked(world, "sports"), lambda count: count > before + 2)
    assert await world.statuses() == {SUSPENDED}
    world.source.events[EPL] = [match(ID_1, (await world.event()).starts_at_us, prices=(2.5, 3.5, 3.1))]
    world.source.fail("")
    await eventually(world.statuses, lambda found: found == {OPEN})
    history = [(quote.status, fractions(quote)[0]) for quote in await world.history()]
    # Never open at the price from before the outage.
    assert history == [(OPEN, (91, 100)), (SUSPENDED, (91, 100)), (OPEN, (3, 2))]
