"""Every reason a command is turned down, in checking order. Numbers as in betting.v1.RefusalCode."""

from __future__ import annotations

from enum import IntEnum
from typing import assert_never


class Refusal(IntEnum):
    """Final refusals are entries and are answered again to a repeat; the others write nothing, the key stays free."""

    # About the request key, before anything else.
    KEY_EXPIRED = 60
    KEY_IN_FUTURE = 61
    KEY_REUSED = 62

    # Transient: the shell says these before `decide` is asked.
    NOT_OWNER = 42
    OVERLOADED = 41
    RATE_LIMITED = 43
    SHARD_FROZEN = 44
    DEADLINE_PASSED = 45
    BOOK_STALE = 40

    # What cannot be meant, whatever its amount; found out only where accounts and prices are known.
    ACCOUNT_NOT_FOUND = 10
    UNKNOWN_SELECTION = 19
    LEGS_SHARE_EVENT = 20

    # Final, in the order `decide` looks.
    STAKE_BELOW_MINIMUM = 12
    STAKE_ABOVE_MAXIMUM = 13
    MARKET_RESULTED = 18
    MARKET_NOT_OPEN = 16
    MARKET_CLOSED = 17
    PRICE_MOVED = 15
    PAYOUT_ABOVE_MAXIMUM = 14
    TOO_MANY_OPEN_BETS = 21
    BALANCE_ABOVE_MAXIMUM = 22
    OWES_RECEIVABLE = 23
    INSUFFICIENT_FUNDS = 11


def is_final(refusal: Refusal) -> bool:
    """Whether a refusal is recorded and answered again to a repeat of the same request key."""
    match refusal:
        case Refusal.KEY_EXPIRED | Refusal.KEY_IN_FUTURE | Refusal.KEY_REUSED:
            return False
        case Refusal.NOT_OWNER | Refusal.OVERLOADED | Refusal.RATE_LIMITED | Refusal.SHARD_FROZEN:
            return False
        case Refusal.DEADLINE_PASSED | Refusal.BOOK_STALE:
            return False
        case Refusal.ACCOUNT_NOT_FOUND | Refusal.UNKNOWN_SELECTION | Refusal.LEGS_SHARE_EVENT:
            return False
        case Refusal.STAKE_BELOW_MINIMUM | Refusal.STAKE_ABOVE_MAXIMUM | Refusal.MARKET_RESULTED:
            return True
        case Refusal.MARKET_NOT_OPEN | Refusal.MARKET_CLOSED | Refusal.PRICE_MOVED:
            return True
        case Refusal.PAYOUT_ABOVE_MAXIMUM | Refusal.TOO_MANY_OPEN_BETS | Refusal.BALANCE_ABOVE_MAXIMUM:
            return True
        case Refusal.OWES_RECEIVABLE | Refusal.INSUFFICIENT_FUNDS:
            return True
        case _:
            assert_never(refusal)
