"""What no command may look like. Malformed commands are turned down before `decide`: nothing is written for them."""

from __future__ import annotations

from typing import NamedTuple

from betting.engine.commands import Deposit, PlaceBet, PricePolicy, Withdraw
from betting.engine.ids import is_uuid7
from betting.engine.prices import INT64_MAX, MAX_LEGS, MAX_PRICE_PART, is_price
from betting.engine.records import SeenLeg

_SHOWN = 40


class Malformed(NamedTuple):
    """A stable reason and a sentence for a person."""

    reason: str
    message: str


def check_place(command: PlaceBet) -> Malformed | None:
    """The first thing wrong with a bet, or None. Well-formed bets, the rule, are told in one look."""
    key, user, currency, stake, legs, policy, _quotes = command
    if (
        len(key) == 16 == len(user)
        and key[6] >> 4 == 7
        and key[8] >> 6 == 2
        and len(currency) == 3
        and currency.isalpha()
        and currency.isupper()
        and 0 < stake <= INT64_MAX
        and 0 < len(legs) <= MAX_LEGS
        and 0 <= policy <= 2
    ):
        for market, selection, numerator, denominator in legs:
            if not (
                market > 0
                and 0 < selection <= 0xFFFF
                and 0 < numerator <= MAX_PRICE_PART
                and 0 < denominator <= MAX_PRICE_PART
            ):
                break
        else:
            return None
    return _malformed_place(command)


def _malformed_place(command: PlaceBet) -> Malformed:
    wrong = check_envelope(command.key, command.user, command.currency)
    if wrong is not None:
        return wrong
    if not 0 < command.stake_minor <= INT64_MAX:
        return Malformed("STAKE_NOT_POSITIVE", f"stake_minor is {command.stake_minor}: it must be positive minor units")
    if not 1 <= len(command.legs) <= MAX_LEGS:
        return Malformed("LEG_COUNT", f"a bet has 1 to {MAX_LEGS} legs, this one has {len(command.legs)}")
    if not 0 <= command.policy <= PricePolicy.ACCEPT_ANY:
        return Malformed("PRICE_CHANGE_POLICY", f"price_change_policy is {command.policy}: give 0, 1 or 2")
    for index, leg in enumerate(command.legs):
        if leg.market <= 0 or not 0 < leg.selection <= 0xFFFF or not is_price(leg.numerator, leg.denominator):
            return _malformed_leg(index, leg)
    raise AssertionError("the quick look turned down a well-formed bet")


def check_amount(command: Deposit | Withdraw) -> Malformed | None:
    """The first thing wrong with a deposit or withdrawal, or None."""
    wrong = check_envelope(command.key, command.user, command.currency)
    if wrong is not None:
        return wrong
    if not 0 < command.amount_minor <= INT64_MAX:
        message = f"amount_minor is {command.amount_minor}: it must be positive minor units"
        return Malformed("AMOUNT_NOT_POSITIVE", message)
    return None


def check_envelope(key: bytes, user: bytes, currency: bytes) -> Malformed | None:
    """Request key, user and currency."""
    if not is_uuid7(key):
        given = f"request_key has {len(key)} bytes" if len(key) != 16 else f"request_key is {key.hex()}"
        return Malformed("REQUEST_KEY_NOT_UUID7", f"{given}: make a new UUIDv7 (RFC 9562) for every request")
    if len(user) != 16:
        return Malformed("USER_ID", f"a user id has 16 bytes, this one has {len(user)}")
    if not is_currency(currency):
        return malformed_currency(currency)
    return None


def malformed_currency(currency: bytes) -> Malformed:
    """What is wrong with a currency that `is_currency` says no to."""
    given = ascii(currency[:_SHOWN].decode(errors="replace")) if currency else "missing"
    return Malformed("CURRENCY", f"currency is {given}: give three upper-case letters (ISO 4217), like GBP")


def is_currency(currency: bytes) -> bool:
    """Three ASCII upper-case letters."""
    return len(currency) == 3 and currency.isalpha() and currency.isupper()


def _malformed_leg(index: int, leg: SeenLeg) -> Malformed:
    if leg.market <= 0:
        return Malformed("MARKET_ID", f"legs[{index}].market_id is {leg.market}: it must be positive")
    if not 0 < leg.selection <= 0xFFFF:
        return Malformed("SELECTION_ID", f"legs[{index}].selection_id is {leg.selection}: it must be 1 to 65,535")
    price = f"{leg.numerator}/{leg.denominator}"
    return Malformed("PRICE", f"legs[{index}].price is {price}: both parts must be 1 to {MAX_PRICE_PART:,}")
