"""Composition root of settlement-service."""

from __future__ import annotations

from typing import Any

from betting.clients.owners.opening import open_router
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.settlement.catalogue import Catalogue
from betting.settlement.runner import Runner
from betting.settlement.servicer import SettlementServicer
from betting.settlement.store import SettlementStore
from betting.v1 import settlement_pb2_grpc


async def compose(context: ServiceContext[Any]) -> Composition:
    """Needs Postgres, event-service, and the owners of the shards (found through Postgres)."""
    store = SettlementStore(await context.postgres(), str(context.life))
    router = await open_router(context)
    catalogue = Catalogue(context.target("event-service", context.settings.event_service), context.service_token)
    runner = Runner(store, router, catalogue, context.clock)
    servicer = SettlementServicer(store, catalogue, runner, context.clock, context.settings.shard_count)
    return Composition(
        servicers=[
            Servicer(
                settlement_pb2_grpc.add_SettlementServiceServicer_to_server, servicer, "betting.v1.SettlementService"
            )
        ],
        background=[*router.background, runner.run, runner.renew],
        on_close=[runner.close, router.close],
    )
