"""Carries settlements through all shards. Everything it knows is in Postgres and in the shards: it can die at any time.

Several settlement-services share the work: one claims what is due, says every few seconds that it still carries it, and
leaves it done, stopped or put off. What a dead one carried is due again when its claim ends. Owners settle idempotently
by (market, version): a process that was frozen and goes on with what is another's by now does no harm.
"""

from __future__ import annotations

import asyncio

import grpc

from betting.clients.owners.router import OwnerRouter
from betting.runtime import logs, metrics
from betting.runtime.clock import Clock
from betting.runtime.errors import ServiceError
from betting.runtime.loops import forever, woken_within
from betting.settlement.catalogue import Catalogue
from betting.settlement.store import DONE, STOPPED, SettlementRow, SettlementStore, ShardDone
from betting.v1 import event_pb2

_log = logs.get(__name__)

MAX_AT_ONCE = 8
SHARDS_AT_ONCE = 8
SHARD_TIMEOUT_S = 30.0
# Long enough for a pause of the process, short enough for bettors who wait for their money.
LEASE_S = 6.0
RENEW_INTERVAL_S = LEASE_S / 3
RETRY_S = 1.0
LOOK_INTERVAL_S = 1.0

_FINAL = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND})


class Runner:
    """One task per claimed settlement, bounded; markets of one event go side by side."""

    def __init__(self, store: SettlementStore, router: OwnerRouter, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._router = router
        self._catalogue = catalogue
        self._clock = clock
        self._running: dict[asyncio.Task[None], tuple[int, int]] = {}  # the market and version that each carries
        self._wake = asyncio.Event()
        self._is_new = True
        self._shards = metrics.counter("betting_settlement_shards_total", "Shards on which a settlement was completed")

    def look(self) -> None:
        """Looks for due settlements now instead of at the next interval."""
        self._wake.set()

    async def run(self) -> None:
        """Finds due settlements, whoever recorded them, and runs them."""
        try:
            while True:
                self._wake.clear()
                await self._look()
                await woken_within(self._wake, LOOK_INTERVAL_S)
        finally:
            for task in list(self._running):
                task.cancel()

    async def renew(self) -> None:
        """Renews the claims of running tasks, and no others: what a task had to leave is due again soon."""

        async def renew() -> None:
            if self._running:
                await self._store.renew(list(self._running.values()), LEASE_S)

        interval_s = RENEW_INTERVAL_S
        await forever(
            renew, every_s=interval_s, first_after_s=interval_s, log=_log, event="settlement claims not renewed"
        )

    async def close(self) -> None:
        """Releases unfinished settlements, so that other processes can take them at once."""
        await asyncio.gather(*self._running, return_exceptions=True)
        try:
            await self._store.release()
        except ServiceError as problem:
            _log.warning("settlement claims not released", problem=problem.message)

    async def resume(self, row: SettlementRow) -> None:
        """Resumes a stopped settlement, after an operator has removed the cause. No effect on a running one."""
        await self._store.resume(row.market_id, row.version)
        self.look()

    async def _look(self) -> None:
        try:
            if self._is_new:
                await self._store.inherit()
                self._is_new = False
            free = MAX_AT_ONCE - len(self._running)
            for market, version in await self._store.claim(free, LEASE_S) if free else []:
                task = asyncio.create_task(self._carry(market, version))
                self._running[task] = (market, version)
                task.add_done_callback(self._carried)
        except ServiceError as problem:
            _log.warning("settlements not read", problem=problem.message)

    def _carried(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self.look()

    async def _carry(self, market: int, version: int) -> None:
        """One attempt. A settlement that waits for an unserved shard is put off, and does not block others."""
        try:
            row = await self._store.get(market, version)
            try:
                await self._once(row)
            except ServiceError as problem:
                await self._failed(row, problem)
        except ServiceError as problem:  # Postgres is away: the claim ends, and it is due again
            _log.warning("settlement left", market=market, version=version, problem=problem.message)
        except Exception:
            _log.exception("settlement failed", market=market, version=version)

    async def _once(self, row: SettlementRow) -> None:
        if row.status in (DONE, STOPPED):
            return
        await self._catalogue.close_market(row.market_id)
        done = {shard.shard_id for shard in row.shards}
        at_once = asyncio.Semaphore(SHARDS_AT_ONCE)
        todo = [shard for shard in range(row.shards_total) if shard not in done]
        outcomes = await asyncio.gather(*(self._shard(row, shard, at_once) for shard in todo), return_exceptions=True)
        problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if problems:
            # One that needs a person outweighs those that only need time.
            raise next((one for one in problems if isinstance(one, ServiceError) and _is_final(one)), problems[0])
        await self._finish(row)

    async def _failed(self, row: SettlementRow, problem: ServiceError) -> None:
        """Logs a failure once, not at every attempt."""
        if _is_final(problem):
            _log.error("settlement stopped", market=row.market_id, version=row.version, problem=problem.message)
            await self._store.stopped(row, problem.message)
        elif await self._store.put_off(row, problem.message, RETRY_S):
            _log.warning("settlement waits", market=row.market_id, version=row.version, why=problem.message)

    async def _shard(self, row: SettlementRow, shard: int, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            reply = await self._router.settle_market(
                shard, row.market_id, row.version, row.outcomes, timeout_s=SHARD_TIMEOUT_S
            )
        assert reply.done, "an owner answered before it was done"
        self._shards.inc()
        done = ShardDone(shard, reply.settled_bets, reply.payout_minor)
        await self._store.shard_done(row.market_id, row.version, done)

    async def _finish(self, row: SettlementRow) -> None:
        """Updates the catalogue first: a settlement is done only once the result of the market is visible there."""
        await self._show(row)
        if await self._store.finished(row, self._clock.now_us()):
            _log.info("settlement done", market=row.market_id, version=row.version)
            return
        # Somebody else has carried it meanwhile: what was shown may have been corrected since.
        latest = await self._store.get(row.market_id, 0)
        if latest.status == DONE and latest.version != row.version:
            await self._show(latest)

    async def _show(self, row: SettlementRow) -> None:
        status = event_pb2.MARKET_STATUS_VOID if row.voids else event_pb2.MARKET_STATUS_RESULTED
        await self._catalogue.set_market_status(row.market_id, status)


def _is_final(problem: ServiceError) -> bool:
    """Whether an operator must act. A frozen shard is not final: its settlement resumes once it is unfrozen."""
    return problem.code in _FINAL and problem.reason != "SHARD_FROZEN"
