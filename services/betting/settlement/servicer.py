"""SettlementService over gRPC, for operators and services."""

from __future__ import annotations

from typing import Any

import grpc

from betting.runtime import logs, paging
from betting.runtime.clock import Clock
from betting.runtime.principal import Role, require_role
from betting.settlement import render, requests
from betting.settlement.catalogue import Catalogue
from betting.settlement.requests import RequestedSettlement
from betting.settlement.runner import Runner
from betting.settlement.store import SettlementStore
from betting.v1 import event_pb2, settlement_pb2, settlement_pb2_grpc

_log = logs.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class SettlementServicer(settlement_pb2_grpc.SettlementServiceServicer):
    """A settlement is recorded before the call returns; the runner carries it through."""

    def __init__(
        self, store: SettlementStore, catalogue: Catalogue, runner: Runner, clock: Clock, shard_count: int
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._runner = runner
        self._clock = clock
        self._shard_count = shard_count

    async def SettleMarket(
        self, request: settlement_pb2.SettleMarketRequest, context: Context
    ) -> settlement_pb2.SettleMarketResponse:
        require_role(context, Role.OPERATOR, Role.SERVICE)
        requests.check_version(request.version)
        market = await self._catalogue.market(requests.check_id("market_id", request.market_id))
        wanted = requests.from_outcomes(market, request.outcomes, request.version)
        if not wanted.voids:
            requests.check_started(await self._catalogue.event(market.event_id), self._clock.now_us())
        settlement = await self._record(wanted)
        return settlement_pb2.SettleMarketResponse(settlement=settlement)

    async def SettleEvent(
        self, request: settlement_pb2.SettleEventRequest, context: Context
    ) -> settlement_pb2.SettleEventResponse:
        caller = require_role(context, Role.OPERATOR, Role.SERVICE)
        requests.check_version(request.version)
        event = await self._catalogue.event(requests.check_id("event_id", request.event_id))
        results = requests.from_score(event, request.home_goals, request.away_goals, request.version)
        requests.check_started(event, self._clock.now_us())
        # A feed has nobody who could be told: what is not taken over waits. An operator is told at once.
        recorded = await self._store.record_event(
            results,
            self._shard_count,
            self._clock.now_us(),
            abandoned=event.status == event_pb2.EVENT_STATUS_ABANDONED,
            must_take=caller.role is Role.OPERATOR,
        )
        self._runner.look()
        for refused in recorded.news:
            _log.warning("settlement waits for a person", market=refused.market_id, problem=refused.why.message)
        refused_ids = [one.market_id for one in recorded.refused]
        waiting = {row.market_id: row for row in await self._store.waiting(refused_ids)} if refused_ids else {}
        return settlement_pb2.SettleEventResponse(
            settlements=[render.settlement(await self._store.get(*taken)) for taken in recorded.taken],
            waiting=[render.waiting(waiting[one.market_id]) for one in recorded.refused if one.market_id in waiting],
        )

    async def VoidMarket(
        self, request: settlement_pb2.VoidMarketRequest, context: Context
    ) -> settlement_pb2.VoidMarketResponse:
        require_role(context, Role.OPERATOR, Role.SERVICE)
        requests.check_version(request.version)
        market = await self._catalogue.market(requests.check_id("market_id", request.market_id))
        settlement = await self._record(requests.void(market, request.version))
        return settlement_pb2.VoidMarketResponse(settlement=settlement)

    async def GetSettlement(
        self, request: settlement_pb2.GetSettlementRequest, context: Context
    ) -> settlement_pb2.GetSettlementResponse:
        require_role(context, Role.OPERATOR, Role.SERVICE)
        version = requests.check_version(request.version) if request.version else 0
        row = await self._store.get(requests.check_id("market_id", request.market_id), version)
        return settlement_pb2.GetSettlementResponse(settlement=render.settlement(row))

    async def ListPendingSettlements(
        self, request: settlement_pb2.ListPendingSettlementsRequest, context: Context
    ) -> settlement_pb2.ListPendingSettlementsResponse:
        require_role(context, Role.OPERATOR, Role.SERVICE)
        size = paging.page_size(request.page_size)
        after = paging.decode_token(request.page_token, int, int, int) or (0, 0, 0)
        rows = await self._store.unfinished(after, size)
        last = rows[-1] if len(rows) == size else None
        token = paging.encode_token(last.requested_at_us, last.market_id, last.version) if last is not None else ""
        return settlement_pb2.ListPendingSettlementsResponse(
            settlements=[render.settlement(row) for row in rows],
            next_page_token=token,
            waiting=[] if request.page_token else [render.waiting(row) for row in await self._store.waiting()],
        )

    async def ResumeSettlement(
        self, request: settlement_pb2.ResumeSettlementRequest, context: Context
    ) -> settlement_pb2.ResumeSettlementResponse:
        require_role(context, Role.OPERATOR, Role.SERVICE)
        version = requests.check_version(request.version)
        row = await self._store.get(requests.check_id("market_id", request.market_id), version)
        await self._runner.resume(row)
        row = await self._store.get(row.market_id, row.version)
        return settlement_pb2.ResumeSettlementResponse(settlement=render.settlement(row))

    async def _record(self, wanted: RequestedSettlement) -> settlement_pb2.Settlement:
        await self._store.record(wanted, self._shard_count, self._clock.now_us())
        self._runner.look()
        return render.settlement(await self._store.get(wanted.market_id, wanted.version))
