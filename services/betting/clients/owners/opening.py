"""A router over the platform's own Postgres and gRPC: what a service's composition root asks for."""

from __future__ import annotations

from typing import Any

from betting.clients.owners.connections import GrpcOwnerConnection
from betting.clients.owners.directory import Directory
from betting.clients.owners.postgres_source import PostgresSource
from betting.clients.owners.router import OwnerRouter, RouterLimits
from betting.life import Life
from betting.runtime import logs
from betting.runtime.errors import ConfigurationError, ServiceError
from betting.runtime.service import ServiceContext

# What owns shards.
OWNER_WORKLOAD = "bet-service"

_log = logs.get(__name__)


async def open_router(context: ServiceContext[Any], *, limits: RouterLimits | None = None) -> OwnerRouter:
    """A router over the platform's Postgres. Run its `background`, await `close` when the process ends.

    Raises ConfigurationError when the platform was installed with another number of shards: users would be looked for
    in the wrong ones.
    """
    source = PostgresSource(await context.postgres())
    try:
        installed = await source.shard_count()
    except ServiceError as error:
        _log.warning("shard count not checked", reason=error.reason)
        installed = None
    if installed is not None and installed != context.settings.shard_count:
        raise ConfigurationError(
            f"BETTING_SHARD_COUNT is {context.settings.shard_count}, but the platform was installed with {installed}"
        )
    directory = Directory(source.fetch)
    await directory.refresh()
    router = OwnerRouter(
        directory,
        lambda owner, address: GrpcOwnerConnection(
            address, Life.parse(OWNER_WORKLOAD, owner), context.service_token, context.peer_records
        ),
        shard_count=context.settings.shard_count,
        limits=limits,
    )
    router.background.append(lambda: source.listen(directory.want))
    return router
