"""Nobody was there for a while, prices and bets are no longer followed: and at that very moment somebody subscribes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import in_process
import pytest
from owner_calls import SHARDS, Bettor, Owners, user_in
from platform_fixtures import bet_service, odds, owners

from betting.gateway.live import bets
from betting.gateway.live import odds as live_odds
from betting.gateway.live.bets import LiveBets
from betting.gateway.live.odds import LiveOdds
from betting.journal import connection

__all__ = ["bet_service", "odds", "owners"]

HOME_WON = {1: 5, 2: 1, 3: 1}


class Writer:
    """A way out that keeps what was written."""

    is_full = False
    is_overfull = False

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.changed = asyncio.Event()

    def write(self, message: Any) -> None:
        self.texts.append(message.text)
        self.changed.set()

    async def until(self, wanted: str) -> None:
        async with asyncio.timeout(20):
            while not any(wanted in each for each in self.texts):
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(part: Any) -> Any:
    """Its background task."""
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def at_the_end(monkeypatch: pytest.MonkeyPatch, module: Any) -> asyncio.Event:
    """Set in the moment when what was followed is cancelled: whoever waits for it runs before that is over."""
    ending, wait = asyncio.Event(), asyncio.wait

    async def noticed(tasks: Any, **options: Any) -> Any:
        if not options:
            ending.set()
            await asyncio.sleep(0.2)
        return await wait(tasks, **options)

    monkeypatch.setattr(module.asyncio, "wait", noticed)
    return ending


async def test_whoever_follows_a_bet_as_the_streams_are_left_misses_nothing(
    bet_service: Any, owners: Owners, database: Any, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed afterwards is told."""
    bettor = Bettor(user_in(1))
    settings = in_process.settings(postgres_dsn=database.dsn, redis_url=valkey.url, shard_count=SHARDS)
    async with bet_service(), in_process.service_context(settings) as context:
        await owners.all_served()
        await owners.one(1, bettor.deposit(1_000))
        bet = (await owners.one(1, bettor.bet(100))).placed.bet_id
        pool, redis = await context.postgres(init=connection.prepare), await context.redis()
        live = LiveBets(redis, pool, SHARDS, lambda _sid: None)
        ending = at_the_end(monkeypatch, bets)
        async with running(live):
            first: Any = Writer()
            await live.follow("one", first, 1, bet, 0)
            monkeypatch.setattr(bets, "IDLE_S", 0.0)
            live.leave("one", bet)
            async with asyncio.timeout(20):
                await ending.wait()
            monkeypatch.setattr(bets, "IDLE_S", 30.0)
            second: Any = Writer()
            await live.follow("two", second, 1, bet, 0)
            await owners.settle_shard(1, 1, 1, HOME_WON)
            await second.until("bet:settled")


async def test_whoever_watches_prices_as_the_watch_ends_gets_them(odds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is fed by the next watch, and does not grow stale."""
    async with in_process.calling(odds, "odds-service") as target:
        live = LiveOdds(target)
        ending = at_the_end(monkeypatch, live_odds)
        async with running(live):
            async with asyncio.timeout(20):
                while not await live.knows(1):  # noqa: ASYNC110 - the feed's first prices are on their way
                    await asyncio.sleep(0.05)
                monkeypatch.setattr(live_odds, "IDLE_S", 0.0)
                await ending.wait()
                monkeypatch.setattr(live_odds, "IDLE_S", 30.0)
                while not await live.knows(1):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            watcher: Any = Writer()
            live.join("two", watcher, 1)
            await asyncio.sleep(0)
            beat_s = live._beat_s
            async with asyncio.timeout(20):
                while live._beat_s == beat_s:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
