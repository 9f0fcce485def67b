"""Is this the same request as the one its key was first used for? If not, which field differs."""

from __future__ import annotations

from typing import NamedTuple

from betting.engine.commands import Deposit, PlaceBet, PriorAnswer, Withdraw
from betting.engine.entries import Kind
from betting.engine.ids import account_id
from betting.engine.records import AMOUNT, MOVED_BODY, SeenLeg, unpack_bet_content, unpack_placed, unpack_refused


class Content(NamedTuple):
    """What a money command asked for; fields in the order they are compared."""

    method: int
    account: bytes
    amount_minor: int
    legs: tuple[SeenLeg, ...]
    policy: int


def difference(command: PlaceBet | Deposit | Withdraw, first: PriorAnswer) -> str:
    """The name of the first field in which a repeat differs from the first request; empty when they are the same."""
    now, then = _content_of_command(command), content_of_entry(first.kind, first.body)
    if now.method != then.method:
        return "method"
    if now.account != then.account:
        return "account"
    if now.amount_minor != then.amount_minor:
        return "stake_minor" if now.method == Kind.BET_PLACED else "amount_minor"
    if now.legs != then.legs:
        return "legs"
    if now.policy != then.policy:
        return "price_change_policy"
    return ""


def _content_of_command(command: PlaceBet | Deposit | Withdraw) -> Content:
    account = account_id(command.user, command.currency)
    match command:
        case PlaceBet():
            return Content(Kind.BET_PLACED, account, command.stake_minor, command.legs, command.policy)
        case Deposit():
            return Content(Kind.DEPOSITED, account, command.amount_minor, (), 0)
        case Withdraw():
            return Content(Kind.WITHDRAWN, account, command.amount_minor, (), 0)


def content_of_entry(kind: int, body: bytes) -> Content:
    """What the request behind a keyed entry asked for. Raises ValueError for a kind that has no request key."""
    if kind == Kind.BET_PLACED:
        placed = unpack_placed(body)
        return Content(kind, placed.record.account, placed.record.stake_minor, placed.seen, placed.policy)
    if kind in (Kind.DEPOSITED, Kind.WITHDRAWN):
        account, amount, *_balance = MOVED_BODY.unpack(body)
        return Content(kind, account, amount, (), 0)
    if kind != Kind.REFUSED:
        raise ValueError(f"entries of kind {kind} carry no request key")
    refused = unpack_refused(body)
    if refused.command_kind == Kind.BET_PLACED:
        stake, policy, legs = unpack_bet_content(refused.content)
        return Content(Kind.BET_PLACED, refused.account, stake, legs, policy)
    (amount,) = AMOUNT.unpack(refused.content)
    return Content(refused.command_kind, refused.account, amount, (), 0)
