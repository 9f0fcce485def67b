"""Puts the feed of The Odds API together, and runs it while this process is the active one of its kind: one loop each
for questions, matches, settlements and prices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from betting.feeds import peers
from betting.feeds.the_odds_api import book as books
from betting.feeds.the_odds_api.client import Client
from betting.feeds.the_odds_api.fixture_lifecycle import FixtureLifecycle
from betting.feeds.the_odds_api.fixtures import PROVIDER
from betting.feeds.the_odds_api.poller import Poller
from betting.feeds.the_odds_api.publisher import Publisher
from betting.feeds.the_odds_api.settings import OddsApiSettings
from betting.runtime import metrics
from betting.runtime.election import Election, Lease
from betting.runtime.loops import forever
from betting.runtime.service import Composition, ServiceContext

PRODUCER = peers.Producer(PROVIDER, "The Odds API")
# Pulses may be late by as much as their interval before the source counts as away.
_OUTAGE_PULSES = 2
_RETRY_S = 0.2
_RETRY_MAX_S = 2.0
_ASK_PAUSE_MIN_S = 0.01
_ASK_PAUSE_MAX_S = 1.0
_US = timedelta(microseconds=1)


class Feed:
    """The loops. They do not end while a service or the source does not answer."""

    def __init__(self, context: ServiceContext[OddsApiSettings], client: Client, election: Election) -> None:
        self._context = context
        self._settings = context.settings
        self._client = client
        self._election = election
        self._peers = peers.of_context(context, election, PRODUCER)
        self._begin()

    async def feed(self) -> None:
        """Feeds while this process is active. It starts from the catalogue: another process may have fed before."""
        self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._for_ever("matches not advanced", self._lifecycle.move_on))
            group.create_task(self._ask_for_ever())
            group.create_task(self._for_ever("prices not published", self._publisher.publish))
            group.create_task(self._for_ever("matches not settled", self._lifecycle.settle))
            group.create_task(self._remind_for_ever())

    def overdue(self) -> int:
        """The number of matches whose result an operator has to enter."""
        return len(self._book.overdue(self._context.clock.now_us()))

    def _begin(self) -> None:
        """Starts with an empty book."""
        settings, clock, log = self._settings, self._context.clock, self._context.log
        self._book = books.of_sports(settings.sports(), _OUTAGE_PULSES * (settings.odds_api_pulse // _US))
        self._poller = Poller(self._client, self._book, settings.pace(), settings.rules(), clock, log)
        self._publisher = Publisher(self._book, self._peers, clock, settings.odds_api_max_age // _US)
        refused_us = settings.odds_api_retry_refused // _US
        self._lifecycle = FixtureLifecycle(self._book, self._peers, self._publisher, clock, log, refused_us)

    async def _ask_for_ever(self) -> None:
        """Asks the source, once it is known what was offered before."""
        await self._lifecycle.loaded.wait()
        while True:
            pause_s = _ASK_PAUSE_MAX_S
            if self._election.is_active:  # a question may cost credits: only one process asks
                await self._poller.ask()
                pause_s = min(_ASK_PAUSE_MAX_S, max(_ASK_PAUSE_MIN_S, self._poller.pause_s()))
            await asyncio.sleep(pause_s)

    async def _remind_for_ever(self) -> None:
        """Logs the matches whose results the source no longer has, at an interval."""
        every_s, log = self._settings.odds_api_remind.total_seconds(), self._context.log
        await forever(self._remind, every_s=every_s, first_after_s=every_s, log=log, event="reminder failed")

    async def _remind(self) -> None:
        for fixture in self._book.overdue(self._context.clock.now_us()):
            await self._lifecycle.revisit(fixture)
        for fixture in self._book.overdue(self._context.clock.now_us()):
            self._context.log.error(
                "no result will come: settle its event or void its markets",
                event_id=fixture.event_id,
                match=f"{fixture.home} v {fixture.away}",
            )

    async def _for_ever(self, event: str, act: Callable[[], Awaitable[int]]) -> None:
        tick_s = self._settings.odds_api_tick.total_seconds()
        retry_s, most_s = max(tick_s, _RETRY_S), tick_s + _RETRY_MAX_S
        log = self._context.log
        step = partial(self._election.act, act)
        await forever(step, every_s=tick_s, retry_s=retry_s, retry_max_s=most_s, log=log, event=event)


async def compose(context: ServiceContext[OddsApiSettings]) -> Composition:
    """A process without gRPC services of its own: health and diagnostics only. Of several one feeds."""
    client = Client(context.settings.question(), context.clock)
    lease = Lease(await context.postgres(max_size=2), PRODUCER.id, str(context.life))
    election = Election(lease, context.log)
    feed = Feed(context, client, election)
    _measure(client, feed)
    await election.look()
    return Composition(
        [],
        background=[lambda: election.run_for_ever(feed.feed)],
        on_drain=[election.resign],
        on_close=[client.close],
        activity=election.activity,
        able=election.able,
    )


def _measure(client: Client, feed: Feed) -> None:
    credits_left = metrics.gauge("betting_odds_api_remaining_credits", "Credits left this month; -1 if unknown")
    credits_left.set_function(lambda: float(-1 if client.quota.remaining is None else client.quota.remaining))
    overdue = metrics.gauge("betting_odds_api_overdue_results", "Matches whose result an operator has to enter")
    overdue.set_function(lambda: float(feed.overdue()))
