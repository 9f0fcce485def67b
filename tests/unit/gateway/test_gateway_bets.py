# ruff: noqa: PT017 - some inputs are good and others bad: both outcomes are checked
"""Bets at the edge: every malformed request has a reason of its own, results become the public contract's replies."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betting.clients.owners import inputs
from betting.engine.commands import PricePolicy
from betting.gateway import bets
from betting.internal.v1 import owner_pb2
from betting.runtime.errors import ServiceError
from betting.v1 import bet_pb2, common_pb2

KEY = "0196f1f0-1234-7abc-8def-0123456789ab"
PRINCIPAL = b"p" * 75
CORRELATION = b"c-1"
CURRENCIES = ("EUR", "GBP")


def request() -> bet_pb2.PlaceBetRequest:
    """A single that nothing is wrong with."""
    price = common_pb2.Price(numerator=91, denominator=100)
    leg = bet_pb2.Leg(market_id=7, selection_id=1, price=price)
    return bet_pb2.PlaceBetRequest(request_key=KEY, currency="GBP", stake_minor=500, legs=[leg])


def reason(call: Callable[[], object]) -> str:
    """The reason of the INVALID_ARGUMENT that a call raises."""
    with pytest.raises(ServiceError) as caught:
        call()
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.reason


def test_a_bet_becomes_the_owners_command() -> None:
    """Nothing of the request is lost on the way to the owner."""
    asked = request()
    asked.price_change_policy = bet_pb2.PRICE_CHANGE_POLICY_ACCEPT_BETTER
    assert bets.place_bet(asked, PRINCIPAL, CORRELATION, CURRENCIES) == owner_pb2.Command(
        request_key=uuid.UUID(KEY).bytes,
        principal=PRINCIPAL,
        correlation_id=CORRELATION,
        currency="GBP",
        place_bet=owner_pb2.PlaceBet(
            stake_minor=500,
            legs=[owner_pb2.Leg(market_id=7, selection_id=1, numerator=91, denominator=100)],
            price_change_policy=PricePolicy.ACCEPT_BETTER,
        ),
    )


def _set(path: str, value: object) -> Callable[[bet_pb2.PlaceBetRequest], None]:
    def change(asked: bet_pb2.PlaceBetRequest) -> None:
        target: object = asked
        *parents, last = path.split(".")
        for name in parents:
            target = target[int(name)] if name.isdecimal() else getattr(target, name)  # type: ignore[index]
        setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("request_key", ""), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "0196f1f0-1234-4abc-8def-0123456789ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "0196f1f0-1234-7abc-cdef-0123456789ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "0196f1f012347abc8def0123456789ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "{196f1f0-1234-7abc-8def-0123456789ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "0196f1f0-1234-7abc-8def-0123456789a "), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "0196f1f0-1234-7abc-8def-012345678 9ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("request_key", "٠196f1f0-1234-7abc-8def-0123456789ab"), "REQUEST_KEY_NOT_UUID7"),
        (_set("currency", "gbp"), "CURRENCY"),
        (_set("currency", "JPY"), "CURRENCY"),
        (_set("currency", "ABC"), "CURRENCY"),
        (_set("currency", "GB"), "CURRENCY"),
        (_set("currency", "GBPX"), "CURRENCY"),
        (_set("currency", "ÄÖÜ"), "CURRENCY"),
        (_set("stake_minor", 0), "STAKE_NOT_POSITIVE"),
        (_set("stake_minor", -(2**63)), "STAKE_NOT_POSITIVE"),
        (_set("price_change_policy", 3), "PRICE_CHANGE_POLICY"),
        (_set("price_change_policy", -1), "PRICE_CHANGE_POLICY"),
        (_set("legs.0.market_id", 0), "MARKET_ID"),
        (_set("legs.0.market_id", -5), "MARKET_ID"),
        (_set("legs.0.selection_id", 0), "SELECTION_ID"),
        (_set("legs.0.selection_id", 65_536), "SELECTION_ID"),
        (_set("legs.0.price.numerator", 0), "PRICE"),
        (_set("legs.0.price.numerator", 1_000_001), "PRICE"),
        (_set("legs.0.price.denominator", -1), "PRICE"),
        (lambda asked: asked.ClearField("legs"), "LEG_COUNT"),
        (lambda asked: asked.legs.extend([asked.legs[0]] * 20), "LEG_COUNT"),
        (lambda asked: asked.legs[0].ClearField("price"), "PRICE"),
    ],
)
def test_malformed_bets_are_refused_at_the_edge(
    change: Callable[[bet_pb2.PlaceBetRequest], None], expected: str
) -> None:
    """Each thing that can be wrong with a bet has its own reason."""
    asked = request()
    change(asked)
    assert reason(lambda: bets.place_bet(asked, PRINCIPAL, CORRELATION, CURRENCIES)) == expected


@given(st.text(max_size=40))
def test_request_keys_are_uuid7_or_refused(text: str) -> None:
    """What the edge takes for a request key, Python's uuid takes for a UUIDv7 with the same bytes."""
    try:
        raw = inputs.request_key(text)
    except ServiceError as error:
        assert error.reason == "REQUEST_KEY_NOT_UUID7"
    else:
        assert uuid.UUID(text).bytes == raw
        assert uuid.UUID(text).version == 7


@given(st.uuids())
def test_uuids_are_shown_as_python_shows_them(value: uuid.UUID) -> None:
    """The fast text form is the usual one."""
    assert bets.uuid_text(value.bytes) == str(value)


def test_one_malformed_bet_of_many_is_named() -> None:
    """The message says which bet of the request it was, and the others go on."""
    many = bet_pb2.PlaceBetsRequest(bets=[request(), request()])
    many.bets[1].stake_minor = 0
    first, second = bets.place_bets(many, PRINCIPAL, CORRELATION, CURRENCIES)
    assert isinstance(first, owner_pb2.Command)
    assert isinstance(second, ServiceError)
    assert "bets[1].stake_minor is 0" in second.message


@pytest.mark.parametrize("count", [0, 501])
def test_a_batch_has_one_to_five_hundred_bets(count: int) -> None:
    """Empty and oversized batches are refused whole."""
    many = bet_pb2.PlaceBetsRequest(bets=[request()] * count)
    assert reason(lambda: bets.place_bets(many, PRINCIPAL, CORRELATION, CURRENCIES)) == "BET_COUNT"


def test_an_accepted_bet_shows_the_prices_taken() -> None:
    """Where the owner took other prices than those seen, the reply shows the taken ones."""
    placed = owner_pb2.Placed(
        bet_id=b"b" * 16, placed_at_us=9, potential_payout_minor=77, numerators=[2], denominators=[1]
    )
    reply = bets.placed_reply(request(), owner_pb2.Result(placed=placed, repeated=True))
    assert reply.repeated
    assert (reply.bet.legs[0].price.numerator, reply.bet.legs[0].price.denominator) == (2, 1)
    assert (reply.bet.bet_id, reply.bet.request_key) == (str(uuid.UUID(bytes=b"b" * 16)), KEY)
    assert (reply.bet.stake_minor, reply.bet.potential_payout_minor, reply.bet.placed_at_us) == (500, 77, 9)
    assert reply.bet.status == bet_pb2.BET_STATUS_OPEN


def test_an_accepted_bet_shows_the_prices_seen() -> None:
    """Without other prices from the owner the bet stands at those of the request."""
    reply = bets.placed_reply(request(), owner_pb2.Result(placed=owner_pb2.Placed(bet_id=b"b" * 16)))
    assert list(reply.bet.legs) == list(request().legs)


def test_a_refusal_is_handed_on() -> None:
    """Code, message, leg and current price reach the bettor."""
    refusal = common_pb2.Refusal(
        code=common_pb2.REFUSAL_CODE_PRICE_MOVED,
        message="moved",
        leg_index=0,
        current_price=common_pb2.Price(numerator=4, denominator=5),
    )
    assert bets.placed_reply(request(), owner_pb2.Result(refusal=refusal)).refusal == refusal


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (common_pb2.REFUSAL_CODE_OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (common_pb2.REFUSAL_CODE_NOT_OWNER, grpc.StatusCode.UNAVAILABLE),
        (common_pb2.REFUSAL_CODE_SHARD_FROZEN, grpc.StatusCode.UNAVAILABLE),
        (common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS, grpc.StatusCode.FAILED_PRECONDITION),
        (common_pb2.REFUSAL_CODE_KEY_EXPIRED, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_refused_reads_are_statuses(code: int, status: grpc.StatusCode) -> None:
    """A read has no place for a refusal in its reply: the status says whether to try again."""
    refusal = common_pb2.Refusal(code=code, message="m")  # type: ignore[arg-type]
    with pytest.raises(ServiceError) as caught:
        bets.get_bet_reply(owner_pb2.Result(refusal=refusal))
    assert caught.value.code is status


def test_the_outcome_of_a_key_can_be_a_recorded_refusal() -> None:
    """Final refusals are answers to GetBetByRequestKey, transient ones are not."""
    final = common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_INSUFFICIENT_FUNDS)
    transient = common_pb2.Refusal(code=common_pb2.REFUSAL_CODE_OVERLOADED)
    assert bets.by_request_key_reply(owner_pb2.Result(refusal=final)).refusal == final
    with pytest.raises(ServiceError):
        bets.by_request_key_reply(owner_pb2.Result(refusal=transient))


def test_pages_of_open_bets_go_on_where_they_ended() -> None:
    """The token of a page makes the command for the next one."""
    found = owner_pb2.Bets(bets=[owner_pb2.Bet(bet_id=bytes([n]) * 16) for n in range(3)], more=True)
    page = bets.list_open_bets_reply(owner_pb2.Result(bets=found))
    following = bet_pb2.ListOpenBetsRequest(currency="GBP", page_size=3, page_token=page.next_page_token)
    command = bets.list_open_bets(following, PRINCIPAL, CORRELATION, CURRENCIES)
    assert command.list_open_bets == owner_pb2.ListOpenBets(page_size=3, after_bet_id=b"\x02" * 16)


@pytest.mark.parametrize("token", ["x", "bm9wZQ", "WyJ4Il0"])
def test_foreign_page_tokens_are_refused(token: str) -> None:
    """A token this call did not make is the caller's error."""
    asked = bet_pb2.ListOpenBetsRequest(currency="GBP", page_token=token)
    assert reason(lambda: bets.list_open_bets(asked, PRINCIPAL, CORRELATION, CURRENCIES)) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("size", [-1, 501])
def test_page_sizes_have_bounds(size: int) -> None:
    """A page has 1 to 500 bets."""
    asked = bet_pb2.ListOpenBetsRequest(currency="GBP", page_size=size)
    assert reason(lambda: bets.list_open_bets(asked, PRINCIPAL, CORRELATION, CURRENCIES)) == "PAGE_SIZE_OUT_OF_RANGE"


def test_the_key_of_a_deposit_is_no_bet() -> None:
    """An empty bet would be taken for one."""
    deposited = owner_pb2.Result(balance=owner_pb2.Balance(cash_minor=1))
    with pytest.raises(ServiceError, match="not for a bet") as caught:
        bets.by_request_key_reply(deposited)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
