"""Tells the catalogue and settlement what the book says: lists, starts, finishes, settles. Each may be repeated.

The catalogue is the feed's memory too: ids follow from the source's, so a restarted feed finds its events there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from structlog.typing import FilteringBoundLogger

from betting.feeds.peers import Peers, is_refusal
from betting.feeds.the_odds_api import fixtures, messages
from betting.feeds.the_odds_api.book import Book
from betting.feeds.the_odds_api.fixtures import Fixture, FixtureStep
from betting.feeds.the_odds_api.publisher import Publisher
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.clock import Clock
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, event_pb2_grpc, settlement_pb2, settlement_pb2_grpc

FIXTURES_PER_UPSERT = 50
PAGE_SIZE = 500
PAGES_MAX = 200
SETTLE_TIMEOUT_S = 10.0
FIRST_VERSION = 1

_ENDED = frozenset({event_pb2.EVENT_STATUS_FINISHED, event_pb2.EVENT_STATUS_ABANDONED})
_PAID = frozenset({event_pb2.MARKET_STATUS_RESULTED, event_pb2.MARKET_STATUS_VOID})


class FixtureLifecycle:
    """A service that is away ends a round early; one that refuses a fixture has it put aside."""

    def __init__(
        self,
        book: Book,
        peers: Peers,
        publisher: Publisher,
        clock: Clock,
        log: FilteringBoundLogger,
        retry_refused_us: int,
    ) -> None:
        self._book = book
        self._peers = peers
        self._publisher = publisher
        self._clock = clock
        self._log = log
        self._retry_refused_us = retry_refused_us
        self._events = peers.events.stub(event_pb2_grpc.EventServiceStub)
        self._catalogue = peers.events.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
        self._settlement = peers.settlement.stub(settlement_pb2_grpc.SettlementServiceStub)
        self._acts: dict[FixtureStep, Callable[[Fixture], Awaitable[None]]] = {
            FixtureStep.LIST: lambda fixture: self._list([fixture]),
            FixtureStep.START: self._start,
            FixtureStep.FINISH: self._finish,
            FixtureStep.SETTLE: self._settle,
        }
        # Set once the catalogue has been read: before that the feed does not know what it offered.
        self.loaded = asyncio.Event()

    async def move_on(self) -> int:
        """Lists, starts and finishes what is due; how many steps were taken. Raises ServiceError: try again."""
        if not self.loaded.is_set():
            await self._load()
        self._book.tidy(self._clock.now_us())
        taken = await self._list_all([fixture for fixture, _ in self._due(FixtureStep.LIST)])
        for fixture, step in self._due(FixtureStep.START, FixtureStep.FINISH):
            taken += await self._unless_refused(fixture, step)
        return taken

    async def settle(self) -> int:
        """Has finished matches settled; how many. Raises ServiceError: try again."""
        taken = 0
        for fixture, step in self._due(FixtureStep.SETTLE):
            taken += await self._unless_refused(fixture, step)
        return taken

    async def revisit(self, fixture: Fixture) -> None:
        """Takes over what an operator has decided about a fixture meanwhile. Raises ServiceError: try again."""
        request = event_pb2.GetEventRequest(event_id=fixture.event_id)
        try:
            reply: event_pb2.GetEventResponse = await self._peers.events.call(
                self._events.GetEvent, request, idempotent=True
            )
        except ServiceError as error:
            if is_refusal(error):
                return  # it never came into the catalogue
            raise
        if reply.event.status in _ENDED and reply.event.status != fixture.status:
            self._book.fixtures.pop(fixture.event_id, None)
            self._take_over(reply.event)

    def _due(self, *wanted: FixtureStep) -> list[tuple[Fixture, FixtureStep]]:
        return self._book.due(self._clock.now_us(), *wanted)

    async def _load(self) -> None:
        """Takes over what the catalogue has of our sports."""
        for sport in self._book.sports:
            for event in await self._listed(sport):
                self._take_over(event)
        self.loaded.set()
        self._log.info("catalogue loaded", fixtures=len(self._book.fixtures), over=len(self._book.done))

    async def _listed(self, league_id: str) -> list[event_pb2.Event]:
        found: list[event_pb2.Event] = []
        token = ""
        for _ in range(PAGES_MAX):
            request = event_pb2.ListEventsRequest(league_id=league_id, page_size=PAGE_SIZE, page_token=token)
            reply: event_pb2.ListEventsResponse = await self._peers.events.call(
                self._events.ListEvents, request, idempotent=True
            )
            found.extend(reply.events)
            token = reply.next_page_token
            if not token:
                break
        return found

    def _take_over(self, event: event_pb2.Event) -> None:
        if event.status == event_pb2.EVENT_STATUS_ABANDONED:
            self._book.end(event.event_id, None)
        elif event.status == event_pb2.EVENT_STATUS_FINISHED and all(each.status in _PAID for each in event.markets):
            self._book.end(event.event_id, (event.home_goals, event.away_goals))
        else:
            self._book.fixtures[event.event_id] = fixtures.known(event, event.league_id)

    async def _list_all(self, wanted: Sequence[Fixture]) -> int:
        taken = 0
        for start in range(0, len(wanted), FIXTURES_PER_UPSERT):
            batch = wanted[start : start + FIXTURES_PER_UPSERT]
            try:
                await self._list(batch)
                taken += len(batch)
            except ServiceError as error:
                if not is_refusal(error):
                    raise
                # One fixture must not hold up the others: each alone, and the culprit is put aside.
                for fixture in batch:
                    taken += await self._unless_refused(fixture, FixtureStep.LIST)
        return taken

    async def _unless_refused(self, fixture: Fixture, step: FixtureStep) -> int:
        """Takes a step: 1; or puts its fixture aside: 0. Raises ServiceError: try again."""
        try:
            await self._acts[step](fixture)
        except ServiceError as error:
            if not is_refusal(error):
                raise
            fixture.aside_until_us = self._clock.now_us() + self._retry_refused_us
            if fixture.refused != error.message:  # once, not at every try
                fixture.refused = error.message
                fields = {"event_id": fixture.event_id, "step": step.value, "reason": error.reason}
                self._log.error("fixture put aside", message=error.message, **fields)
            await self.revisit(fixture)
            return 0
        return 1

    async def _list(self, wanted: Sequence[Fixture]) -> None:
        """What is listed is what was sent: a new answer of the source may change fixtures meanwhile."""
        sent = [(fixture, fixture.starts_at_us, fixture.to_list()) for fixture in wanted]
        await self._call(self._catalogue.UpsertCatalogue, messages.catalogue(wanted))
        for fixture, starts_at_us, listed in sent:
            fixture.listed_start_us, fixture.listed = starts_at_us, listed
        self._book.revision += 1

    async def _start(self, fixture: Fixture) -> None:
        await self._set_status(fixture, event_pb2.EVENT_STATUS_STARTED, (0, 0))

    async def _finish(self, fixture: Fixture) -> None:
        assert fixture.goals is not None, "only a match with a result finishes"
        await self._set_status(fixture, event_pb2.EVENT_STATUS_FINISHED, fixture.goals)

    async def _set_status(self, fixture: Fixture, status: event_pb2.EventStatus, goals: tuple[int, int]) -> None:
        request = feed_pb2.SetEventStatusRequest(
            event_id=fixture.event_id, status=status, home_goals=goals[0], away_goals=goals[1]
        )
        await self._call(self._catalogue.SetEventStatus, request)
        fixture.status = int(status)

    async def _settle(self, fixture: Fixture) -> None:
        """Settlement first: only what it took over is priced as resulted. It marks the catalogue itself when done."""
        assert fixture.goals is not None, "only a match with a result is settled"
        if fixture.listed:
            home_goals, away_goals = fixture.goals
            request = settlement_pb2.SettleEventRequest(
                event_id=fixture.event_id, home_goals=home_goals, away_goals=away_goals, version=FIRST_VERSION
            )
            reply: settlement_pb2.SettleEventResponse = await self._peers.settlement.call(
                self._settlement.SettleEvent,
                request,
                idempotent=True,
                principal=self._peers.token(),
                timeout_s=SETTLE_TIMEOUT_S,
            )
            waiting = {market.market_id for market in reply.waiting}  # for a person: no result yet
            self._publisher.result([each for each in messages.results(fixture) if each.market_id not in waiting])
        self._book.end(fixture.event_id, fixture.goals)
        self._log.info("match settled", event_id=fixture.event_id, goals=f"{fixture.goals[0]}-{fixture.goals[1]}")

    async def _call(self, method: object, request: object) -> None:
        await self._peers.events.call(method, request, idempotent=True, principal=self._peers.token())  # type: ignore[arg-type]
