"""Composition root of bet-service."""

from __future__ import annotations

import gc

import asyncpg

from betting.bets.book import PriceBook
from betting.bets.book_feed import BookFeed
from betting.bets.clock import DatabaseClock
from betting.bets.committer import Committer
from betting.bets.execution import Execution
from betting.bets.exposition import explained_bytes, expose
from betting.bets.followers import Followers
from betting.bets.instance import Instance
from betting.bets.journal_link import JournalLink
from betting.bets.listener import ShardListener
from betting.bets.ownership import Ownership
from betting.bets.servicer import OwnerServicer
from betting.bets.settings import BetSettings
from betting.bets.settling import Settler
from betting.bets.shard import OwnedShard
from betting.bets.snapshots import Snapshotter
from betting.engine.entries import READABLE_FORMATS, Entry
from betting.internal.v1 import owner_pb2_grpc
from betting.journal import connection as journal_connection
from betting.journal import install, ownership, partitions
from betting.journal.connection import DRIVER_ERRORS
from betting.life import Life
from betting.runtime import logs
from betting.runtime.errors import ConfigurationError
from betting.runtime.loops import forever
from betting.runtime.principal import Verifier
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.streams.outbox import Outbox

POOL_SIZE = 6
# Millions of long-lived objects: the young generation may be large, and the old one is looked at rarely.
GC_THRESHOLDS = (50_000, 50, 1_000)

_log = logs.get(__name__)


async def compose(context: ServiceContext[BetSettings]) -> Composition:
    """Needs Postgres with a current schema. Redis and odds-service may come later."""
    settings = context.settings
    pool = await context.postgres(max_size=POOL_SIZE, init=journal_connection.prepare)
    name = str(context.life)
    address = settings.address_for_others
    link = JournalLink(settings.postgres_dsn, name, address)
    clock = DatabaseClock()
    await _introduce(pool, context.life, settings, address, clock)
    parts = _Parts()
    committer = Committer(link, clock, parts.committed, parts.lost)
    instance = Instance(
        name=name,
        address=address,
        shard_count=settings.shard_count,
        clock=clock,
        book=PriceBook(int(settings.book_stale_after.total_seconds() * 1_000_000)),
        limits=settings.limits(),
        committer=committer,
    )
    outbox = Outbox(await context.redis(), pool)
    followers = Followers(pool, outbox)
    snapshotter = Snapshotter(pool, committer, name, settings.snapshot_every_entries)
    claimer = Ownership(
        instance,
        pool,
        snapshotter,
        followers,
        settings.orphaned_after.total_seconds(),
        waits_for_prices=bool(settings.odds_service),
    )
    parts.join(followers, snapshotter, claimer)
    verifier = Verifier(settings.internal_secret_bytes)
    execution = Execution(instance, verifier, pool, trace=settings.log_level == "debug")
    servicer = OwnerServicer(instance, execution, Settler(instance, pool), claimer)
    expose(instance, followers)
    context.explanations.append(lambda: explained_bytes(instance))
    odds = context.target("odds-service", settings.odds_service) if settings.odds_service else None
    feed = BookFeed(instance.book, odds, context.service_token)
    gc.set_threshold(*GC_THRESHOLDS)
    return Composition(
        servicers=[
            Servicer(
                owner_pb2_grpc.add_OwnerServiceServicer_to_server,
                servicer,
                "betting.internal.v1.OwnerService",
                # Shards have queues of their own, bounded by entries waiting to be durable.
                unbounded_methods=frozenset({"Execute", "ExecuteShards", "SettleMarket"}),
                quiet_methods=frozenset({"Execute", "ExecuteShards", "GetOwnerStatus"}),
            )
        ],
        background=[
            committer.run,
            claimer.run,
            snapshotter.run,
            followers.run_projector,
            outbox.run,
            feed.run,
            lambda: _maintain_for_ever(pool),
            ShardListener(settings.postgres_dsn, name, claimer.look).run,
        ],
        on_drain=[lambda: claimer.drain(settings.drain_timeout.total_seconds())],
        on_close=[link.close],
        activity=claimer.activity,
    )


async def _introduce(pool: asyncpg.Pool, life: Life, settings: BetSettings, address: str, clock: DatabaseClock) -> None:
    """The instance's row, before anything can be owned; reads the database's clock for the first time."""
    async with pool.acquire() as connection:
        installed = await install.when_installed(connection)
        if installed != settings.shard_count:
            raise ConfigurationError(
                f"BETTING_SHARD_COUNT is {settings.shard_count}, but the platform was installed with {installed}"
            )
        formats = sorted(READABLE_FORMATS)
        await ownership.register(connection, life, address, formats, generation=settings.generation, draining=True)
        await clock.read(connection)


async def _maintain_for_ever(pool: asyncpg.Pool) -> None:
    """Keeps the partitions of the request keys as they should be, from the start."""
    await forever(
        lambda: partitions.maintain(pool),
        every_s=partitions.INTERVAL_S,
        retry_s=partitions.RETRY_S,
        failures=DRIVER_ERRORS,
        log=_log,
        event="request partitions not maintained",
    )


class _Parts:
    """Lets the committer, which is made first, call parts that are made later."""

    def join(self, followers: Followers, snapshotter: Snapshotter, claimer: Ownership) -> None:
        self._followers = followers
        self._snapshotter = snapshotter
        self._claimer = claimer

    def committed(self, owned: OwnedShard, entries: list[Entry]) -> None:
        self._followers.committed(owned, entries)
        self._snapshotter.consider(owned)

    async def lost(self, owned: OwnedShard) -> None:
        await self._claimer.lost(owned)
