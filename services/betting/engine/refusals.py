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


# What a person can do about it, without amounts: those are the caller's own and travel beside it.
MESSAGES: dict[Refusal, str] = {
    Refusal.KEY_EXPIRED: "the request key is over 30 days old: make a new one",
    Refusal.KEY_IN_FUTURE: "the request key's time is over 5 minutes ahead: set the clock right and make a new one",
    Refusal.KEY_REUSED: "this request key was used for another request: make a new one for every request",
    Refusal.NOT_OWNER: "this instance does not own the shard: ask the owner",
    Refusal.OVERLOADED: "too much is waiting: send the same request again in a moment",
    Refusal.RATE_LIMITED: "too many refused requests for this account: wait a moment",
    Refusal.SHARD_FROZEN: "betting is stopped for this account while a person looks into it",
    Refusal.DEADLINE_PASSED: "the deadline passed before the command's turn came: send the same request again",
    Refusal.BOOK_STALE: "prices are stale: send the same request again when they are back",
    Refusal.ACCOUNT_NOT_FOUND: "there is no account in this currency: deposit to open one",
    Refusal.STAKE_BELOW_MINIMUM: "the stake is below the minimum",
    Refusal.STAKE_ABOVE_MAXIMUM: "the stake is above the maximum",
    Refusal.UNKNOWN_SELECTION: "this selection is not offered",
    Refusal.LEGS_SHARE_EVENT: "two legs are of one event: an accumulator takes one leg per event",
    Refusal.MARKET_RESULTED: "the market has its result: no more bets on it",
    Refusal.MARKET_NOT_OPEN: "the market is suspended or closed",
    Refusal.MARKET_CLOSED: "the market closed",
    Refusal.PRICE_MOVED: "the price moved: look at the current price and bet again",
    Refusal.PAYOUT_ABOVE_MAXIMUM: "the possible payout is above the maximum: lower the stake",
    Refusal.TOO_MANY_OPEN_BETS: "there are too many open bets on this account: wait until some are settled",
    Refusal.BALANCE_ABOVE_MAXIMUM: "the balance would be above the maximum",
    Refusal.OWES_RECEIVABLE: "the account owes money after a corrected result: deposit it before withdrawing",
    Refusal.INSUFFICIENT_FUNDS: "the balance is too low",
}
