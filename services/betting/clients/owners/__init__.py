"""The way to a shard's owner, shared by the gateway, wallet-service and settlement-service.

`OwnerRouter` takes commands for shards and answers with the owner's results: it knows who owns what (`directory`),
gathers concurrent commands into few calls (`queues`, `links`), and holds callers while a shard changes hands.
"""

from betting.clients.owners.connections import GrpcOwnerConnection, OwnerConnection
from betting.clients.owners.directory import Directory, Route
from betting.clients.owners.opening import open_router
from betting.clients.owners.router import OwnerRouter, RouterLimits, result_of
from betting.clients.owners.shard_queues import CommandResult, Waiter

__all__ = [
    "CommandResult",
    "Directory",
    "GrpcOwnerConnection",
    "OwnerConnection",
    "OwnerRouter",
    "Route",
    "RouterLimits",
    "Waiter",
    "open_router",
    "result_of",
]
