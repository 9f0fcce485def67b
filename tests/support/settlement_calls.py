"""What tests of settlement share: the event they settle, calls, and waiting for a settlement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import in_process

from betting.runtime.client import Target
from betting.runtime.principal import service_principal
from betting.v1 import settlement_pb2, settlement_pb2_grpc

EVENT = 1
# The odds fixture offers markets 1 to 8; these two belong to one event here.
RESULT_MARKET, TOTAL_MARKET = 1, 2
STARTED_AT_US = 1_700_000_000_000_000  # in the year 2023


SERVICE = service_principal("test-1", bytes.fromhex(in_process.SECRET), in_process.FAR_FUTURE_US - 10**12)


@dataclass
class Settlements:
    """Calls to settlement-service, as another service unless said otherwise."""

    target: Target

    async def call(self, method: str, request: Any, principal: bytes = SERVICE) -> Any:
        stub = self.target.stub(settlement_pb2_grpc.SettlementServiceStub)
        return await self.target.call(
            getattr(stub, method), request, idempotent=False, principal=principal, timeout_s=10
        )


async def until(
    calls: Any, market: int, status: int, version: int = 1, shards_done: int = 0
) -> settlement_pb2.Settlement:
    """The latest settlement of a market once it is this version, has this status and is done on so many shards."""
    async with asyncio.timeout(30):
        while True:
            request = settlement_pb2.GetSettlementRequest(market_id=market)
            found: settlement_pb2.Settlement = (await calls.call("GetSettlement", request)).settlement
            if (found.version, found.status) == (version, status) and found.shards_done >= shards_done:
                return found
            await asyncio.sleep(0.05)
