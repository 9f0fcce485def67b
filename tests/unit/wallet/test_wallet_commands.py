"""WalletService in terms of the owners' commands."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest

from betting.internal.v1 import owner_pb2
from betting.runtime.errors import ServiceError
from betting.v1 import common_pb2, wallet_pb2
from betting.wallet import commands
from betting.wallet.commands import Caller

CURRENCIES = ("EUR", "GBP")
CALLER = Caller(b"signed by the gateway", "c-1")
KEY = "0198c0de-0000-7000-8000-000000000001"
BALANCE = owner_pb2.Balance(cash_minor=5, open_stakes_minor=3, receivable_minor=1, currency="GBP")


def test_a_deposit_carries_the_callers_principal_unchanged() -> None:
    """The owner checks the gateway's signature itself; the key becomes 16 bytes."""
    request = wallet_pb2.DepositRequest(request_key=KEY.upper(), currency="GBP", amount_minor=250)
    command = commands.deposit(request, CALLER, CURRENCIES)
    assert (command.principal, command.correlation_id) == (CALLER.principal, b"c-1")
    assert (command.request_key, command.currency) == (uuid.UUID(KEY).bytes, "GBP")
    assert command.deposit.amount_minor == 250
    assert command.WhichOneof("command") == "deposit"


def test_a_withdrawal_is_no_deposit() -> None:
    """Each method makes its own command."""
    request = wallet_pb2.WithdrawRequest(request_key=KEY, currency="GBP", amount_minor=1)
    assert commands.withdraw(request, CALLER, CURRENCIES).WhichOneof("command") == "withdraw"
    balance = commands.get_balance(wallet_pb2.GetBalanceRequest(currency="EUR"), CALLER, CURRENCIES)
    assert (balance.WhichOneof("command"), balance.request_key, balance.currency) == ("get_balance", b"", "EUR")


@pytest.mark.parametrize(
    ("key", "currency", "amount", "reason"),
    [
        ("", "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        ("nonsense", "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        ("0198c0de-0000-4000-8000-000000000001", "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        (KEY.replace("-", ""), "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        ("{" + KEY + "}", "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        ("x" * 1_000_000, "GBP", 1, "REQUEST_KEY_NOT_UUID7"),
        (KEY, "", 1, "CURRENCY"),
        (KEY, "gbp", 1, "CURRENCY"),
        (KEY, "JPY", 1, "CURRENCY"),
        (KEY, "GBP\n", 1, "CURRENCY"),
        (KEY, "ÄÖÜ", 1, "CURRENCY"),
        (KEY, "GBP", 0, "AMOUNT_NOT_POSITIVE"),
        (KEY, "GBP", -(2**63), "AMOUNT_NOT_POSITIVE"),
    ],
)
def test_what_cannot_be_meant_is_refused(key: str, currency: str, amount: int, reason: str) -> None:
    """Each with its own reason and a message of bounded length, for deposits and withdrawals alike."""
    fields = {"request_key": key, "currency": currency, "amount_minor": amount}
    request: Any
    for make, request in (
        (commands.deposit, wallet_pb2.DepositRequest(**fields)),  # type: ignore[arg-type]
        (commands.withdraw, wallet_pb2.WithdrawRequest(**fields)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ServiceError) as refused:
            make(request, CALLER, CURRENCIES)
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert len(refused.value.message) < 250


def test_a_currency_that_is_not_taken_is_refused_with_the_list() -> None:
    """The caller learns what the platform takes."""
    with pytest.raises(ServiceError) as refused:
        commands.get_balance(wallet_pb2.GetBalanceRequest(currency="JPY"), CALLER, CURRENCIES)
    assert refused.value.message == "currency is 'JPY': give one of EUR, GBP (ISO 4217, in capitals)"


def test_a_balance_is_an_answer_to_all_three() -> None:
    """With every figure of the owner's, and whether it repeats an earlier answer."""
    result = owner_pb2.Result(balance=BALANCE, repeated=True)
    expected = wallet_pb2.Balance(currency="GBP", cash_minor=5, open_stakes_minor=3, receivable_minor=1)
    assert commands.get_balance_response(result).balance == expected
    deposit = commands.deposit_response(result)
    assert (deposit.balance, deposit.repeated) == (expected, True)
    assert commands.withdraw_response(result).balance == expected


def test_a_refused_move_is_an_answer() -> None:
    """Final refusals are answered again to a repeat, so they are replies and no errors."""
    refusal = common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS, message="not enough")
    result = owner_pb2.Result(refusal=refusal, repeated=True)
    assert commands.withdraw_response(result).refusal == refusal
    assert commands.withdraw_response(result).repeated
    assert commands.deposit_response(result).refusal == refusal


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (common_pb2.REFUSAL_CODE_OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (common_pb2.REFUSAL_CODE_RATE_LIMITED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (common_pb2.REFUSAL_CODE_SHARD_FROZEN, grpc.StatusCode.UNAVAILABLE),
        (common_pb2.REFUSAL_CODE_DEADLINE_PASSED, grpc.StatusCode.UNAVAILABLE),
        (common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_a_refused_balance_is_an_error(code: common_pb2.RefusalCode, status: grpc.StatusCode) -> None:
    """GetBalance has no place for a refusal: transient ones may be tried again, and the code says so."""
    result = owner_pb2.Result(refusal=common_pb2.Refusal(code=code, message="because"))
    with pytest.raises(ServiceError) as refused:
        commands.get_balance_response(result)
    name = common_pb2.RefusalCode.Name(code).removeprefix("REFUSAL_CODE_")
    assert (refused.value.code, refused.value.reason, refused.value.message) == (status, name, "because")


def test_an_answer_that_is_none_is_our_fault() -> None:
    """A bet for a deposit, say: INTERNAL, never a made-up balance."""
    with pytest.raises(ServiceError) as refused:
        commands.deposit_response(owner_pb2.Result())
    assert refused.value.code == grpc.StatusCode.INTERNAL
