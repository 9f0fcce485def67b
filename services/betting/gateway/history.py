"""Settled bets, newest first, from the read model: they may lag behind the journal, money never depends on them."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Final

import asyncpg

from betting.clients.owners import inputs
from betting.engine.ids import account_id
from betting.engine.records import unpack_record
from betting.gateway.endpoints import Call
from betting.runtime import paging, postgres
from betting.v1 import bet_pb2, common_pb2

_QUERY_TIMEOUT_S: Final = 5.0
_INT64_MAX: Final = 2**63 - 1
# A bet stands where its latest settlement stands: an earlier one, corrected since, is passed over.
_SETTLED: Final = """
SELECT settled.sequence, bet.bet, bet.request_key, bet.potential_payout_minor, bet.payout_minor, bet.settled_at_us,
       bet.record
FROM betting.bet_settlements settled
JOIN betting.bets bet ON bet.bet = settled.bet AND bet.settled_sequence = settled.sequence
WHERE settled.account = $1 AND settled.sequence < $2 AND bet.status = 2
ORDER BY settled.sequence DESC
LIMIT $3
"""


class ListSettledBets:
    """BetService.ListSettledBets. pool: of prepared connections; currencies: ISO 4217 codes that are taken."""

    def __init__(self, pool: asyncpg.Pool, currencies: Collection[str]) -> None:
        self._pool = pool
        self._currencies = currencies

    async def unary(self, call: Call) -> bytes:
        """See Endpoint; raises INVALID_ARGUMENT, or UNAVAILABLE when the database does not answer."""
        request: bet_pb2.ListSettledBetsRequest = call.request
        assert call.caller is not None
        currency = inputs.currency(request.currency, self._currencies)
        size = paging.page_size(request.page_size)
        token = paging.decode_token(request.page_token, int)
        before = _INT64_MAX if token is None else token[0]
        account = account_id(call.caller.user_id, currency.encode("ascii"))
        async with postgres.translated():
            rows = await self._pool.fetch(_SETTLED, account, before, size + 1, timeout=_QUERY_TIMEOUT_S)
        return _page(rows, size, currency).SerializeToString()


def _page(rows: list[Any], size: int, currency: str) -> bet_pb2.ListSettledBetsResponse:
    """At most `size` bets; one row more says that there is another page."""
    shown = rows[:size]
    token = paging.encode_token(shown[-1]["sequence"]) if len(rows) > size else ""
    return bet_pb2.ListSettledBetsResponse(bets=[_bet(row, currency) for row in shown], next_page_token=token)


def _bet(row: Any, currency: str) -> bet_pb2.Bet:
    record = unpack_record(row["record"])
    legs = [
        bet_pb2.Leg(
            market_id=leg.market,
            selection_id=leg.selection,
            price=common_pb2.Price(numerator=leg.numerator, denominator=leg.denominator),
        )
        for leg in record.legs
    ]
    return bet_pb2.Bet(
        bet_id=str(uuid.UUID(bytes=row["bet"])),
        request_key=str(uuid.UUID(bytes=row["request_key"])),
        currency=currency,
        stake_minor=record.stake_minor,
        legs=legs,
        status=bet_pb2.BET_STATUS_SETTLED,
        potential_payout_minor=row["potential_payout_minor"],
        payout_minor=row["payout_minor"],
        placed_at_us=record.placed_at_us,
        settled_at_us=row["settled_at_us"],
    )
