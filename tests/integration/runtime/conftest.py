"""A small service with the generated wallet and odds stubs, whose methods each test gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import in_process
import pytest

from betting.runtime.client import Target
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.v1 import odds_pb2, odds_pb2_grpc, wallet_pb2, wallet_pb2_grpc

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Any, Any], AsyncIterator[Any]]


async def _balance(_request: Any, _context: Any) -> Any:
    return wallet_pb2.GetBalanceResponse()


async def _deposit(_request: Any, _context: Any) -> Any:
    return wallet_pb2.DepositResponse()


async def _beats(_request: Any, _context: Any) -> AsyncIterator[Any]:
    for sequence in (1, 2, 3):
        yield odds_pb2.WatchPricesResponse(sequence=sequence)


class _Wallet(wallet_pb2_grpc.WalletServiceServicer):
    def __init__(self, get_balance: Unary, deposit: Unary) -> None:
        self._get_balance = get_balance
        self._deposit = deposit

    async def GetBalance(self, request: Any, context: Any) -> Any:
        return await self._get_balance(request, context)

    async def Deposit(self, request: Any, context: Any) -> Any:
        return await self._deposit(request, context)


class _Odds(odds_pb2_grpc.OddsServiceServicer):
    def __init__(self, watch: Stream) -> None:
        self._watch = watch

    async def WatchPrices(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in self._watch(request, context):
            yield response

    async def ListProducers(self, request: Any, context: Any) -> Any:
        return odds_pb2.ListProducersResponse()


@dataclass(frozen=True)
class Served:
    """A running service and a target to call it with."""

    address: str
    target: Target
    wallet: Any
    odds: Any

    async def balance(self, **options: Any) -> Any:
        """Calls the read."""
        return await self.target.call(
            self.wallet.GetBalance, wallet_pb2.GetBalanceRequest(), **({"idempotent": True} | options)
        )

    async def deposit(self, **options: Any) -> Any:
        """Calls the write."""
        return await self.target.call(
            self.wallet.Deposit, wallet_pb2.DepositRequest(), **({"idempotent": False} | options)
        )


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def _serve(
    *,
    get_balance: Unary = _balance,
    deposit: Unary = _deposit,
    watch: Stream = _beats,
    settings: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    unbounded: frozenset[str] = frozenset(),
) -> AsyncIterator[Served]:
    async def compose(_context: ServiceContext) -> Composition:
        return Composition(
            [
                Servicer(
                    wallet_pb2_grpc.add_WalletServiceServicer_to_server,
                    _Wallet(get_balance, deposit),
                    "betting.v1.WalletService",
                    unbounded_methods=unbounded,
                ),
                Servicer(odds_pb2_grpc.add_OddsServiceServicer_to_server, _Odds(watch), "betting.v1.OddsService"),
            ]
        )

    async with (
        in_process.running(compose, in_process.settings(**(settings or {}))) as address,
        in_process.calling(address, **(target or {})) as peer,
    ):
        wallet, odds = peer.stub(wallet_pb2_grpc.WalletServiceStub), peer.stub(odds_pb2_grpc.OddsServiceStub)
        yield Served(address, peer, wallet, odds)


@pytest.fixture
def serve() -> Serve:
    """Starts the service with the methods given: `async with serve(get_balance=...) as served`."""
    return _serve
