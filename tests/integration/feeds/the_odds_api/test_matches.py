"""Matches of The Odds API, from the first answer to the settlement, and what a source may do to them meanwhile."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from odds_api_server import iso, match, score, seen
from odds_api_world import (
    CLOSED,
    EPL,
    HANDICAP,
    HOUR_US,
    ID_1,
    ID_2,
    OPEN,
    RESULT,
    RESULTED,
    SUSPENDED,
    TOTAL,
    Eventually,
    S,
    World,
    asked,
    fractions,
    settled,
)

from betting.feeds.the_odds_api import fixtures
from betting.v1 import event_pb2


async def test_a_match_is_listed_priced_closed_and_settled(world: World, eventually: Eventually) -> None:
    """From the first answer to the settlement: exact prices, one settlement with the score, everything resulted."""
    async with world.all_services(), world.feed():
        quotes = await eventually(world.quotes, lambda found: len(found) == 3)
        assert {quote.status for quote in quotes.values()} == {OPEN}
        assert fractions(quotes[RESULT, 0]) == [(91, 100), (5, 2), (16, 5)]
        assert fractions(quotes[HANDICAP, -2]) == [(19, 20), (19, 20)]
        event = await world.event()
        [raw] = world.source.events[EPL]
        assert (event.home, event.away, event.league_id) == ("Alpha City", "Beta United", EPL)
        assert {market.closes_at_us for market in event.markets} == {event.starts_at_us}
        names = [[each.name for each in market.selections] for market in event.markets]
        assert names[0] == ["Alpha City", "Draw", "Beta United"]
        assert names[2] == ["Alpha City −0.5", "Beta United +0.5"]

        world.source.events[EPL] = [match(ID_1, event.starts_at_us, prices=(2.5, 3.5, 3.1))]
        await eventually(world.quotes, lambda found: fractions(found[RESULT, 0])[0] == (3, 2))

        world.clock.ahead_us += 2 * HOUR_US + S
        await eventually(world.event, lambda found: found.status == event_pb2.EVENT_STATUS_STARTED)
        assert await world.statuses() == {CLOSED}
        assert world.source.asked["scores"] == 0

        world.source.events[EPL] = []
        world.source.scores[EPL] = [score(raw, 3, 1)]
        world.clock.ahead_us += 2 * HOUR_US
        await eventually(world.statuses, lambda found: found == {RESULTED})
        event = await world.event()
        assert (event.status, event.home_goals, event.away_goals) == (event_pb2.EVENT_STATUS_FINISHED, 3, 1)
        assert world.settlement.asked == {(event.event_id, 3, 1, 1): 1}
        statuses = [quote.status for quote in await world.history()]
        assert statuses == [OPEN, OPEN, CLOSED, RESULTED]


async def test_a_restarted_feed_goes_on(world: World, eventually: Eventually) -> None:
    """Same ids, nothing closed on the way, and the match that ended meanwhile is settled once; then nothing again."""
    [raw] = world.source.events[EPL]
    async with world.all_services():
        async with world.feed():
            await eventually(world.statuses, lambda found: found == {OPEN})
        async with world.feed():
            await eventually(asked(world, "odds"), lambda count, before=world.source.asked["odds"]: count > before + 1)
            await eventually(world.statuses, lambda found: found == {OPEN})
            assert CLOSED not in {quote.status for quote in await world.history()}
        world.source.events[EPL], world.source.scores[EPL] = [], [score(raw, 0, 0)]
        world.clock.ahead_us += 5 * HOUR_US
        for _ in range(2):
            async with world.feed():
                await eventually(world.event, lambda found: found.status == event_pb2.EVENT_STATUS_FINISHED)
                await eventually(settled(world), lambda count: count >= 1)
                before = world.source.asked["sports"]
                await eventually(asked(world, "sports"), lambda count, before=before: count > before + 1)
        assert set(world.settlement.asked) == {(fixtures.event_id(ID_1), 0, 0, 1)}


async def test_what_is_offered_no_more_is_suspended_until_it_comes_back(world: World, eventually: Eventually) -> None:
    """An event that vanishes, then a line that moves: suspended, not closed, and open again with the source."""
    [raw] = world.source.events[EPL]
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.events[EPL] = []
        await eventually(world.statuses, lambda found: found == {SUSPENDED})
        world.source.events[EPL] = [raw]
        await eventually(world.statuses, lambda found: found == {OPEN})
        moved = match(ID_1, (await world.event()).starts_at_us)
        for outcome, point in zip(moved["bookmakers"][0]["markets"][2]["outcomes"], (-0.75, 0.75), strict=True):
            outcome["point"] = point
        world.source.events[EPL] = [moved]
        expected = {(RESULT, 0): OPEN, (TOTAL, 10): OPEN, (HANDICAP, -3): OPEN, (HANDICAP, -2): SUSPENDED}
        await eventually(world.quotes, lambda found: {line: quote.status for line, quote in found.items()} == expected)
        assert len((await world.event()).markets) == 4


async def test_a_match_that_is_put_off_keeps_its_markets(world: World, eventually: Eventually) -> None:
    """Start and closing times move, in the catalogue and in the quotes, also those of lines no longer offered."""
    later_us = world.in_us(26)
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        postponed = match(ID_1, later_us)
        del postponed["bookmakers"][0]["markets"][2]
        world.source.events[EPL] = [postponed]
        event = await eventually(world.event, lambda found: found.starts_at_us == later_us)
        assert {market.closes_at_us for market in event.markets} == {later_us}
        quotes = await eventually(
            world.quotes, lambda found: {quote.closes_at_us for quote in found.values()} == {later_us}
        )
        assert [quotes[line].status for line in ((RESULT, 0), (HANDICAP, -2))] == [OPEN, SUSPENDED]


async def test_a_match_that_is_brought_forward_closes_earlier(world: World, eventually: Eventually) -> None:
    """Betting ends at the new time, even if that is already over."""
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.events[EPL] = [match(ID_1, world.in_us(-0.1))]
        await eventually(world.statuses, lambda found: found == {CLOSED})
        await eventually(world.event, lambda found: found.status == event_pb2.EVENT_STATUS_STARTED)


async def test_a_match_put_off_is_settled_once_by_what_was_played(world: World, eventually: Eventually) -> None:
    """Put off after its kick-off and called completed 0-0 at once: nothing is settled until it was played, then 3-1."""
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.clock.ahead_us += 2 * HOUR_US + S
        await eventually(world.event, lambda found: found.status == event_pb2.EVENT_STATUS_STARTED)
        put_off = match(ID_1, world.in_us(5))
        world.source.events[EPL] = [put_off]
        world.source.scores[EPL] = [score(put_off, 0, 0)]
        for hours in (2, 4, 6):
            world.clock.ahead_us += 2 * HOUR_US
            before = world.source.asked["sports"]
            await eventually(asked(world, "sports"), lambda count, before=before: count > before + 2)
            assert (await world.event()).status == event_pb2.EVENT_STATUS_STARTED, hours
        world.source.scores[EPL] = [score(put_off, 3, 1)]
        world.clock.ahead_us += 2 * HOUR_US
        await eventually(world.statuses, lambda found: found == {RESULTED})
        assert world.settlement.asked == {(fixtures.event_id(ID_1), 3, 1, 1): 1}


async def test_sides_told_the_other_way_round_change_no_selection(world: World, eventually: Eventually) -> None:
    """Selection 1 stays the side it was, with its own price; the result is turned back too."""
    start_us = world.in_us(2)
    turned = match(ID_1, start_us, home="Beta United", away="Alpha City", prices=(4.4, 3.5, 1.8))
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.events[EPL] = [turned]
        quotes = await eventually(world.quotes, lambda found: fractions(found[RESULT, 0])[0] == (4, 5))
        assert fractions(quotes[RESULT, 0]) == [(4, 5), (5, 2), (17, 5)]
        world.source.scores[EPL] = [score(turned, 0, 2)]
        world.clock.ahead_us += 4 * HOUR_US
        event = await eventually(world.event, lambda found: found.status == event_pb2.EVENT_STATUS_FINISHED)
        assert (event.home, event.home_goals, event.away_goals) == ("Alpha City", 2, 0)


async def test_one_bad_event_is_left_out_with_one_line(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """The other is offered; the line comes once, not with every answer."""
    bad = match(ID_2, world.in_us(3), commence_time="soon")
    half = match("half", world.in_us(3), home="Gamma", away="Delta")
    half["bookmakers"][0]["markets"][0]["outcomes"].pop()
    world.source.events[EPL] += [bad, half]
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        before = world.source.asked["odds"]
        await eventually(asked(world, "odds"), lambda count: count > before + 3)
        found = await eventually(lambda: world.quotes("half"), lambda found: len(found) == 2)
        assert (RESULT, 0) not in found
        assert await world.event(ID_2) is None
    assert sorted((line["what"], line["why"]) for line in lines) == [
        (f"event '{ID_2}'", "commence_time 'soon' is not a time such as 2026-08-15T14:00:00Z"),
        ("event 'half', h2h", "pinnacle: outcome 'Delta' is missing"),
    ]


async def test_old_prices_are_not_offered(world: World, eventually: Eventually) -> None:
    """A bookmaker that has stopped updating is suspended, however often the source repeats what it said."""
    world.source.stale = True
    world.source.events[EPL] = [seen(raw, iso(world.clock.now_us())) for raw in world.source.events[EPL]]
    async with world.all_services(), world.feed(odds_api_max_age="3"):
        await eventually(world.statuses, lambda found: found == {OPEN})
        await eventually(world.statuses, lambda found: found == {SUSPENDED})
        world.source.stale = False
        await eventually(world.statuses, lambda found: found == {OPEN})


async def test_what_only_a_person_can_decide_is_said_until_decided(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """A result the source has forgotten is said until an operator ends the event; nothing is paid to ask for it."""

    async def reminders() -> int:
        return sum("no result will come" in line["event"] for line in lines)

    async with world.all_services(), world.feed(odds_api_remind="0.1"):
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.events[EPL] = []
        world.clock.ahead_us += 80 * HOUR_US
        await eventually(reminders, lambda count: count >= 2)
        assert world.source.asked["scores"] == 0
        await world.abandon()
        await eventually(_fallen_quiet(lines), lambda quiet: quiet)
    assert await settled(world)() == 0


def _fallen_quiet(lines: list[dict[str, Any]]) -> Callable[[], Awaitable[bool]]:
    """Whether nothing was said for a while in which it would have been, several times."""
    seen = (-1, 0.0)

    async def quiet() -> bool:
        nonlocal seen
        if len(lines) != seen[0]:
            seen = (len(lines), time.monotonic())
        return time.monotonic() - seen[1] > 1.0

    return quiet
