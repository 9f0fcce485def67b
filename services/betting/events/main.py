"""Composition root of event-service."""

from __future__ import annotations

from betting.events.servicer import CatalogueFeedServicer, EventServicer
from betting.events.store import Store
from betting.internal.v1 import feed_pb2_grpc
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.v1 import event_pb2_grpc


async def compose(context: ServiceContext) -> Composition:
    """The catalogue, public, and the feeds' service, for services and operators."""
    store = Store(await context.postgres())
    return Composition(
        [
            Servicer(
                event_pb2_grpc.add_EventServiceServicer_to_server,
                EventServicer(store, context.clock),
                "betting.v1.EventService",
            ),
            Servicer(
                feed_pb2_grpc.add_CatalogueFeedServiceServicer_to_server,
                CatalogueFeedServicer(store, context.clock),
                "betting.internal.v1.CatalogueFeedService",
            ),
        ]
    )
