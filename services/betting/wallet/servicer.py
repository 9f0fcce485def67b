"""WalletService over gRPC."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import grpc

from betting.clients.owners import OwnerRouter
from betting.internal.v1 import owner_pb2
from betting.runtime import context as request_context
from betting.runtime.errors import failed_precondition
from betting.runtime.principal import current_token, require_user
from betting.v1 import wallet_pb2, wallet_pb2_grpc
from betting.wallet import commands
from betting.wallet.commands import Caller
from betting.wallet.history import History

# Left of the caller's time for the answer to travel: what became of the command is worth saying.
ANSWER_MARGIN_S: Final = 0.05

Context = grpc.aio.ServicerContext[Any, Any]


class WalletServicer(wallet_pb2_grpc.WalletServiceServicer):
    """betting.v1.WalletService: every call is on behalf of the user of its principal.

    currencies: the ISO 4217 codes that are accepted; sandbox_money: whether deposits and withdrawals of play money are
    allowed.
    """

    def __init__(
        self, router: OwnerRouter, history: History, *, currencies: Collection[str], sandbox_money: bool
    ) -> None:
        self._router = router
        self._history = history
        self._currencies = currencies
        self._sandbox_money = sandbox_money

    async def GetBalance(
        self, request: wallet_pb2.GetBalanceRequest, context: Context
    ) -> wallet_pb2.GetBalanceResponse:
        """The balance, read from the owner: never stale."""
        user_id, caller = _caller(context)
        result = await self._executed(user_id, commands.get_balance(request, caller, self._currencies))
        return commands.get_balance_response(result)

    async def Deposit(self, request: wallet_pb2.DepositRequest, context: Context) -> wallet_pb2.DepositResponse:
        """Deposits play money. Raises FAILED_PRECONDITION SANDBOX_MONEY_OFF unless sandbox money is on."""
        user_id, caller = _caller(context)
        self._require_play_money("deposits are closed: there is no payment provider behind them, so each would be free")
        command = commands.deposit(request, caller, self._currencies)
        return commands.deposit_response(await self._executed(user_id, command))

    async def Withdraw(self, request: wallet_pb2.WithdrawRequest, context: Context) -> wallet_pb2.WithdrawResponse:
        """Withdraws play money. Raises FAILED_PRECONDITION SANDBOX_MONEY_OFF unless sandbox money is on."""
        user_id, caller = _caller(context)
        self._require_play_money(
            "withdrawals are closed: there is no payment provider behind them, so what leaves the account would reach "
            "nobody"
        )
        command = commands.withdraw(request, caller, self._currencies)
        return commands.withdraw_response(await self._executed(user_id, command))

    async def ListTransactions(
        self, request: wallet_pb2.ListTransactionsRequest, context: Context
    ) -> wallet_pb2.ListTransactionsResponse:
        """Transactions from the read model."""
        user_id, _ = _caller(context)
        return await self._history.page(user_id, request)

    def _require_play_money(self, why_not: str) -> None:
        if not self._sandbox_money:
            message = f"{why_not}. For play money set BETTING_SANDBOX_MONEY=true for wallet-service"
            raise failed_precondition("SANDBOX_MONEY_OFF", message)

    async def _executed(self, user_id: bytes, command: owner_pb2.Command) -> owner_pb2.Result:
        remaining_s = request_context.remaining_s()
        timeout_s = None if remaining_s is None else max(0.0, remaining_s - ANSWER_MARGIN_S)
        return await self._router.execute(user_id, command, timeout_s=timeout_s)


def _caller(context: Context) -> tuple[bytes, Caller]:
    principal, token = require_user(context), current_token()
    assert principal.user_id is not None, "require_user has checked it"
    assert token is not None, "a verified principal came as a token"
    return principal.user_id, Caller(token, request_context.correlation_id.get())
