"""Rows of the ledger as the public contract shows them."""

from __future__ import annotations

import uuid

import pytest

from betting.engine.entries import Kind
from betting.journal.read_model import TransactionRow
from betting.runtime import paging
from betting.v1 import wallet_pb2
from betting.wallet import history

BET = uuid.UUID(int=7)


def _row(sequence: int, kind: int = Kind.DEPOSITED, bet: bytes | None = None) -> TransactionRow:
    return TransactionRow(sequence, kind, -5, 2, bet, 99)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (Kind.DEPOSITED, wallet_pb2.TRANSACTION_KIND_DEPOSIT),
        (Kind.WITHDRAWN, wallet_pb2.TRANSACTION_KIND_WITHDRAWAL),
        (Kind.BET_PLACED, wallet_pb2.TRANSACTION_KIND_STAKE),
        (Kind.BET_SETTLED, wallet_pb2.TRANSACTION_KIND_PAYOUT),
        (Kind.BET_RESETTLED, wallet_pb2.TRANSACTION_KIND_CORRECTION),
        (Kind.BET_REOPENED, wallet_pb2.TRANSACTION_KIND_CORRECTION),
        (99, wallet_pb2.TRANSACTION_KIND_UNSPECIFIED),
    ],
)
def test_every_kind_that_moves_money_has_a_name(kind: int, shown: wallet_pb2.TransactionKind) -> None:
    """Amounts keep their sign; a kind of a newer version is shown all the same."""
    transaction = history.transaction(_row(3, kind, BET.bytes))
    assert transaction == wallet_pb2.Transaction(
        sequence=3, kind=shown, cash_minor=-5, receivable_minor=2, bet_id=str(BET), at_us=99
    )


def test_a_movement_without_a_bet_names_none() -> None:
    """An empty string, as proto3 has it."""
    assert history.transaction(_row(1)).bet_id == ""


def test_a_page_ends_with_a_token_only_if_there_is_more() -> None:
    """One row more than asked for is the proof; the token names the last row shown."""
    rows = [_row(9), _row(8), _row(7)]
    page = history.page_of(rows, 2, "GBP")
    assert [each.sequence for each in page.transactions] == [9, 8]
    assert paging.decode_token(page.next_page_token, str, int) == ("GBP", 8)
    assert history.page_of(rows, 3, "GBP").next_page_token == ""
    assert len(history.page_of([], 3, "GBP").transactions) == 0
