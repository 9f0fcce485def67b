"""Rows as the public contract shows them. Pure."""

from __future__ import annotations

import uuid
from typing import Final

from betting.journal.notifications import Row
from betting.runtime.currencies import DECIMALS
from betting.v1 import notification_pb2 as pb

_TEXTS: Final = {
    pb.NOTIFICATION_KIND_DEPOSIT: "You paid in {amount}.",
    pb.NOTIFICATION_KIND_WITHDRAWAL: "You withdrew {amount}.",
    pb.NOTIFICATION_KIND_BET_WON: "Your bet of {stake} won: it pays {amount}.",
    pb.NOTIFICATION_KIND_BET_LOST: "Your bet of {stake} lost.",
    pb.NOTIFICATION_KIND_BET_RETURNED: "Your bet of {stake} pays {amount} back.",
    pb.NOTIFICATION_KIND_BET_CORRECTED: "A result was corrected: a bet of yours pays {amount} instead of {before}.",
    pb.NOTIFICATION_KIND_BET_REOPENED: "A result was corrected: your bet of {stake} is open again.",
}


def notification(row: Row) -> pb.Notification:
    """One notification. A kind that a newer version writes is shown as unspecified, its amounts all the same."""
    known = row.kind in _TEXTS
    return pb.Notification(
        notification_id=row.sequence,
        kind=row.kind if known else pb.NOTIFICATION_KIND_UNSPECIFIED,  # type: ignore[arg-type]  # the numbers are kept
        currency=row.currency,
        amount_minor=row.amount_minor,
        stake_minor=row.stake_minor,
        amount_before_minor=row.amount_before_minor,
        bet_id="" if row.bet is None else str(uuid.UUID(bytes=row.bet)),
        at_us=row.at_us,
        read=row.read,
        text=_text(row) if known else "",
    )


def money(amount_minor: int, currency: str) -> str:
    """12.50 GBP."""
    decimals = DECIMALS.get(currency, 2)
    whole, part = divmod(amount_minor, 10**decimals)
    return f"{whole:,}.{part:0{decimals}d} {currency}" if decimals else f"{whole:,} {currency}"


def _text(row: Row) -> str:
    return _TEXTS[row.kind].format(  # type: ignore[index]  # the numbers are those of the enum
        amount=money(row.amount_minor, row.currency),
        stake=money(row.stake_minor, row.currency),
        before=money(row.amount_before_minor, row.currency),
    )
