"""SettlementService taken at its contract: a gRPC server that records what feeds ask of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from betting.runtime import errors, principal
from betting.runtime.composition import Composition, Servicer
from betting.v1 import settlement_pb2, settlement_pb2_grpc


class SettlementRecorder(settlement_pb2_grpc.SettlementServiceServicer):
    """Answers SettleEvent as SettlementService promises to, and remembers every request; may refuse one event.

    `versions` are the settlements that a person has made meanwhile, by market. Answers wait while `answers` is cleared.
    """

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int, int, int]] = Counter()
        self.refused_event = 0
        self.answers = asyncio.Event()
        self.answers.set()
        # Markets that wait for a person, by event.
        self.waiting: dict[int, list[int]] = {}
        self.versions: dict[int, int] = {}

    async def SettleEvent(self, request: Any, context: Any) -> settlement_pb2.SettleEventResponse:
        principal.require_role(context, principal.Role.SERVICE)
        if request.event_id == self.refused_event:
            raise errors.failed_precondition("EVENT_NOT_FINISHED", "not this one")
        self.asked[request.event_id, request.home_goals, request.away_goals, request.version] += 1
        await self.answers.wait()
        waiting = [settlement_pb2.WaitingMarket(market_id=each) for each in self.waiting.get(request.event_id, ())]
        return settlement_pb2.SettleEventResponse(waiting=waiting)

    async def GetSettlement(self, request: Any, context: Any) -> settlement_pb2.GetSettlementResponse:
        principal.require_role(context, principal.Role.SERVICE)
        version = self.versions.get(request.market_id, 1)
        settlement = settlement_pb2.Settlement(market_id=request.market_id, version=version)
        return settlement_pb2.GetSettlementResponse(settlement=settlement)

    async def compose(self, _context: Any) -> Composition:
        """A service of its own."""
        add = settlement_pb2_grpc.add_SettlementServiceServicer_to_server
        return Composition([Servicer(add, self, "betting.v1.SettlementService")])
