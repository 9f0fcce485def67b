"""Carries settlements through all shards. Everything it knows is in Postgres and in the shards: it can die at any time.

Owners settle idempotently by (market, version), so two runners at the same settlement waste work but do no harm.
"""

from __future__ import annotations

import asyncio

import grpc
import structlog

from betting.clients.owners.router import OwnerRouter
from betting.runtime.clock import Clock
from betting.runtime.errors import ServiceError
from betting.settlement.catalogue import Catalogue
from betting.settlement.store import DONE, RUNNING, STOPPED, SettlementRow, SettlementStore, ShardDone
from betting.v1 import event_pb2

log = structlog.get_logger(__name__)

MAX_AT_ONCE = 8
SHARDS_AT_ONCE = 8
SHARD_TIMEOUT_S = 30.0
RETRY_S = 0.5
LOOK_INTERVAL_S = 5.0
PAGE = 200

_FINAL = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT})


class Runner:
    """One task per settlement under way, bounded; markets of one event go side by side."""

    def __init__(self, store: SettlementStore, router: OwnerRouter, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._router = router
        self._catalogue = catalogue
        self._clock = clock
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Something was recorded: start it now rather than at the next look."""
        self._wake.set()

    async def run(self) -> None:
        """Finds what is not finished, from this process or one before it, and goes on with it."""
        try:
            while True:
                await self._start_unfinished()
                self._wake.clear()
                try:
                    async with asyncio.timeout(LOOK_INTERVAL_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for task in list(self._running.values()):
                task.cancel()

    async def resume(self, row: SettlementRow) -> None:
        """A person says that what stopped it is mended. One that runs is left alone."""
        if row.status == STOPPED:
            await self._store.set_status(row.market_id, row.version, RUNNING)
        self.look()

    async def _start_unfinished(self) -> None:
        after = (0, 0, 0)
        while True:
            try:
                page = await self._store.unfinished(after, PAGE)
            except ServiceError as problem:
                log.warning("settlements_unreadable", problem=problem.message)
                return
            for row in page:
                key = (row.market_id, row.version)
                if row.status != STOPPED and key not in self._running:
                    self._running[key] = asyncio.create_task(self._carry(row))
            if len(page) < PAGE:
                return
            after = (page[-1].requested_at_us, page[-1].market_id, page[-1].version)

    async def _carry(self, row: SettlementRow) -> None:
        try:
            await self._until_done(row)
        finally:
            del self._running[row.market_id, row.version]

    async def _until_done(self, row: SettlementRow) -> None:
        """A try at a time has a slot: one that waits for a shard that nobody serves must not hold up the others."""
        while True:
            try:
                async with self._slots:
                    await self._once(row)
                return
            except ServiceError as problem:
                if problem.code in _FINAL:
                    await self._stop(row, problem)
                    return
                log.warning("settlement_waits", market=row.market_id, version=row.version, why=problem.message)
                await asyncio.sleep(RETRY_S)

    async def _once(self, row: SettlementRow) -> None:
        row = await self._store.get(row.market_id, row.version)
        if row.status in (DONE, STOPPED):
            return
        await self._catalogue.close_market(row.market_id)
        await self._store.set_status(row.market_id, row.version, RUNNING)
        done = {shard.shard_id for shard in row.shards}
        at_once = asyncio.Semaphore(SHARDS_AT_ONCE)
        todo = [shard for shard in range(row.shards_total) if shard not in done]
        outcomes = await asyncio.gather(*(self._shard(row, shard, at_once) for shard in todo), return_exceptions=True)
        problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if problems:
            # One that needs a person outweighs those that only need time.
            raise next((one for one in problems if isinstance(one, ServiceError) and one.code in _FINAL), problems[0])
        await self._finish(row)

    async def _stop(self, row: SettlementRow, problem: ServiceError) -> None:
        log.error("settlement_stopped", market=row.market_id, version=row.version, problem=problem.message)
        await self._store.set_status(row.market_id, row.version, STOPPED, problem.message)

    async def _shard(self, row: SettlementRow, shard: int, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            reply = await self._router.settle_market(
                shard, row.market_id, row.version, row.outcomes, timeout_s=SHARD_TIMEOUT_S
            )
        assert reply.done, "an owner answered before it was done"
        done = ShardDone(shard, reply.settled_bets, reply.payout_minor)
        await self._store.shard_done(row.market_id, row.version, done)

    async def _finish(self, row: SettlementRow) -> None:
        """The catalogue first: a settlement is done only once people can see its market's result."""
        status = event_pb2.MARKET_STATUS_VOID if row.voids else event_pb2.MARKET_STATUS_RESULTED
        await self._catalogue.set_market_status(row.market_id, status)
        await self._store.set_status(row.market_id, row.version, DONE, at_us=self._clock.now_us())
        log.info("settlement_done", market=row.market_id, version=row.version)
