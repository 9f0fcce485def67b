"""Why a command is turned down: the first reason, in the order of `betting.engine.refusals`; legs one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from betting.engine.commands import Deposit, PlaceBet, Quote, Withdraw
from betting.engine.ids import account_id
from betting.engine.prices import Limits
from betting.engine.records import SeenLeg
from betting.engine.refusals import Refusal
from reference.ledger import Ledger, cash, receivable

AS_SEEN, ACCEPT_BETTER, ACCEPT_ANY = 0, 1, 2
OPEN = 1


class Shop(NamedTuple):
    """What a decision depends on."""

    ledger: Ledger
    owners: Mapping[bytes, tuple[bytes, bytes]]
    resulted: frozenset[int]
    open_bets: int  # of the account asking
    now_us: int
    limits: Limits


class Turned(NamedTuple):
    """A refusal, the leg it is about, and the figure that its entry keeps (see `RefusedBody`)."""

    refusal: Refusal
    leg: int = 0
    figure: int = 0

    @property
    def field(self) -> str:
        """What a refusal is about that is not recorded."""
        return "currency" if self.refusal is Refusal.ACCOUNT_NOT_FOUND else f"legs[{self.leg}]"


def why_no_bet(shop: Shop, command: PlaceBet) -> Turned | None:
    """The first thing that speaks against a bet."""
    return next(_against_bet(shop, command), None)


def _against_bet(shop: Shop, command: PlaceBet) -> Iterator[Turned]:
    account = account_id(command.user, command.currency)
    if account not in shop.owners:
        yield Turned(Refusal.ACCOUNT_NOT_FOUND)
    for index in range(len(command.legs)):
        yield from _against_meaning(command, index)
    if command.stake_minor < shop.limits.min_stake_minor:
        yield Turned(Refusal.STAKE_BELOW_MINIMUM, figure=shop.limits.min_stake_minor)
    if command.stake_minor > shop.limits.max_stake_minor:
        yield Turned(Refusal.STAKE_ABOVE_MAXIMUM, figure=shop.limits.max_stake_minor)
    for index in range(len(command.legs)):
        yield from _against_leg(shop, command, index)
    if command.stake_minor * _best_return(command) >= shop.limits.max_payout_minor + 1:
        yield Turned(Refusal.PAYOUT_ABOVE_MAXIMUM, figure=shop.limits.max_payout_minor)
    if shop.open_bets + 1 > shop.limits.max_open_bets:
        yield Turned(Refusal.TOO_MANY_OPEN_BETS, figure=shop.limits.max_open_bets)
    if (missing := command.stake_minor - shop.ledger.balance(cash(account))) > 0:
        yield Turned(Refusal.INSUFFICIENT_FUNDS, figure=missing)


def _against_meaning(command: PlaceBet, index: int) -> Iterator[Turned]:
    leg, quote = command.legs[index], command.quotes[index]
    if quote is None:
        yield Turned(Refusal.UNKNOWN_SELECTION, index)
        return
    earlier = list(zip(command.legs, command.quotes, strict=True))[:index]
    if any(e.market == leg.market or (q is not None and q.event == quote.event) for e, q in earlier):
        yield Turned(Refusal.LEGS_SHARE_EVENT, index)


def _against_leg(shop: Shop, command: PlaceBet, index: int) -> Iterator[Turned]:
    leg, quote = command.legs[index], command.quotes[index]
    assert quote is not None
    if leg.market in shop.resulted:
        yield Turned(Refusal.MARKET_RESULTED, index)
    if quote.status != OPEN:
        yield Turned(Refusal.MARKET_NOT_OPEN, index, quote.status)
    if not shop.now_us < quote.closes_at_us:
        yield Turned(Refusal.MARKET_CLOSED, index, quote.closes_at_us)
    if _price(quote) < _price(leg) and command.policy in (AS_SEEN, ACCEPT_BETTER):
        yield Turned(Refusal.PRICE_MOVED, index, quote.numerator * 2**32 + quote.denominator)


def _price(of: Quote | SeenLeg) -> Fraction:
    return Fraction(of.numerator, of.denominator)


def _best_return(command: PlaceBet) -> Fraction:
    """Per unit staked, if every leg wins at the price it would be taken at."""
    best = Fraction(1)
    for leg, quote in zip(command.legs, command.quotes, strict=True):
        assert quote is not None
        best *= 1 + (_price(leg) if command.policy == AS_SEEN else _price(quote))
    return best


def why_no_deposit(shop: Shop, command: Deposit) -> Turned | None:
    """A deposit is turned down only for what would be left as cash after the user's debt is repaid."""
    account = account_id(command.user, command.currency)
    owed, has = -shop.ledger.balance(receivable(account)), shop.ledger.balance(cash(account))
    if has + max(0, command.amount_minor - owed) > shop.limits.max_cash_minor:
        return Turned(Refusal.BALANCE_ABOVE_MAXIMUM, figure=shop.limits.max_cash_minor)
    return None


def why_no_withdrawal(shop: Shop, command: Withdraw) -> Turned | None:
    """Only own money goes out, and none of it while the user owes any."""
    account = account_id(command.user, command.currency)
    if account not in shop.owners:
        return Turned(Refusal.ACCOUNT_NOT_FOUND)
    if (owed := -shop.ledger.balance(receivable(account))) > 0:
        return Turned(Refusal.OWES_RECEIVABLE, figure=owed)
    if (missing := command.amount_minor - shop.ledger.balance(cash(account))) > 0:
        return Turned(Refusal.INSUFFICIENT_FUNDS, figure=missing)
    return None
