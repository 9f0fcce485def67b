"""A JSON body that is not the message it should be: the message names the place, the value and what is wanted."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from betting.gateway.methods import public_methods
from betting.gateway.protocols import encoding as messages
from betting.gateway.protocols.failures import Code, Failure
from betting.v1 import bet_pb2, notification_pb2, odds_pb2, user_pb2

INT32 = "give a whole number from -2147483648 to 2147483647 (int32)"
INT64 = "give a whole number from -9223372036854775808 to 9223372036854775807 (int64)"
POLICIES = "PRICE_CHANGE_POLICY_UNSPECIFIED, PRICE_CHANGE_POLICY_ACCEPT_BETTER, PRICE_CHANGE_POLICY_ACCEPT_ANY"
BET, BETS = bet_pb2.PlaceBetRequest, bet_pb2.PlaceBetsRequest
LOGIN = user_pb2.LoginRequest


def refused(kind: type[Message], body: bytes) -> str:
    """What is said of a body that cannot be read."""
    with pytest.raises(Failure) as caught:
        messages.from_json(kind, body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def said_of(kind: type[Message], body: bytes) -> str:
    """What is said of a body; empty when it can be read."""
    try:
        messages.from_json(kind, body)
    except Failure as failure:
        return failure.message
    return ""


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (BET, b'{"legs": 1.5}', "legs is 1.5: give an array of objects (betting.v1.Leg)"),
        (BET, b'{"legs": {}}', "legs is an object: give an array of objects (betting.v1.Leg)"),
        (BET, b'{"legs": [7]}', "legs[0] is 7: give an object (betting.v1.Leg)"),
        (BET, b'{"legs": [{"price": {"numerator": 1.5}}]}', f"legs[0].price.numerator is 1.5: {INT32}"),
        (BET, b'{"legs": [{}, {"price": "9/2"}]}', "legs[1].price is '9/2': give an object (betting.v1.Price)"),
        (BETS, b'{"bets": [{}, {"stakeMinor": "abc"}]}', f"bets[1].stakeMinor is 'abc': {INT64}"),
        (BET, b'{"stake_minor": true}', f"stake_minor is true: {INT64}"),
        (BET, b'{"stakeMinor": 10.5}', f"stakeMinor is 10.5: {INT64}"),
        (BET, b'{"stakeMinor": 9223372036854775808}', f"stakeMinor is 9223372036854775808: {INT64}"),
        (BET, b'{"stakeMinor": NaN}', f"stakeMinor is NaN: {INT64}"),
        (BET, b'{"stakeMinor": ""}', f'stakeMinor is "": {INT64}'),
        (BET, b'{"stakeMinor": "1_000"}', f"stakeMinor is '1_000': {INT64}"),
        (BET, b'{"stakeMinor": "+5"}', f"stakeMinor is '+5': {INT64}"),
        (BET, b'{"stakeMinor": "\xd9\xa1"}', f"stakeMinor is '\\u0661': {INT64}"),
        (BET, b'{"currency": ["GBP"]}', "currency is an array of 1: give a string"),
        (BET, b'{"currency": "GBP", "currency": "EUR"}', "currency is given twice: give it once"),
        (BET, b'{"priceChangePolicy": {}}', f"priceChangePolicy is an object: give one of {POLICIES}, or its number"),
        (BET, b'{"priceChangePolicy": 9999999999}', f"priceChangePolicy is 9999999999: give one of {POLICIES}, or its "
         "number"),
        (odds_pb2.BulkGetPricesRequest, b'{"marketIds": 7}', "marketIds is 7: give an array of whole numbers (int64)"),
        (odds_pb2.BulkGetPricesRequest, b'{"marketIds": [7, null]}', f"marketIds[1] is null: {INT64}"),
        (notification_pb2.ListNotificationsRequest, b'{"unreadOnly": "y"}', "unreadOnly is 'y': give true or false"),
        (BET, b'{"priceChangePolicy": "ACCEPT_ANY"}', f"priceChangePolicy is 'ACCEPT_ANY': give one of {POLICIES}, or"),
        (BET, b'{"legs": "1"}', "legs is '1': give an array of objects (betting.v1.Leg)"),
        (LOGIN, b'{"email": 5}', "email is 5: give a string"),
        (LOGIN, b'{"password": 12345678}', "password is a number (not shown): give a string"),
        (user_pb2.RefreshRequest, b'{"refreshToken": ["s3cret"]}', "refreshToken is an array of 1: give a string"),
        (BET, b'{"stakeMinor": 1,}', "the body is not JSON at line 1, column "),
        (BET, b"", "the body is empty: send a JSON object, {} if there is nothing to say"),
        (BET, b"[1]", "the body has 3 bytes but no JSON object: send a JSON object, {} if there is nothing to say"),
        (BET, b'{"currency": "\xff"}', "the JSON body is not UTF-8 at byte 14: encode it as UTF-8"),
        (BET, b'{"stakeMinor": ' + b"9" * 5_000 + b"}", "the JSON has a number with too many digits"),
        (BET, b'{"legs": [' * 5_000, "the JSON is nested too deeply"),
    ],
)  # fmt: skip
def test_the_place_the_value_and_what_is_wanted(kind: type[Message], body: bytes, said: str) -> None:
    """The first mistake, with a path as the caller spelt it."""
    assert refused(kind, body).startswith(said)


@pytest.mark.parametrize(
    "value", ['"hunter2', '["hunter2"]', '{"hunter2": 1}', "20262026", '"hunter2" x', '"\\ud800h"']
)
@pytest.mark.parametrize("member", ["password", "refreshToken", "pageToken"])
def test_secrets_are_never_shown(member: str, value: str) -> None:
    """Neither where they are the mistake nor where it stands beside them."""
    kinds = {"password": LOGIN, "refreshToken": user_pb2.RefreshRequest, "pageToken": bet_pb2.ListOpenBetsRequest}
    for body in (f'{{"{member}": {value}}}', f'{{"{member}": "hunter2", "email": 1, "currency": 1, {value}}}'):
        said = refused(kinds[member], body.encode())
        assert "hunter2" not in said
        assert "2026" not in said


def test_a_long_value_is_cut_and_escaped() -> None:
    """A message fits a header, whatever was sent."""
    said = refused(BET, json.dumps({"stakeMinor": "\n\u202e" + "x" * 10_000}).encode())
    assert said.startswith("stakeMinor is '\\n\\u202exxx")
    assert len(said) < 200
    assert said.isascii()


def test_finding_a_repeated_name_takes_no_longer_with_many_names() -> None:
    """The time grows with the number of names, not with its square: 60,000 names took about a minute."""
    members = ",".join(f'"n{number}": 1' for number in range(60_000))
    started_s = time.process_time()
    assert refused(BET, f'{{{members}, "last": 1, "last": 2}}'.encode()).startswith("last is given twice")
    assert time.process_time() - started_s < 10


# Anything that JSON can say, in the place of anything a message can have.
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [(method.request, field) for method in public_methods().values() for field in method.request.DESCRIPTOR.fields]
LIBRARY = ("Failed to parse", "not iterable", "ParseError", "object has no", "NoneType", "must be", "_upb", "Traceback")


@given(st.sampled_from(FIELDS), JSON, st.sampled_from(["json_name", "name"]))
def test_the_librarys_own_words_never_come_through(place: tuple[Any, Any], value: Any, spelling: str) -> None:
    """Every member of every public request, with any JSON in its place: read, or refused in our words with its path."""
    kind, field = place
    name = getattr(field, spelling)
    inner = {"legs": "price", "bets": "legs", "outcomes": "outcome"}.get(field.name)
    for body in ({name: value}, {name: [value]}, {name: [{inner: value}]} if inner else {}):
        said = said_of(kind, json.dumps(body).encode())
        if said:
            assert said.startswith((name, "the JSON has a number"))
            assert ": give" in said
            assert not any(words in said for words in LIBRARY)
            assert len(said) < 400


def test_a_binary_body_of_another_kind_says_what_was_expected() -> None:
    """How many bytes came, and the message's name."""
    with pytest.raises(Failure) as caught:
        messages.from_binary(BET, b'{"stakeMinor": 5}')
    assert caught.value.message.startswith(
        "the message of 17 bytes is not betting.v1.PlaceBetRequest in protobuf's binary form: "
    )
