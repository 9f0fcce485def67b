"""Composition root of odds-service."""

from __future__ import annotations

from betting.internal.v1 import feed_pb2_grpc
from betting.odds.board import Board
from betting.odds.hub import Hub
from betting.odds.servicer import OddsServicer, PriceFeedServicer, add_odds_service
from betting.odds.settings import OddsSettings
from betting.odds.store import LEASE, Store
from betting.odds.writer import Intervals, PriceWriter
from betting.runtime.clock import US_PER_S
from betting.runtime.election import Lease
from betting.runtime.service import Composition, ServiceContext, Servicer


async def compose(context: ServiceContext[OddsSettings]) -> Composition:
    """Prices, public, and the feeds' service, for services and operators."""
    pool = await context.postgres()
    silent_after_s = context.settings.takeover_after.total_seconds()
    lease = Lease(pool, LEASE, str(context.life), silent_after_s=silent_after_s)
    store = Store(pool)
    board = Board(int(context.settings.producer_silence.total_seconds() * US_PER_S))
    hub = Hub(context.life.boot_id, context.settings.watcher_queue, context.settings.watchers)
    writer = PriceWriter(store, lease, board, hub, context.clock, context.log, _intervals(context.settings))
    await writer.start()
    return Composition(
        [
            Servicer(
                add_odds_service,
                OddsServicer(writer, hub, store),
                "betting.v1.OddsService",
                unbounded_methods=frozenset({"WatchPrices"}),
            ),
            Servicer(
                feed_pb2_grpc.add_PriceFeedServiceServicer_to_server,
                PriceFeedServicer(writer, store),
                "betting.internal.v1.PriceFeedService",
                quiet_methods=frozenset({"PublishPrices"}),
            ),
        ],
        background=[writer.tick_for_ever, writer.beat_for_ever, writer.tidy_for_ever],
        on_drain=[writer.resign],
        activity=writer.activity,
        able=writer.able,
    )


def _intervals(settings: OddsSettings) -> Intervals:
    return Intervals(
        tick_s=settings.tick.total_seconds(),
        beat_s=settings.beat.total_seconds(),
        history_s=settings.history_days * 24 * 3600.0,
    )
