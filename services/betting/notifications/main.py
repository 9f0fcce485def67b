"""Composition root of notification-service."""

from __future__ import annotations

from betting.journal import connection as journal_connection
from betting.journal.consumers import Claims
from betting.notifications.feed import Feed
from betting.notifications.janitor import Janitor
from betting.notifications.servicer import NotificationServicer
from betting.notifications.store import Store
from betting.runtime.service import Composition, ServiceContext, Servicer, ServiceSettings
from betting.streams.consumer import Consumer
from betting.v1 import notification_pb2_grpc

CONSUMER = "notifications"


async def compose(context: ServiceContext[ServiceSettings]) -> Composition:
    """Waits for Postgres. Without Redis it reads the journal."""
    pool = await context.postgres(init=journal_connection.prepare)
    shards = range(context.settings.shard_count)
    claims = Claims(pool, CONSUMER, str(context.life), shards)
    store = Store(pool, claims)
    janitor = Janitor(store)
    consumer = Consumer(
        CONSUMER, await context.redis(), pool, shards, Feed(store, janitor).take, from_beginning=True, shared=claims
    )
    return Composition(
        servicers=[
            Servicer(
                notification_pb2_grpc.add_NotificationServiceServicer_to_server,
                NotificationServicer(store),
                "betting.v1.NotificationService",
            )
        ],
        background=[consumer.run, janitor.run],
        on_close=[consumer.close],
    )
