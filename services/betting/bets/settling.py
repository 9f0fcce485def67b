"""Drives one market version through one shard: result, open bets in chunks, then (for a correction) settled bets."""

from __future__ import annotations

import asyncio
from collections import deque

import asyncpg

from betting.bets.instance import Instance
from betting.bets.shard import OwnedShard, ShardFrozen, ShardLost, ShardPhase
from betting.engine.apply import CannotApply
from betting.engine.commands import ColdBet, ColdPage, Command, Conflict, Progress, ResultMarket, SettleChunk
from betting.engine.outcomes import Outcome
from betting.internal.v1 import owner_pb2
from betting.journal import read_model
from betting.runtime import errors, postgres

# About 4 ms of work: bets placed meanwhile wait no longer.
CHUNK_BETS = 250
# Bounds what one settlement keeps waiting to be durable: more settles no faster, and bets wait twice as long.
CHUNKS_IN_FLIGHT = 1
PROJECTOR_POLL_S = 0.05
MAX_OUTCOMES = 255


class Settler:
    """Idempotent by (market, version): asked again after a crash it goes on where the shard's state is."""

    def __init__(self, instance: Instance, pool: asyncpg.Pool) -> None:
        self._instance = instance
        self._pool = pool

    async def settle(self, request: owner_pb2.SettleMarketRequest) -> owner_pb2.SettleMarketResponse:
        """Returns when this shard is done. Raises ServiceError; UNAVAILABLE means: ask again."""
        outcomes = _checked(request)
        owned = self._instance.shards.get(request.shard_id)
        if owned is None or owned.phase is not ShardPhase.SERVING:
            raise errors.unavailable("NOT_OWNER", f"this instance does not own shard {request.shard_id}")
        try:
            done = await self._drive(owned, request.market_id, request.version, outcomes)
        except ShardLost as problem:  # whether what was answered took effect, the next owner knows
            raise errors.unavailable("NOT_OWNER", str(problem)) from problem
        except ShardFrozen as problem:
            raise errors.failed_precondition("SHARD_FROZEN", str(problem)) from problem
        return owner_pb2.SettleMarketResponse(done=done.done, settled_bets=done.bets, payout_minor=done.payout_minor)

    async def _drive(self, owned: OwnedShard, market: int, version: int, outcomes: dict[int, int]) -> Progress:
        durable: deque[asyncio.Future[None]] = deque()
        try:
            done = await self._step(owned, ResultMarket(market, version, outcomes), durable)
            while not done.done:
                if len(durable) >= CHUNKS_IN_FLIGHT:
                    await durable.popleft()
                page = await self._page(owned, market, version)
                done = await self._step(owned, SettleChunk(market, version, CHUNK_BETS, page), durable)
                await asyncio.sleep(0)
            while durable:
                await durable.popleft()
            return done
        finally:
            for future in durable:
                future.cancel()  # nobody waits for these any more; what was decided is appended all the same
                if not future.cancelled():
                    future.exception()

    async def _step(
        self, owned: OwnedShard, command: ResultMarket | SettleChunk, durable: deque[asyncio.Future[None]]
    ) -> Progress:
        try:
            progress = self._decide(owned, command)
        except errors.ServiceError:
            # A conflict is final: it is said only once what it rests on is durable and the shard is still ours.
            await self._instance.committer.durable(owned)
            raise
        durable.append(self._instance.committer.durable(owned))
        return progress

    def _decide(self, owned: OwnedShard, command: Command) -> Progress:
        if owned.phase is not ShardPhase.SERVING:
            raise ShardLost(owned.lost_why or "the shard is being handed over")
        try:
            reply = owned.execute(command, self._instance.clock.now_us(), self._instance.limits)
        except CannotApply as problem:
            self._instance.committer.mark_broken(owned, str(problem))
            raise ShardFrozen(str(problem)) from problem
        if isinstance(reply, Conflict):
            if reply.retry:
                raise errors.unavailable("SETTLEMENT_BUSY", reply.reason)
            raise errors.failed_precondition("SETTLEMENT_CONFLICT", reply.reason)
        assert isinstance(reply, Progress)
        return reply

    async def _page(self, owned: OwnedShard, market: int, version: int) -> ColdPage | None:
        """Settled bets, once a correction has looked at all open ones."""
        if owned.state.results[market].version != version:
            raise errors.unavailable("SETTLEMENT_BUSY", f"market {market} has gone on to a later version: ask again")
        settling = owned.state.settling.get(market)
        if settling is None or settling.unvisited or version == 1:
            return None
        return await self._cold_page(owned, market, version)

    async def _cold_page(self, owned: OwnedShard, market: int, version: int) -> ColdPage:
        """Settled bets after the cursor, once the read model holds everything up to this version's result.

        And everything that another memory has left: an owner that died in the middle of a chunk had corrected bets that
        its cursor, which comes last, does not know of. The read model does, and shows them as they are now.
        """
        result = owned.state.results[market]
        cursor = owned.state.settling[market].cursor
        while await self._watermark(owned.shard) < max(result.sequence, owned.loaded_head):
            if owned.phase is not ShardPhase.SERVING:
                raise ShardLost(owned.lost_why)
            await asyncio.sleep(PROJECTOR_POLL_S)
        async with postgres.translated(), self._pool.acquire() as connection:
            bets = await read_model.cold_bets(
                connection, owned.shard, market, result.sequence, cursor or bytes(16), CHUNK_BETS
            )
            totals = await read_model.version_totals(connection, owned.shard, market, version - 1)
        rows = tuple(ColdBet(row.bet, row.record, row.settlements, row.payout_minor) for row in bets)
        return ColdPage(cursor, rows, len(rows) < CHUNK_BETS, totals.bets, totals.payout_minor)

    async def _watermark(self, shard: int) -> int:
        """Holds no connection between two looks: the projector that is waited for needs one of the same pool."""
        async with postgres.translated(), self._pool.acquire() as connection:
            return await read_model.watermark(connection, shard)


def _checked(request: owner_pb2.SettleMarketRequest) -> dict[int, int]:
    """The outcomes, if they can be meant. Raises INVALID_ARGUMENT."""
    outcomes = dict(request.outcomes)
    if request.market_id <= 0 or not 1 <= request.version < 2**31:
        raise errors.invalid_argument(
            "MARKET_VERSION", f"market_id is {request.market_id}, version {request.version}: both must be positive"
        )
    if not 1 <= len(outcomes) <= MAX_OUTCOMES:
        raise errors.invalid_argument("OUTCOMES", f"a result has 1 to {MAX_OUTCOMES} outcomes, not {len(outcomes)}")
    for selection, outcome in outcomes.items():
        if not 0 < selection <= 0xFFFF or outcome not in Outcome.__members__.values():
            raise errors.invalid_argument("OUTCOME", f"selection {selection} cannot have outcome {outcome}")
    return outcomes
