"""An account's movements from the read model, newest first: they may lag behind the journal."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final

import asyncpg

from betting.clients.owners import inputs
from betting.engine.entries import Kind
from betting.engine.ids import account_id
from betting.journal import read_model
from betting.journal.read_model import TransactionRow
from betting.runtime import paging
from betting.runtime.errors import invalid_argument
from betting.runtime.postgres import translated
from betting.v1 import wallet_pb2

_KINDS: Final = {
    Kind.DEPOSITED: wallet_pb2.TRANSACTION_KIND_DEPOSIT,
    Kind.WITHDRAWN: wallet_pb2.TRANSACTION_KIND_WITHDRAWAL,
    Kind.BET_PLACED: wallet_pb2.TRANSACTION_KIND_STAKE,
    Kind.BET_SETTLED: wallet_pb2.TRANSACTION_KIND_PAYOUT,
    Kind.BET_RESETTLED: wallet_pb2.TRANSACTION_KIND_CORRECTION,
    Kind.BET_REOPENED: wallet_pb2.TRANSACTION_KIND_CORRECTION,
}


class History:
    """Reads `betting.ledger`. pool: of connections prepared for the journal (uuid columns are 16 bytes);
    currencies: ISO 4217 codes that are taken."""

    def __init__(self, pool: asyncpg.Pool, currencies: Collection[str]) -> None:
        self._pool = pool
        self._currencies = currencies

    async def page(
        self, user_id: bytes, request: wallet_pb2.ListTransactionsRequest
    ) -> wallet_pb2.ListTransactionsResponse:
        """One page. Raises INVALID_ARGUMENT, or UNAVAILABLE when the database does not answer."""
        currency = inputs.currency(request.currency, self._currencies)
        size = paging.page_size(request.page_size)
        before = _before(request.page_token, currency)
        account = account_id(user_id, currency.encode("ascii"))
        async with translated(), self._pool.acquire() as connection:
            rows = await read_model.transactions(connection, account, size + 1, before)
        return page_of(rows, size, currency)


def page_of(rows: list[TransactionRow], size: int, currency: str) -> wallet_pb2.ListTransactionsResponse:
    """At most `size` movements; one row more says that there is another page. Pure."""
    shown = rows[:size]
    token = paging.encode_token(currency, shown[-1].sequence) if len(rows) > size else ""
    return wallet_pb2.ListTransactionsResponse(transactions=[transaction(row) for row in shown], next_page_token=token)


def transaction(row: TransactionRow) -> wallet_pb2.Transaction:
    """A movement as the public contract shows it. Pure."""
    return wallet_pb2.Transaction(
        sequence=row.sequence,
        # A kind that a newer version writes is shown as unspecified, its amounts all the same.
        kind=_KINDS.get(row.kind, wallet_pb2.TRANSACTION_KIND_UNSPECIFIED),  # type: ignore[call-overload]
        cash_minor=row.cash_minor,
        receivable_minor=row.receivable_minor,
        bet_id="" if row.bet is None else str(uuid.UUID(bytes=row.bet)),
        at_us=row.at_us,
    )


def _before(page_token: str, currency: str) -> int:
    key = paging.decode_token(page_token, str, int)
    if key is None:
        return read_model.FIRST_PAGE
    if key[0] != currency:
        message = f"page_token belongs to {key[0]!r}, not to {currency}: start again without it"
        raise invalid_argument("PAGE_TOKEN_INVALID", message)
    sequence: int = key[1]
    return sequence
