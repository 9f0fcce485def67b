"""Lets settlements finish: stops the season, then waits until none is pending."""

from __future__ import annotations

import asyncio
import time

import grpc

from betting.embedded.platform import Platform
from betting.embedded.topology import DOORS
from betting.runtime import principal
from betting.runtime.clock import now_us
from betting.v1 import settlement_pb2, settlement_pb2_grpc

SETTLEMENT = "settlement-service"
CALL_TIMEOUT_S = 3.0
POLL_S = 0.2
_CALLER = "betting-demo"


async def finish(platform: Platform, timeout_s: float) -> int:
    """Returns how many settlements are still pending: 0 when all is done."""
    started = {each.name for each in platform.supervisor.processes}
    await platform.supervisor.stop(started & set(DOORS))
    deadline = time.monotonic() + timeout_s
    async with grpc.aio.insecure_channel(platform.topology.address(SETTLEMENT)) as channel:
        pending = await _pending(platform, channel)
        while pending and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            pending = await _pending(platform, channel)
    return pending


async def _pending(platform: Platform, channel: grpc.aio.Channel) -> int:
    secret = bytes.fromhex(platform.topology.folder.internal_secret())
    metadata = ((principal.METADATA_KEY, principal.service_principal(_CALLER, secret, now_us())),)
    call = settlement_pb2_grpc.SettlementServiceStub(channel).ListPendingSettlements
    request = settlement_pb2.ListPendingSettlementsRequest(page_size=500)
    try:
        return len((await call(request, timeout=CALL_TIMEOUT_S, metadata=metadata)).settlements)
    except grpc.aio.AioRpcError:
        return 1  # cannot tell: ask again
