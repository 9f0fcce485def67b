"""A service process for the tests of signals and exit codes: its first argument says how to behave."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from betting.runtime.service import Composition, ServiceContext, Servicer, run_service
from betting.v1 import odds_pb2, odds_pb2_grpc, wallet_pb2, wallet_pb2_grpc

MODE = sys.argv[1]


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    """GetBalance answers at once, Deposit when a line came on stdin."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self.release = asyncio.Event()

    async def GetBalance(self, request: Any, context: Any) -> Any:
        return wallet_pb2.GetBalanceResponse()

    async def Deposit(self, request: Any, context: Any) -> Any:
        self._context.log.info("deposit entered")
        await self.release.wait()
        return wallet_pb2.DepositResponse(repeated=True)

    async def read_stdin(self) -> None:
        """A line releases the deposits; a line `die` ends this background task."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if line == b"die\n":
                raise RuntimeError("told to die")
            self.release.set()
        await asyncio.Event().wait()


class Odds(odds_pb2_grpc.OddsServiceServicer):
    """A stream without end."""

    async def WatchPrices(self, request: Any, context: Any) -> Any:
        yield odds_pb2.WatchPricesResponse(sequence=1)
        await asyncio.Event().wait()


async def compose(context: ServiceContext) -> Composition:
    """Hooks that leave a line each."""

    async def say(what: str) -> None:
        context.log.info(what)

    async def broken() -> None:
        raise RuntimeError("this hook is broken")

    if MODE == "needs-postgres":
        await context.postgres()
    if MODE == "compose-fails":
        raise LookupError("cannot be put together")
    wallet = Wallet(context)
    return Composition(
        servicers=[
            Servicer(wallet_pb2_grpc.add_WalletServiceServicer_to_server, wallet, "betting.v1.WalletService"),
            Servicer(odds_pb2_grpc.add_OddsServiceServicer_to_server, Odds(), "betting.v1.OddsService"),
        ],
        background=[wallet.read_stdin],
        on_drain=[broken, lambda: say("hook on_drain")],
        on_close=[broken, lambda: say("hook on_close")],
    )


if __name__ == "__main__":
    run_service("wallet-service", compose)
