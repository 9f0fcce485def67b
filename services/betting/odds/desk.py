"""The heart of odds-service: plans on the board, stores, commits, tells watchers; and steps aside for a newer process.

A change reaches watchers only after it is in the database, so a restart never gives a version twice with two meanings.
Beats say "these prices are true now" and are sent only while the database confirms that this process is the writer:
when it cannot be reached, watchers' books go stale, as they should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from betting.odds.board import Board, Plan
from betting.odds.hub import Hub
from betting.odds.quotes import Producer, Publication, Quote
from betting.odds.store import Store, Written
from betting.runtime import errors, metrics
from betting.runtime.clock import US_PER_S, Clock
from betting.runtime.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the desk does what, in seconds."""

    tick_s: float
    beat_s: float
    takeover_after_s: float
    history_s: float
    prune_s: float = 3600.0


class Desk:
    """One writer of prices. Publications, ticks and recoveries take turns; reads and watches never wait."""

    def __init__(
        self, store: Store, board: Board, hub: Hub, clock: Clock, log: FilteringBoundLogger, intervals: Intervals
    ) -> None:
        self._store = store
        self._board = board
        self._hub = hub
        self._clock = clock
        self._log = log
        self._every = intervals
        self._turn = asyncio.Lock()
        self._epoch: int | None = None
        # A write ended in an error: it may have taken effect, and the board must hear what the database says.
        self._unsure = False
        self._measure()

    async def start(self) -> None:
        """Becomes the writer and loads what is known."""
        self._epoch = await self._store.take()
        await self._load()
        self._log.info("prices loaded", epoch=self._epoch, markets=len(self._board))

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
        """Closes and suspends what is due, and finds its way back after failures."""
        while True:
            await asyncio.sleep(self._every.tick_s)
            try:
                await self.tick()
            except ServiceError as error:
                self._log.warning("tick failed", reason=error.reason)

    async def tick(self) -> None:
        """Does what is due now. Raises ServiceError when the database does not take it: the next tick tries again."""
        await self._in_turn(self._take_over if self._epoch is None else self._pass_time)

    async def beat_for_ever(self) -> None:
        """Sends beats while this process is known to be the writer."""
        while True:
            await asyncio.sleep(self._every.beat_s)
            try:
                await self.beat()
            except ServiceError as error:
                self._log.warning("no beat: the database does not confirm", reason=error.reason)

    async def beat(self) -> None:
        """One beat. Raises ServiceError, and then watchers hear nothing."""
        epoch = self._epoch
        if epoch is None or self._unsure:
            return
        producers = [producer for producer, _ in self._board.producers()]
        written = await self._store.beat(epoch, producers, timeout_s=max(1.0, self._every.beat_s))
        if self._epoch != epoch or self._unsure:
            return  # it changed meanwhile: the next beat will tell
        if written is Written.FENCED:
            self._step_aside()
        else:
            self._hub.beat(self._now_us())

    async def tidy_for_ever(self) -> None:
        """Forgets and deletes what is old."""
        while True:
            await asyncio.sleep(min(60.0, self._every.prune_s))
            evicted = self._board.evict(self._now_us())
            try:
                pruned = await self._prune()
            except ServiceError as error:
                self._log.warning("pruning failed", reason=error.reason)
            else:
                self._log.debug("tidied", evicted=evicted, pruned=pruned)

    async def _prune(self) -> int:
        if self._every.history_s <= 0 or self._epoch is None:
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
        self._board.heard(publication.producer_id, self._now_us())
        await self._bring_in(publication)
        plan = self._board.plan_publication(publication, self._now_us())
        await self._carry_out(plan)
        if plan.dropped:
            self._log.warning("offers for settled markets dropped", count=plan.dropped)

    async def _pass_time(self) -> None:
        await self._ready()
        plan = self._board.plan_time(self._now_us())
        for producer in plan.producers:
            self._log.warning("producer silent: its markets are suspended", producer=producer.producer_id)
        await self._carry_out(plan)

    async def _carry_out(self, plan: Plan) -> None:
        """Stores, then commits and tells. Raises UNAVAILABLE NOT_ACTIVE, also when a beat has found out meanwhile."""
        if not plan:
            return
        self._check_active()
        assert self._epoch is not None
        try:
            written = await self._store.write(self._epoch, plan)
        except BaseException:
            self._unsure = True
            raise
        if written is Written.FENCED:
            self._step_aside()
            raise _not_active()
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
        assert self._epoch is not None
        epoch = await self._store.retake(self._epoch)
        if epoch is None:
            self._step_aside()
            raise _not_active()
        self._epoch = epoch
        await self._load()

    async def _load(self) -> None:
        """Takes over what the database has; watchers hear of what is news to the board."""
        quotes, producers = await self._store.load(self._now_us())
        news = self._board.adopt(quotes, producers)
        self._unsure = False
        self._hub.publish(news)

    async def _take_over(self) -> None:
        """Becomes the writer again once the one that took over is dead."""
        epoch = await self._store.take_over(self._every.takeover_after_s)
        if epoch is not None:
            self._log.warning("the other odds-service is silent: taking over", epoch=epoch)
            await self._load()
            self._epoch = epoch

    def _step_aside(self) -> None:
        if self._epoch is not None:
            self._log.warning("another odds-service counts now: standing by", epoch=self._epoch)
        self._epoch = None
        self._hub.end_all(_not_active())

    def _check_active(self) -> None:
        if self._epoch is None:
            raise _not_active()

    def _now_us(self) -> int:
        return self._clock.now_us()

    def _measure(self) -> None:
        metrics.gauge("betting_odds_markets", "Markets in memory").set_function(lambda: len(self._board))
        metrics.gauge("betting_odds_watchers", "Open price streams").set_function(
            lambda: self._hub.statistics().watchers
        )
        metrics.gauge("betting_odds_active", "1 while this process is the one that counts").set_function(
            lambda: float(self._epoch is not None)
        )


def _not_active() -> ServiceError:
    return errors.unavailable("NOT_ACTIVE", "another odds-service counts now: call again")
