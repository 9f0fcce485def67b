"""What The Odds API is asked, how often, and what becomes of it when the credits run short."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

from odds_api_server import KEY, score
from odds_api_world import (
    EPL,
    HOUR_US,
    OPEN,
    SUSPENDED,
    Eventually,
    World,
    asked,
    asked_total,
    settled,
)

from betting.feeds.the_odds_api.quota import month_end_us
from betting.runtime.clock import US_PER_S
from betting.v1 import odds_pb2


async def test_what_is_asked_is_what_the_settings_say(world: World, eventually: Eventually) -> None:
    """The questions carry key, regions, markets and formats; the pulse nothing but the key."""
    async with world.all_services(), world.feed(odds_api_regions="uk, eu", odds_api_markets="h2h,totals"):
        await eventually(world.quotes, lambda found: len(found) == 3)
        # Two regions times two markets, as the source counts.
        assert world.source.used % 4 == 0
        odds = next(query for path, query in world.source.queries if path == f"/v4/sports/{EPL}/odds")
        assert odds == {
            "apiKey": KEY,
            "regions": "uk,eu",
            "markets": "h2h,totals",
            "oddsFormat": "decimal",
            "dateFormat": "iso",
        }
        await eventually(asked(world, "sports"), lambda count: count > 0)
        pulse = next(query for path, query in world.source.queries if path == "/v4/sports")
        assert pulse == {"apiKey": KEY}


async def test_the_last_credits_are_for_results(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """Prices stop at the reserve and are suspended when old; the result is paid for from it; and all this is said."""
    [raw] = world.source.events[EPL]
    world.source.remaining = 25
    settings = {"odds_api_reserve": 20, "odds_api_max_age": "2"}
    async with world.all_services(), world.feed(**settings):
        await eventually(world.statuses, lambda found: found == {OPEN})
        await eventually(world.statuses, lambda found: found == {SUSPENDED})
        assert (world.source.remaining, world.source.asked["odds"]) == (22, 1)
        producer = await world.producer()
        assert producer is not None
        assert producer.status == odds_pb2.PRODUCER_STATUS_ALIVE
        world.source.scores[EPL] = [score(raw, 2, 2)]
        world.clock.ahead_us += 4 * HOUR_US
        await eventually(settled(world), lambda count: count == 1)
        assert world.source.remaining == 20
    mode = lines[-1]
    assert "the rest is for results" in mode["mode"]
    assert mode["credits_left"] == 22


async def test_spent_credits_stop_what_costs_and_a_new_month_begins(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """Used up elsewhere: the source says so, nothing paid is asked again until it says that there are credits."""
    async with world.all_services(), world.feed(odds_api_max_age="2"):
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.fail("401_out_of_usage_credits", "odds", "scores")
        world.source.remaining = 0
        await eventually(world.statuses, lambda found: found == {SUSPENDED})
        paid = world.source.asked["odds"]
        before = world.source.asked["sports"]
        await eventually(asked(world, "sports"), lambda count: count > before + 2)
        assert world.source.asked["odds"] == paid
        world.source.fail("")
        world.source.remaining = 1_000_000_000
        await eventually(world.statuses, lambda found: found == {OPEN})
    assert any("nor for results" in line.get("mode", "") for line in lines)


async def test_credits_that_run_short_are_stretched(
    world: World, eventually: Eventually, lines: list[dict[str, Any]]
) -> None:
    """Asked far less often than wanted, and the log says how often: ten credits above the reserve, three a question,
    last for three questions until the end of the month, which may be near."""
    world.source.remaining = 60
    async with world.all_services(), world.feed():
        now_us = world.clock.now_us()
        await eventually(asked(world, "sports"), lambda count: count >= 5)
        assert world.source.asked["odds"] == 1
        assert await world.statuses() == {OPEN}
    [line] = lines
    assert "slower" in line["mode"]
    assert line["every_s"] > (month_end_us(now_us) - now_us) / US_PER_S / 4


async def test_too_many_questions_are_answered_with_patience(world: World, eventually: Eventually) -> None:
    """What the source wants is waited for, by every kind of question."""
    async with world.all_services(), world.feed():
        await eventually(world.statuses, lambda found: found == {OPEN})
        world.source.retry_after = "3"
        before = world.source.asked.total()
        world.source.fail("429_exceeded_freq_limit")
        await eventually(asked_total(world), lambda count: count > before)
        world.source.fail("")
        refused_at_s, before = time.monotonic(), world.source.asked.total()
        await eventually(asked_total(world), lambda count: count > before)
        assert time.monotonic() - refused_at_s > 2.8


async def test_of_two_feeds_one_asks(world: World, eventually: Eventually) -> None:
    """Questions cost credits: the second asks nothing while the first is active, and goes on when it stops."""

    async def regions() -> list[str]:
        return [query["regions"] for path, query in world.source.queries if path.endswith("/odds")]

    async with world.all_services(), AsyncExitStack() as outer:
        async with world.feed(instance="a", odds_api_regions="uk"):
            await eventually(world.statuses, lambda found: found == {OPEN})
            await outer.enter_async_context(world.feed(instance="b", odds_api_regions="eu"))
            before = len(await regions())
            await eventually(regions, lambda found: len(found) > before + 3)
            assert set(await regions()) == {"uk"}
        before = len(await regions())
        await eventually(regions, lambda found: len(found) > before + 1)
        assert set((await regions())[before:]) == {"eu"}
        await eventually(world.statuses, lambda found: found == {OPEN})
