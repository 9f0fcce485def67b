"""Puts the feed of The Odds API together, and runs it: one loop each for questions, matches, settlements and prices."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from betting.feeds import peers
from betting.feeds.the_odds_api import book as books
from betting.feeds.the_odds_api.asker import Asker
from betting.feeds.the_odds_api.book import Book
from betting.feeds.the_odds_api.client import Client
from betting.feeds.the_odds_api.conductor import Conductor
from betting.feeds.the_odds_api.publisher import Publisher
from betting.feeds.the_odds_api.settings import OddsApiSettings
from betting.runtime import metrics, retry
from betting.runtime.errors import ServiceError
from betting.runtime.service import Composition, ServiceContext

# Pulses may be late by as much as their interval before the source counts as away.
_OUTAGE_PULSES = 2
_BACKOFF_BASE_S = 0.2
_BACKOFF_CAP_S = 2.0
_FAILURES_COUNTED = 8
_ASK_PAUSE_MIN_S = 0.01
_ASK_PAUSE_MAX_S = 1.0
_US = timedelta(microseconds=1)


class Feed:
    """The loops. None of them ends for a service, or a source, that is away."""

    def __init__(self, context: ServiceContext[OddsApiSettings], client: Client, book: Book) -> None:
        settings = context.settings
        self._context = context
        self._book = book
        self._tick_s = settings.odds_api_tick.total_seconds()
        self._remind_s = settings.odds_api_remind.total_seconds()
        services = peers.of_context(context)
        clock, log = context.clock, context.log
        self._asker = Asker(client, book, settings.pace(), settings.rules(), clock, log)
        self._publisher = Publisher(book, services, clock, settings.odds_api_max_age // _US)
        refused_us = settings.odds_api_retry_refused // _US
        self._conductor = Conductor(book, services, self._publisher, clock, log, refused_us)

    async def ask_for_ever(self) -> None:
        """Asks the source, once it is known what was offered before."""
        await self._conductor.loaded.wait()
        while True:
            await self._asker.ask()
            await asyncio.sleep(min(_ASK_PAUSE_MAX_S, max(_ASK_PAUSE_MIN_S, self._asker.pause_s())))

    async def move_for_ever(self) -> None:
        """Lists, starts and finishes matches."""
        await self._for_ever("moving on", self._conductor.move_on)

    async def settle_for_ever(self) -> None:
        """Has finished matches settled."""
        await self._for_ever("settling", self._conductor.settle)

    async def publish_for_ever(self) -> None:
        """Publishes prices."""
        await self._for_ever("publishing", self._publisher.publish)

    async def remind_for_ever(self) -> None:
        """Says which matches need a person: the source has forgotten their results."""
        while True:
            await asyncio.sleep(self._remind_s)
            try:
                await self._remind()
            except ServiceError as error:
                self._context.log.warning("reminding failed", reason=error.reason, message=error.message)

    async def _remind(self) -> None:
        for fixture in self._book.overdue(self._context.clock.now_us()):
            await self._conductor.revisit(fixture)
        for fixture in self._book.overdue(self._context.clock.now_us()):
            self._context.log.error(
                "no result will come: settle its event or void its markets",
                event_id=fixture.event_id,
                match=f"{fixture.home} v {fixture.away}",
            )

    async def _for_ever(self, what: str, act: Callable[[], Awaitable[int]]) -> None:
        failures = 0
        while True:
            try:
                await act()
                failures, pause_s = 0, self._tick_s
            except ServiceError as error:
                failures = min(failures + 1, _FAILURES_COUNTED)
                pause_s = self._tick_s + retry.backoff_s(
                    failures, random.random(), base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S
                )
                self._context.log.warning(f"{what} failed", reason=error.reason, message=error.message)
            await asyncio.sleep(pause_s)


async def compose(context: ServiceContext[OddsApiSettings]) -> Composition:
    """A process without gRPC services of its own: health and diagnostics only."""
    settings = context.settings
    client = Client(settings.question(), context.clock)
    book = books.of_sports(settings.sports(), _OUTAGE_PULSES * (settings.odds_api_pulse // _US))
    feed = Feed(context, client, book)
    _measure(client, book, context)
    return Composition(
        [],
        background=[
            feed.move_for_ever,
            feed.ask_for_ever,
            feed.publish_for_ever,
            feed.settle_for_ever,
            feed.remind_for_ever,
        ],
        on_close=[client.close],
    )


def _measure(client: Client, book: Book, context: ServiceContext[OddsApiSettings]) -> None:
    credits_left = metrics.gauge("betting_odds_api_remaining_credits", "Credits left this month; -1: not said")
    credits_left.set_function(lambda: float(-1 if client.quota.remaining is None else client.quota.remaining))
    overdue = metrics.gauge("betting_odds_api_overdue_results", "Matches whose result a person has to give")
    overdue.set_function(lambda: float(len(book.overdue(context.clock.now_us()))))
