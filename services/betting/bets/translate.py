"""Protobuf commands to engine commands, engine replies to protobuf results. No I/O."""

from __future__ import annotations

from betting.bets import messages
from betting.bets.book import PriceBook
from betting.engine.commands import Deposit, PlaceBet, PricePolicy, Recorded, Withdraw
from betting.engine.entries import Entry, Kind
from betting.engine.ids import bet_id
from betting.engine.prices import potential_payout
from betting.engine.records import MOVED_BODY, SeenLeg, unpack_placed, unpack_record, unpack_refused
from betting.engine.refusals import Refusal
from betting.engine.state import ShardState
from betting.engine.validation import Malformed
from betting.internal.v1 import owner_pb2

INVALID_ARGUMENT = 3
NOT_FOUND = 5
UNIMPLEMENTED = 12
INTERNAL = 13
UNAUTHENTICATED = 16

_MEANINGLESS = {
    Refusal.ACCOUNT_NOT_FOUND: NOT_FOUND,
    Refusal.UNKNOWN_SELECTION: INVALID_ARGUMENT,
    Refusal.LEGS_SHARE_EVENT: INVALID_ARGUMENT,
}

MAX_PAGE = 500
DEFAULT_PAGE = 100


def place_bet(command: owner_pb2.Command, user: bytes, book: PriceBook, monotonic_us: int) -> PlaceBet:
    """With the quotes the book has at this moment."""
    asked = command.place_bet
    known = book.quotes(monotonic_us)
    legs = []
    quotes = []
    for leg in asked.legs:
        market, selection = leg.market_id, leg.selection_id
        legs.append(SeenLeg(market, selection, leg.numerator, leg.denominator))
        quote = known.get((market, selection))
        quotes.append(quote if quote is not None else book.quote(market, selection))
    return PlaceBet(
        command.request_key,
        user,
        command.currency.encode(),
        asked.stake_minor,
        tuple(legs),
        asked.price_change_policy,
        tuple(quotes),
    )


def deposit(command: owner_pb2.Command, user: bytes) -> Deposit:
    return Deposit(command.request_key, user, command.currency.encode(), command.deposit.amount_minor)


def withdraw(command: owner_pb2.Command, user: bytes) -> Withdraw:
    return Withdraw(command.request_key, user, command.currency.encode(), command.withdraw.amount_minor)


def fill_recorded(result: owner_pb2.Result, reply: Recorded, currency: str) -> None:
    """The answer a recorded entry gives, the first time and every time."""
    if reply.repeated:
        result.repeated = True
    if reply.kind == Kind.BET_PLACED:
        _fill_placed(result.placed, bet_id(reply.body[:16], reply.key), reply.body)
    elif reply.kind == Kind.REFUSED:
        refused = unpack_refused(reply.body)
        result.refusal.code = refused.code  # type: ignore[assignment]  # the numbers are the same
        result.refusal.message = messages.recorded(refused, currency)
        result.refusal.leg_index = refused.leg_index
        if refused.code == Refusal.PRICE_MOVED:
            price = result.refusal.current_price
            price.numerator, price.denominator = refused.current_price
    else:
        _account, _amount, cash, stakes, receivable = MOVED_BODY.unpack(reply.body)
        _fill_balance(result.balance, cash, stakes, receivable, currency)


def fill_placed_now(placed: owner_pb2.Placed, entry: Entry) -> None:
    """The answer to a bet whose entry was made a moment ago: its id need not be derived again."""
    assert entry.bet is not None
    _fill_placed(placed, entry.bet, entry.body)


def _fill_placed(placed: owner_pb2.Placed, bet: bytes, body: bytes) -> None:
    placed.bet_id = bet
    placed.placed_at_us = int.from_bytes(body[24:32])
    end_of_record = 33 + 26 * body[32]
    placed.potential_payout_minor = int.from_bytes(body[end_of_record + 1 : end_of_record + 9])
    if body[end_of_record] != PricePolicy.AS_SEEN:
        legs = unpack_record(body).legs
        placed.numerators.extend(leg.numerator for leg in legs)
        placed.denominators.extend(leg.denominator for leg in legs)


def fill_rejected(result: owner_pb2.Result, refusal: Refusal, message: str) -> None:
    """What cannot be meant is an error like any malformed request, the rest a refusal."""
    code = _MEANINGLESS.get(refusal)
    if code is not None:
        fill_fault(result, code, refusal.name, message)
    else:
        fill_refusal(result, refusal, message)


def fill_refusal(result: owner_pb2.Result, refusal: Refusal, message: str) -> None:
    """A refusal that was not recorded."""
    result.refusal.code = int(refusal)  # type: ignore[assignment]  # the numbers are the same
    result.refusal.message = message


def fill_fault(result: owner_pb2.Result, code: int, reason: str, message: str) -> None:
    result.fault.code = code
    result.fault.reason = reason
    result.fault.message = message


def fill_malformed(result: owner_pb2.Result, malformed: Malformed) -> None:
    fill_fault(result, INVALID_ARGUMENT, malformed.reason, malformed.message)


def read_balance(state: ShardState, user: bytes, currency: bytes, result: owner_pb2.Result) -> None:
    account = state.accounts.get(state.account_ids.get(user + currency, b""))
    if account is None:
        fill_fault(result, NOT_FOUND, "ACCOUNT_NOT_FOUND", messages.no_account(currency))
        return
    _fill_balance(
        result.balance,
        account.cash_minor,
        account.open_stakes_minor,
        account.receivable_minor,
        currency.decode(),
    )


def _fill_balance(balance: owner_pb2.Balance, cash: int, stakes: int, receivable: int, currency: str) -> None:
    balance.cash_minor = cash
    balance.open_stakes_minor = stakes
    balance.receivable_minor = -receivable  # shown as what the user owes
    balance.currency = currency


def read_open_bet(state: ShardState, user: bytes, bet: bytes) -> owner_pb2.Bet | None:
    """An open bet of this user; None when it is not open, not there, or somebody else's."""
    record = state.open_bets.get(bet)
    if record is None or state.accounts[record[:16]].user != user:
        return None
    return open_bet(bet, record, state.accounts[record[:16]].currency)


def open_bet(bet: bytes, record: bytes, currency: bytes) -> owner_pb2.Bet:
    unpacked = unpack_record(record)
    prices = [(leg.numerator, leg.denominator) for leg in unpacked.legs]
    return owner_pb2.Bet(
        bet_id=bet,
        stake_minor=unpacked.stake_minor,
        legs=[
            owner_pb2.Leg(
                market_id=leg.market,
                selection_id=leg.selection,
                numerator=leg.numerator,
                denominator=leg.denominator,
            )
            for leg in unpacked.legs
        ],
        potential_payout_minor=potential_payout(unpacked.stake_minor, prices),
        placed_at_us=unpacked.placed_at_us,
        currency=currency.decode(),
    )


def read_open_bets(
    state: ShardState, user: bytes, currency: bytes, asked: owner_pb2.ListOpenBets, result: owner_pb2.Result
) -> None:
    """A page in the order of bet ids. An account that does not exist has no bets."""
    page = asked.page_size or DEFAULT_PAGE
    if not 1 <= page <= MAX_PAGE:
        message = f"page_size is {page}: give 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"
        fill_fault(result, INVALID_ARGUMENT, "PAGE_SIZE", message)
        return
    if asked.after_bet_id and len(asked.after_bet_id) != 16:
        fill_fault(
            result,
            INVALID_ARGUMENT,
            "PAGE_TOKEN",
            f"page_token holds {len(asked.after_bet_id)} bytes, not 16: start again without it",
        )
        return
    account = state.accounts.get(state.account_ids.get(user + currency, b""))
    bets = sorted(bet for bet in account.open_bets if bet > asked.after_bet_id) if account is not None else []
    result.bets.bets.extend(open_bet(bet, state.open_bets[bet], currency) for bet in bets[:page])
    result.bets.more = len(bets) > page


def placed_bet(body: bytes, key: bytes, currency: bytes) -> owner_pb2.Bet:
    """A bet as its placing entry has it, open or not."""
    placed = unpack_placed(body)
    bet = open_bet(bet_id(placed.record.account, key), body, currency)
    bet.request_key = key
    return bet
