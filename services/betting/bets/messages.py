"""What a refusal tells a person: the value, the limit, and what to do next. No I/O.

A recorded refusal is told from its entry alone, so that a repeat is told the same. Amounts are the caller's own, in
minor units, written as they stand in requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from betting.engine.commands import Deposit, MarketStatus, PlaceBet, PriorAnswer, Rejected, Withdraw
from betting.engine.decide import KEY_AHEAD_MS, KEY_LIFETIME_MS
from betting.engine.entries import Kind
from betting.engine.ids import key_time_ms
from betting.engine.prices import potential_payout
from betting.engine.records import AMOUNT, RefusedBody, SeenLeg, unpack_bet_content
from betting.engine.refusals import Refusal
from betting.engine.repeats import content_of_entry

SHOWN_PAYOUT_MAX = 10**18
_DAY_MS = 24 * 3600 * 1000

Money = PlaceBet | Deposit | Withdraw


def recorded(refused: RefusedBody, currency: str) -> str:
    """The message of a recorded refusal. Raises struct.error if the body of the entry is malformed."""
    if refused.command_kind == Kind.BET_PLACED:
        return _bet(refused, currency)
    (amount,) = AMOUNT.unpack(refused.content)
    return _cash(refused, amount, f"minor units of {currency}")


def _bet(refused: RefusedBody, currency: str) -> str:
    stake, policy, legs = unpack_bet_content(refused.content)
    figure, units = refused.figure, f"minor units of {currency}"
    match refused.code:
        case Refusal.STAKE_BELOW_MINIMUM:
            return f"stake_minor is {stake}, the minimum is {_known(figure)} ({units}): raise the stake"
        case Refusal.STAKE_ABOVE_MAXIMUM:
            return f"stake_minor is {stake}, the maximum is {_known(figure)} ({units}): lower the stake"
        case Refusal.PAYOUT_ABOVE_MAXIMUM:
            return _payout(stake, policy, legs, figure, units)
        case Refusal.TOO_MANY_OPEN_BETS:
            return f"the account has {_known(figure)} open bets, the most there may be: wait until some are settled"
        case Refusal.INSUFFICIENT_FUNDS if figure:
            has = f"stake_minor is {stake}, the balance is {stake - figure} ({units})"
            return f"{has}: deposit at least {figure} or lower the stake"
        case Refusal.INSUFFICIENT_FUNDS:
            return f"stake_minor is {stake}, more than the balance ({units}): deposit money or lower the stake"
        case _:
            index = min(refused.leg_index, len(legs) - 1)
            return _leg(refused, legs[index], f"legs[{index}]")


def _leg(refused: RefusedBody, leg: SeenLeg, at: str) -> str:
    market, figure = f"{at}: market {leg.market}", refused.figure
    match refused.code:
        case Refusal.PRICE_MOVED:
            now = "{}/{}".format(*refused.current_price)
            moved = f"{market} selection {leg.selection} was at {leg.numerator}/{leg.denominator} and is at {now} now"
            return f"{moved}: bet again with the price {now}, or with a price_change_policy that accepts it"
        case Refusal.MARKET_NOT_OPEN if figure in MarketStatus.__members__.values():
            status = MarketStatus(figure)
            until = "wait until it opens again" if status is MarketStatus.SUSPENDED else "choose another market"
            return f"{market} is {status.name.lower()}: no bets are taken, {until}"
        case Refusal.MARKET_NOT_OPEN:
            return f"{market} is not open: no bets are taken, wait until it opens or choose another market"
        case Refusal.MARKET_CLOSED:
            when = f" at {time_text(figure)}" if figure else ""
            return f"{market} closed{when}: no bets are taken any more, choose another market"
        case Refusal.MARKET_RESULTED:
            return f"{market} has its result: no bets are taken any more, choose another market"
        case _:  # a code of a later release
            return f"{market}: the bet was refused, see the code"


def _payout(stake: int, policy: int, legs: Sequence[SeenLeg], limit: int, units: str) -> str:
    most = f"the most a bet may pay is {_known(limit)} ({units})"
    if policy:  # decided at prices that the entry does not keep
        return f"stake_minor is {stake} and could pay more at the prices there are now; {most}: lower the stake"
    prices = [(leg.numerator, leg.denominator) for leg in legs]
    could = potential_payout(stake, prices)
    pays = str(could) if could <= SHOWN_PAYOUT_MAX else f"over {SHOWN_PAYOUT_MAX}"
    allowed = _highest_stake(limit, legs)
    lower = f"lower the stake to at most {allowed}" if allowed else "choose shorter prices or fewer legs"
    return f"stake_minor is {stake} and could pay {pays}; {most}: {lower}"


def _highest_stake(limit: int, legs: Sequence[SeenLeg]) -> int:
    """The largest stake whose payout, rounded down, is within the limit."""
    top, bottom = 1, 1
    for leg in legs:
        top *= leg.numerator + leg.denominator
        bottom *= leg.denominator
    return -(-(limit + 1) * bottom // top) - 1


def _cash(refused: RefusedBody, amount: int, units: str) -> str:
    figure = refused.figure
    match refused.code:
        case Refusal.BALANCE_ABOVE_MAXIMUM:
            most = f"the maximum is {_known(figure)} ({units})"
            return f"amount_minor is {amount} and would raise the balance above its maximum; {most}: deposit less"
        case Refusal.OWES_RECEIVABLE:
            owed = f"the account owes {_known(figure)} ({units}) after a corrected result"
            return f"amount_minor is {amount}, but {owed}: deposit what is owed before withdrawing"
        case Refusal.INSUFFICIENT_FUNDS if figure:
            has = amount - figure
            less = f"withdraw at most {has}" if has else "there is nothing to withdraw"
            return f"amount_minor is {amount}, the balance is {has} ({units}): {less}"
        case Refusal.INSUFFICIENT_FUNDS:
            return f"amount_minor is {amount}, more than the balance ({units}): withdraw less"
        case _:  # a code of a later release
            return f"amount_minor is {amount} ({units}): refused, see the code"


def rejected(reply: Rejected, command: Money, now_us: int, first: PriorAnswer | None) -> str:
    """The message of a command that `decide` refused without an entry.

    first: what the request key was first used for.
    """
    match reply.refusal:
        case Refusal.KEY_REUSED:
            return _reused(reply.field, command, first)
        case Refusal.KEY_EXPIRED:
            made, days = time_text(key_time_ms(command.key) * 1000), KEY_LIFETIME_MS // _DAY_MS
            return f"request_key was made at {made}, over {days} days ago: make a new one"
        case Refusal.KEY_IN_FUTURE:
            made, now = time_text(key_time_ms(command.key) * 1000), time_text(now_us)
            over = f"over {KEY_AHEAD_MS // 60_000} minutes ahead of {now}"
            return f"request_key is of {made}, {over}: set the clock right and make a new one"
        case Refusal.ACCOUNT_NOT_FOUND:
            return no_account(command.currency)
        case Refusal.UNKNOWN_SELECTION if isinstance(command, PlaceBet):
            index = command.quotes.index(None)
            leg = command.legs[index]
            where = f"legs[{index}]: market {leg.market} has no selection {leg.selection} on offer"
            return f"{where}: ask OddsService for what is offered"
        case Refusal.LEGS_SHARE_EVENT if isinstance(command, PlaceBet):
            return _sharing(command)
        case _:
            return f"{reply.field}: {reply.refusal.name}"


def _reused(field: str, command: Money, first: PriorAnswer | None) -> str:
    """Names both values only if both requests are about the same account; `difference` compares the accounts first."""
    differs = f"{field} differs"
    if field in ("stake_minor", "amount_minor") and first is not None:
        now = command.stake_minor if isinstance(command, PlaceBet) else command.amount_minor
        differs += f": {content_of_entry(first.kind, first.body).amount_minor} then, {now} now"
    return f"request_key was used for another request ({differs}): make a new one for every request"


def _sharing(command: PlaceBet) -> str:
    seen: dict[tuple[str, int], int] = {}
    for index, (leg, quote) in enumerate(zip(command.legs, command.quotes, strict=True)):
        assert quote is not None, "a leg without a quote was refused before"
        for what in (("event", quote.event), ("market", leg.market)):
            if what in seen:
                both = f"legs[{seen[what]}] and legs[{index}] are both of {what[0]} {what[1]}"
                return f"{both}: an accumulator takes one leg per event, leave one out"
        seen[("event", quote.event)] = seen[("market", leg.market)] = index
    raise AssertionError("no two legs share an event")


def no_account(currency: bytes) -> str:
    """The user has no account in this currency."""
    return f"currency is {currency.decode()}: you have no account in it, a first deposit opens one"


def not_owner(shard: int) -> str:
    """For routers; bettors do not see it."""
    return f"this instance does not own shard {shard}: send the same request to its owner"


def frozen(shard: int) -> str:
    """The shard is frozen until an operator unfreezes it."""
    return f"shard {shard} is closed for checks: nothing was done, try again later with the same request_key"


def overloaded(shard: int, waiting: int, limit: int) -> str:
    """waiting, limit: entries that are not yet durable."""
    return (
        f"{waiting} changes of shard {shard} wait to be stored, {limit} is the limit: "
        "nothing was done, try again in a second with the same request_key"
    )


def deadline_passed(budget_ms: int) -> str:
    """budget_ms: the timeout that the caller gave, in milliseconds."""
    return (
        f"the {budget_ms} ms given were over before the request's turn came: "
        "nothing was done, try again with the same request_key and more time"
    )


def rate_limited(burst: int, per_s: float, wait_s: int) -> str:
    """The limit of recorded refusals of one account."""
    return (
        f"this account had over {burst} requests refused, {per_s:g} more are allowed each second: "
        f"nothing was done, try again in {wait_s} s with the same request_key"
    )


def book_stale(age_ms: int | None, limit_ms: int) -> str:
    """age_ms: since the last update of prices, in milliseconds; None: there was none."""
    last = "there are no prices yet" if age_ms is None else f"the latest prices are {age_ms} ms old"
    return (
        f"{last}, bets are taken on prices up to {limit_ms} ms old: "
        "nothing was done, try again in a second with the same request_key"
    )


BOOK_UNSURE = (
    "it is not known at this moment whether this selection exists: nothing was done, try again in a second with the "
    "same request_key"
)


def time_text(time_us: int) -> str:
    """UTC to the millisecond, as in RFC 3339; the number itself where it is no time."""
    try:
        text = datetime.fromtimestamp(time_us // 1000 / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{time_us} µs"
    return text.removesuffix("+00:00") + "Z"


def _known(figure: int) -> str:
    """The figure as text; entries of releases without figures have none."""
    return str(figure) if figure else "not recorded"
