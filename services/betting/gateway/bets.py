"""BetService in terms of the owners' commands: checks at the edge, commands out, results back. Pure.

Checks here are those a person can act on without any state; the owner checks again, and checks what needs its state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from betting.clients.owners import inputs, refused
from betting.engine.prices import MAX_LEGS, MAX_PRICE_PART
from betting.internal.v1 import owner_pb2
from betting.runtime import paging
from betting.runtime.errors import ServiceError, invalid_argument, not_found, shown
from betting.v1 import bet_pb2, common_pb2

MAX_SELECTION_ID: Final = 0xFFFF
MAX_BETS: Final = 500

_OPEN: Final = bet_pb2.BET_STATUS_OPEN
_SETTLED: Final = bet_pb2.BET_STATUS_SETTLED
_POLICIES: Final = frozenset(bet_pb2.PriceChangePolicy.values())


def place_bet(
    request: bet_pb2.PlaceBetRequest,
    principal: bytes,
    correlation: bytes,
    currencies: Collection[str],
    at: str = "",
) -> owner_pb2.Command:
    """The command of one bet in one of these currencies; `at` is where it stands in a larger request ("bets[3].").

    Raises INVALID_ARGUMENT.
    """
    key = inputs.request_key(request.request_key, at + "request_key")
    money = inputs.currency(request.currency, currencies, at + "currency")
    stake_minor = request.stake_minor
    if stake_minor <= 0:
        message = f"{at}stake_minor is {stake_minor}: give a positive number of minor units (pence, cents)"
        raise invalid_argument("STAKE_NOT_POSITIVE", message)
    policy = request.price_change_policy
    if policy not in _POLICIES:
        message = f"{at}price_change_policy is {policy}: give 0 (refuse), 1 (accept better) or 2 (accept any)"
        raise invalid_argument("PRICE_CHANGE_POLICY", message)
    # Assigning costs half of what constructor arguments cost, and this is the hot path.
    command = owner_pb2.Command()
    command.request_key = key
    command.principal = principal
    command.correlation_id = correlation
    command.currency = money
    bet = command.place_bet
    bet.stake_minor = stake_minor
    if policy:
        bet.price_change_policy = policy
    _add_legs(bet, request.legs, at)
    return command


def place_bets(
    request: bet_pb2.PlaceBetsRequest, principal: bytes, correlation: bytes, currencies: Collection[str]
) -> list[owner_pb2.Command | ServiceError]:
    """One command per bet, or what is malformed about it. Raises INVALID_ARGUMENT BET_COUNT."""
    if not 1 <= len(request.bets) <= MAX_BETS:
        raise invalid_argument("BET_COUNT", f"bets has {len(request.bets)} elements: give 1 to {MAX_BETS}")
    return [
        _command_of(bet, principal, correlation, currencies, f"bets[{index}].")
        for index, bet in enumerate(request.bets)
    ]


def _command_of(
    bet: bet_pb2.PlaceBetRequest, principal: bytes, correlation: bytes, currencies: Collection[str], at: str
) -> owner_pb2.Command | ServiceError:
    try:
        return place_bet(bet, principal, correlation, currencies, at)
    except ServiceError as error:
        return error


def get_bet(request: bet_pb2.GetBetRequest, principal: bytes, correlation: bytes) -> owner_pb2.Command:
    """The command of GetBet; raises INVALID_ARGUMENT BET_ID."""
    bet_id = inputs.uuid_bytes(request.bet_id)
    if bet_id is None:
        raise invalid_argument(
            "BET_ID", f"bet_id is {shown(request.bet_id)}: give the UUID that placing the bet returned"
        )
    return owner_pb2.Command(principal=principal, correlation_id=correlation, get_bet=owner_pb2.GetBet(bet_id=bet_id))


def get_by_request_key(
    request: bet_pb2.GetBetByRequestKeyRequest, principal: bytes, correlation: bytes, currencies: Collection[str]
) -> owner_pb2.Command:
    """The command of GetBetByRequestKey."""
    return owner_pb2.Command(
        principal=principal,
        correlation_id=correlation,
        currency=inputs.currency(request.currency, currencies),
        get_by_request_key=owner_pb2.GetByRequestKey(request_key=inputs.request_key(request.request_key)),
    )


def list_open_bets(
    request: bet_pb2.ListOpenBetsRequest, principal: bytes, correlation: bytes, currencies: Collection[str]
) -> owner_pb2.Command:
    """The command of ListOpenBets."""
    token = paging.decode_token(request.page_token, str)
    after = b"" if token is None else inputs.uuid_bytes(token[0])
    if after is None:
        raise paging.invalid_token(request.page_token)
    page = owner_pb2.ListOpenBets(page_size=paging.page_size(request.page_size), after_bet_id=after)
    return owner_pb2.Command(
        principal=principal,
        correlation_id=correlation,
        currency=inputs.currency(request.currency, currencies),
        list_open_bets=page,
    )


def placed_reply(request: bet_pb2.PlaceBetRequest, result: owner_pb2.Result) -> bet_pb2.PlaceBetResponse:
    """The public reply to a bet: accepted, or refused with why."""
    if result.HasField("placed"):
        reply = bet_pb2.PlaceBetResponse()
        if result.repeated:
            reply.repeated = True
        _fill_placed(reply.bet, request, result.placed)
        return reply
    if result.HasField("refusal"):
        return bet_pb2.PlaceBetResponse(refusal=result.refusal, repeated=result.repeated)
    return bet_pb2.PlaceBetResponse(bet=bet(result.bet), repeated=result.repeated)


def one_of_many(reply: bet_pb2.PlaceBetResponse) -> bet_pb2.PlaceBetsResult:
    """The reply to a bet, beside those to others."""
    if reply.HasField("bet"):
        return bet_pb2.PlaceBetsResult(bet=reply.bet, repeated=reply.repeated)
    return bet_pb2.PlaceBetsResult(refusal=reply.refusal, repeated=reply.repeated)


def error_of_many(error: ServiceError) -> bet_pb2.PlaceBetsResult:
    """What went wrong with one bet of several."""
    said = bet_pb2.BetError(code=error.code.name, reason=error.reason, message=error.message)
    return bet_pb2.PlaceBetsResult(error=said)


def get_bet_reply(result: owner_pb2.Result) -> bet_pb2.GetBetResponse:
    """The public reply to GetBet; raises UNAVAILABLE when the owner refused for now."""
    _no_refusal(result)
    return bet_pb2.GetBetResponse(bet=bet(result.bet))


def by_request_key_reply(result: owner_pb2.Result) -> bet_pb2.GetBetByRequestKeyResponse:
    """The public reply to GetBetByRequestKey: a recorded refusal is an answer, a transient one is raised.

    Raises NOT_FOUND for the key of a deposit or withdrawal.
    """
    if result.HasField("refusal"):
        if refused.is_transient(result.refusal):
            raise refused.error_of(result.refusal)
        return bet_pb2.GetBetByRequestKeyResponse(refusal=result.refusal)
    if not result.HasField("bet"):
        raise not_found("REQUEST_NOT_A_BET", "this request_key was used for a deposit or a withdrawal, not for a bet")
    return bet_pb2.GetBetByRequestKeyResponse(bet=bet(result.bet))


def list_open_bets_reply(result: owner_pb2.Result) -> bet_pb2.ListOpenBetsResponse:
    """The public reply to ListOpenBets; raises UNAVAILABLE when the owner refused for now."""
    _no_refusal(result)
    found = result.bets.bets
    token = paging.encode_token(uuid_text(found[-1].bet_id)) if result.bets.more and found else ""
    return bet_pb2.ListOpenBetsResponse(bets=[bet(each) for each in found], next_page_token=token)


def bet(inner: owner_pb2.Bet) -> bet_pb2.Bet:
    """A bet as the public contract shows it."""
    return bet_pb2.Bet(
        bet_id=uuid_text(inner.bet_id),
        request_key=uuid_text(inner.request_key) if inner.request_key else "",
        currency=inner.currency,
        stake_minor=inner.stake_minor,
        legs=[
            bet_pb2.Leg(
                market_id=leg.market_id,
                selection_id=leg.selection_id,
                price=common_pb2.Price(numerator=leg.numerator, denominator=leg.denominator),
            )
            for leg in inner.legs
        ],
        status=_SETTLED if inner.settled else _OPEN,
        potential_payout_minor=inner.potential_payout_minor,
        payout_minor=inner.payout_minor,
        placed_at_us=inner.placed_at_us,
        settled_at_us=inner.settled_at_us,
    )


def uuid_text(raw: bytes) -> str:
    """The 36-character form of 16 bytes."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _fill_placed(accepted: bet_pb2.Bet, request: bet_pb2.PlaceBetRequest, placed: owner_pb2.Placed) -> None:
    accepted.bet_id = uuid_text(placed.bet_id)
    accepted.request_key = request.request_key.lower()
    accepted.currency = request.currency
    accepted.stake_minor = request.stake_minor
    accepted.legs.extend(request.legs)
    accepted.status = _OPEN
    accepted.potential_payout_minor = placed.potential_payout_minor
    accepted.placed_at_us = placed.placed_at_us
    if placed.numerators:
        for leg, numerator, denominator in zip(accepted.legs, placed.numerators, placed.denominators, strict=True):
            leg.price.numerator = numerator
            leg.price.denominator = denominator


def _add_legs(bet: owner_pb2.PlaceBet, legs: Sequence[bet_pb2.Leg], at: str) -> None:
    if not 1 <= len(legs) <= MAX_LEGS:
        raise invalid_argument("LEG_COUNT", f"{at}legs has {len(legs)} elements: a bet has 1 to {MAX_LEGS}")
    add = bet.legs.add
    for index, leg in enumerate(legs):
        market_id, selection_id, price = leg.market_id, leg.selection_id, leg.price
        numerator, denominator = price.numerator, price.denominator
        if not (
            market_id > 0
            and 0 < selection_id <= MAX_SELECTION_ID
            and 0 < numerator <= MAX_PRICE_PART
            and 0 < denominator <= MAX_PRICE_PART
        ):
            raise _malformed_leg(leg, f"{at}legs[{index}].")
        added = add()
        added.market_id = market_id
        added.selection_id = selection_id
        added.numerator = numerator
        added.denominator = denominator


def _malformed_leg(leg: bet_pb2.Leg, at: str) -> ServiceError:
    if leg.market_id <= 0:
        return invalid_argument("MARKET_ID", f"{at}market_id is {leg.market_id}: give the id of a market, above 0")
    if not 0 < leg.selection_id <= MAX_SELECTION_ID:
        message = f"{at}selection_id is {leg.selection_id}: give the number of one of the market's selections, from 1"
        return invalid_argument("SELECTION_ID", message)
    price = f"{leg.price.numerator}/{leg.price.denominator}"
    message = f"{at}price is {price}: give the price you saw, numerator and denominator from 1 to {MAX_PRICE_PART:,}"
    return invalid_argument("PRICE", message)


def _no_refusal(result: owner_pb2.Result) -> None:
    if result.HasField("refusal"):
        raise refused.error_of(result.refusal)
