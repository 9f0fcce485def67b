"""The writer of odds-service: plans on the board, stores, commits, publishes to watchers; a standby while another is
active.

A change reaches watchers only after it is in the database, so a restart never gives one version two meanings.
Heartbeats mean "these prices are current" and are sent only while the database confirms that this process is the active
one (election.py): when it cannot be reached, watchers' books go stale, as they should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from betting.odds.board import Board, BoardUpdate
from betting.odds.hub import Hub
from betting.odds.quotes import Producer, Publication, Quote
from betting.odds.store import LEASE, Store, Written
from betting.runtime import metrics
from betting.runtime.clock import US_PER_S, Clock
from betting.runtime.composition import Activity
from betting.runtime.election import Lease, not_active
from betting.runtime.errors import ServiceError
from betting.runtime.loops import forever


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of the writer, in seconds."""

    tick_s: float
    beat_s: float
    history_s: float
    prune_s: float = 3600.0


class PriceWriter:
    """The writer of prices of this process.

    Publications, ticks and recoveries take turns; reads and watches never wait.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        board: Board,
        hub: Hub,
        clock: Clock,
        log: FilteringBoundLogger,
        intervals: Intervals,
    ) -> None:
        self._store = store
        self._lease = lease
        self._board = board
        self._hub = hub
        self._clock = clock
        self._log = log
        self._every = intervals
        self._turn = asyncio.Lock()
        # Active: it holds the lease at this term and has loaded what the database has.
        self.activity = Activity(active=False)
        # It has loaded what the database has at least once: before that it takes no lease from one that can.
        self.able = Activity(active=False)
        self._term: int | None = None
        self._resigned = False
        # A write ended in an error: it may have taken effect, and the board must hear what the database says.
        self._unsure = False
        self._measure()

    async def start(self) -> None:
        """Becomes active if nobody else is; otherwise, and when the database is away, it stands by."""
        try:
            await self.tick()
        except ServiceError as error:
            self._log.warning("not active yet", reason=error.reason)
        if not self.activity.active:
            self._log.info("standing by", active=self._lease.holder)

    async def resign(self) -> None:
        """Gives the lease up, for good: the process stops. Waits for a write under way. Raises ServiceError."""
        await self._in_turn(self._resign)

    async def publish(self, publication: Publication) -> bool:
        """Takes a publication; True: the producer is to send a snapshot.

        Raises FAILED_PRECONDITION, RESOURCE_EXHAUSTED (nothing of it counts) and UNAVAILABLE (send it again).
        """
        await self._in_turn(lambda: self._publish(publication))
        producer = self._board.producer(publication.producer_id)
        assert producer is not None, "a committed publication has a producer"
        return producer.wants_snapshot

    async def quotes(self, market_ids: list[int]) -> list[Quote]:
        """The quotes of those markets that have one, in the order asked for. Raises UNAVAILABLE."""
        self._check_active()
        now_us = self._now_us()
        found = {id_: quote for id_ in market_ids if (quote := self._board.quote(id_, now_us)) is not None}
        missing = [id_ for id_ in market_ids if id_ not in found]
        if missing:
            found |= {quote.market_id: quote for quote in await self._store.quotes(missing)}
        return [found[id_] for id_ in market_ids if id_ in found]

    def all_quotes(self) -> list[Quote]:
        """What a watcher's snapshot holds. Raises UNAVAILABLE."""
        self._check_active()
        return list(self._board.quotes(self._now_us()))

    def producers(self) -> list[tuple[Producer, int]]:
        """Producers and how many live markets each has. Raises UNAVAILABLE."""
        self._check_active()
        return self._board.producers()

    async def tick_for_ever(self) -> None:
        """Runs `tick` at an interval, and recovers after failures."""
        every_s = self._every.tick_s
        await forever(self.tick, every_s=every_s, first_after_s=every_s, log=self._log, event="tick failed")

    async def tick(self) -> None:
        """Does what is due now. Raises ServiceError when the database does not take it: the next tick tries again."""
        await self._in_turn(self._pass_time if self.activity.active else self._take_over)

    async def beat_for_ever(self) -> None:
        """Runs `beat` at an interval, for the life of the process."""
        every_s, event = self._every.beat_s, "heartbeat failed"
        await forever(self.beat, every_s=every_s, first_after_s=every_s, log=self._log, event=event)

    async def beat(self) -> None:
        """Renews the lease, and sends watchers a heartbeat if their prices are current.

        Raises ServiceError; then watchers get no heartbeat.
        """
        term, asked_s = self._term, self._clock.monotonic_s()
        if term is None:
            return
        producers = [producer for producer, _ in self._board.producers()]
        written = await self._store.beat(term, producers, timeout_s=max(1.0, self._every.beat_s))
        if self._term != term or self._unsure:
            return  # it changed, or is about to: the next turn will tell
        if written is Written.FENCED:
            self._stand_by()
        elif self.activity.active and self._clock.monotonic_s() - asked_s < self._lease.silent_after_s:
            # An answer that was waiting while this process was stopped says nothing about now.
            self._hub.beat(self._now_us())

    async def tidy_for_ever(self) -> None:
        """Removes old markets and old versions at an interval."""

        async def tidy() -> None:
            evicted = self._board.evict(self._now_us())
            self._log.debug("cleanup done", evicted=evicted, pruned=await self._prune())

        every_s = min(60.0, self._every.prune_s)
        await forever(tidy, every_s=every_s, first_after_s=every_s, log=self._log, event="cleanup failed")

    async def _prune(self) -> int:
        if self._every.history_s <= 0 or not self.activity.active:
            return 0
        return await self._store.prune(self._now_us() - int(self._every.history_s * US_PER_S))

    async def _in_turn(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Runs `work` when nothing else runs, and to its end: a caller that goes away must not cut a write off."""
        await self._turn.acquire()
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda _: self._turn.release())
        await asyncio.shield(task)

    async def _publish(self, publication: Publication) -> None:
        await self._pass_time()
        # A sign of life counts even if storing what came with it fails.
        self._board.heard(publication.producer_id, self._now_us(), publication.term)
        await self._bring_in(publication)
        plan = self._board.plan_publication(publication, self._now_us())
        await self._carry_out(plan)
        if plan.dropped:
            self._log.warning("offers for settled markets dropped", count=plan.dropped)

    async def _pass_time(self) -> None:
        await self._ready()
        plan = self._board.plan_time(self._now_us())
        for producer in plan.producers:
            self._log.warning("producer silent", producer=producer.producer_id)
        await self._carry_out(plan)

    async def _carry_out(self, plan: BoardUpdate) -> None:
        """Stores, commits and publishes a plan.

        Raises UNAVAILABLE NOT_ACTIVE, also if a heartbeat finds this meanwhile.
        """
        if not plan:
            return
        self._check_active()
        assert self._term is not None
        try:
            written = await self._store.write(self._term, plan)
        except BaseException:
            self._unsure = True
            raise
        if written is Written.FENCED:
            self._stand_by()
            raise not_active(LEASE)
        self._board.commit(plan)
        self._hub.publish(plan.quotes)

    async def _bring_in(self, publication: Publication) -> None:
        """Markets that were forgotten because they were over for long go on with their versions."""
        unknown = [offer.market_id for offer in publication.offers if offer.market_id not in self._board]
        if unknown:
            self._board.adopt(await self._store.quotes(unknown))

    async def _ready(self) -> None:
        """Makes sure that the board is what the database says. Raises UNAVAILABLE."""
        self._check_active()
        if not self._unsure:
            return
        assert self._term is not None
        term = await self._lease.retake(self._term)
        if term is None:
            self._stand_by()
            raise not_active(LEASE)
        self._term = term
        await self._load()

    async def _load(self) -> None:
        """Loads the state of the database; watchers get what is new."""
        quotes, producers = await self._store.load(self._now_us())
        news = self._board.adopt(quotes, producers)
        self._unsure = False
        self._hub.publish(news)

    async def _take_over(self) -> None:
        """Becomes active if the lease is to be had. While it loads it keeps the lease with its beats."""
        if self._resigned:
            return
        if not self.able.active:
            self._board.adopt(*await self._store.load(self._now_us()))
            self._board.clear()
            self.able.set(True)
        if self._term is None:
            self._term = await self._lease.look()
            if self._term is None:
                return
            self._log.info("taking over", term=self._term, before=self._lease.holder)
        term = self._term
        self._board.clear()
        await self._load()
        if self._term == term:
            self.activity.set(True)
            self._log.info("active: prices loaded", term=term, markets=len(self._board))

    async def _resign(self) -> None:
        self._resigned = True
        term, self._term = self._term, None
        self._stand_by()
        if term is not None:
            await self._lease.release(term)

    def _stand_by(self) -> None:
        if self._term is not None:
            self._log.warning("another odds-service is active now: standing by", term=self._term)
        self._term = None
        self.activity.set(False)
        self._hub.end_all(not_active(LEASE))

    def _check_active(self) -> None:
        if not self.activity.active:
            raise not_active(LEASE)

    def _now_us(self) -> int:
        return self._clock.now_us()

    def _measure(self) -> None:
        metrics.gauge("betting_odds_markets", "Markets in memory").set_function(lambda: len(self._board))
        metrics.gauge("betting_odds_watchers", "Open price streams").set_function(
            lambda: self._hub.statistics().watchers
        )
        metrics.gauge("betting_odds_active", "1 while this process is the active odds-service").set_function(
            lambda: float(self.activity.active)
        )
