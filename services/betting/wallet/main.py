"""Composition root of wallet-service, which has no state of its own."""

from __future__ import annotations

from betting.clients.owners import open_router
from betting.journal import connection as journal_connection
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.v1 import wallet_pb2_grpc
from betting.wallet.history import History
from betting.wallet.servicer import WalletServicer
from betting.wallet.settings import WalletSettings


async def compose(context: ServiceContext[WalletSettings]) -> Composition:
    """Waits for Postgres. If owners are not reachable yet, callers wait until they are or until their deadline."""
    settings = context.settings
    pool = await context.postgres(init=journal_connection.prepare)
    router = await open_router(context)
    return Composition(
        servicers=[
            Servicer(
                wallet_pb2_grpc.add_WalletServiceServicer_to_server,
                WalletServicer(
                    router,
                    History(pool, settings.currency_codes),
                    currencies=settings.currency_codes,
                    sandbox_money=settings.sandbox_money,
                ),
                "betting.v1.WalletService",
                # Callers wait in the router, bounded per shard: in the bulkhead one shard would stop all.
                unbounded_methods=frozenset({"GetBalance", "Deposit", "Withdraw"}),
            )
        ],
        background=list(router.background),
        on_close=[router.close],
    )
