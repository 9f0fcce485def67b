"""WalletService in terms of the owners' commands: checks at the edge, commands out, results back. Pure.

The owner checks again, and what needs its state; here is what a person can put right without it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from betting.clients.owners import inputs, refused
from betting.internal.v1 import owner_pb2
from betting.runtime.errors import internal, invalid_argument
from betting.v1 import wallet_pb2


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a command. The principal that the gateway signed goes on unchanged; the owner verifies it again."""

    principal: bytes
    correlation_id: str


def amount_minor(amount: int) -> int:
    """A positive amount in minor units. Raises INVALID_ARGUMENT AMOUNT_NOT_POSITIVE."""
    if amount <= 0:
        raise invalid_argument("AMOUNT_NOT_POSITIVE", f"amount_minor is {amount}: give positive minor units")
    return amount


def get_balance(
    request: wallet_pb2.GetBalanceRequest, caller: Caller, currencies: Collection[str]
) -> owner_pb2.Command:
    """The command for GetBalance; currencies: ISO 4217 codes that are taken."""
    currency = inputs.currency(request.currency, currencies)
    return _command(caller, currency=currency, get_balance=owner_pb2.GetBalance())


def deposit(request: wallet_pb2.DepositRequest, caller: Caller, currencies: Collection[str]) -> owner_pb2.Command:
    """The command for Deposit."""
    return _command(
        caller,
        request_key=inputs.request_key(request.request_key),
        currency=inputs.currency(request.currency, currencies),
        deposit=owner_pb2.Deposit(amount_minor=amount_minor(request.amount_minor)),
    )


def withdraw(request: wallet_pb2.WithdrawRequest, caller: Caller, currencies: Collection[str]) -> owner_pb2.Command:
    """The command for Withdraw."""
    return _command(
        caller,
        request_key=inputs.request_key(request.request_key),
        currency=inputs.currency(request.currency, currencies),
        withdraw=owner_pb2.Withdraw(amount_minor=amount_minor(request.amount_minor)),
    )


def _command(caller: Caller, **wanted: Any) -> owner_pb2.Command:
    return owner_pb2.Command(
        principal=caller.principal, correlation_id=caller.correlation_id.encode(), traced=True, **wanted
    )


def get_balance_response(result: owner_pb2.Result) -> wallet_pb2.GetBalanceResponse:
    """The reply to GetBalance. A refusal has no place in it and is raised."""
    if result.HasField("refusal"):
        raise refused.error_of(result.refusal)
    return wallet_pb2.GetBalanceResponse(balance=_balance(result))


def deposit_response(result: owner_pb2.Result) -> wallet_pb2.DepositResponse:
    """The reply to Deposit."""
    if result.HasField("refusal"):
        return wallet_pb2.DepositResponse(refusal=result.refusal, repeated=result.repeated)
    return wallet_pb2.DepositResponse(balance=_balance(result), repeated=result.repeated)


def withdraw_response(result: owner_pb2.Result) -> wallet_pb2.WithdrawResponse:
    """The reply to Withdraw."""
    if result.HasField("refusal"):
        return wallet_pb2.WithdrawResponse(refusal=result.refusal, repeated=result.repeated)
    return wallet_pb2.WithdrawResponse(balance=_balance(result), repeated=result.repeated)


def _balance(result: owner_pb2.Result) -> wallet_pb2.Balance:
    if not result.HasField("balance"):
        raise internal(
            "OWNER_REPLY", "the account's owner did not answer with a balance: repeat with the same request_key"
        )
    inner = result.balance
    return wallet_pb2.Balance(
        currency=inner.currency,
        cash_minor=inner.cash_minor,
        open_stakes_minor=inner.open_stakes_minor,
        receivable_minor=inner.receivable_minor,
    )
