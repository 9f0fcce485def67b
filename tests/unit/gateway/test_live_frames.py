"""Frames as they leave, packets as they come in, and what clients may ask for."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import Packet

from betting.gateway.live import messages
from betting.gateway.live.server import Closing

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "eventId": ANYTHING,
        "betId": ANYTHING,
        "token": ANYTHING,
        "after": ANYTHING | st.fixed_dictionaries({"shard": ANYTHING, "sequence": ANYTHING}),
    },
)


def payload_of(frame: bytes) -> bytes:
    """What RFC 6455 says is in a server's text frame."""
    assert frame[0] == 0x81
    length, start = frame[1], 2
    if length == 126:
        length, start = int.from_bytes(frame[2:4], "big"), 4
        assert length > 125
    elif length == 127:
        length, start = int.from_bytes(frame[2:10], "big"), 10
        assert length > 65_535
    assert len(frame) == start + length
    return frame[start:]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_says_how_long_it_is(length: int) -> None:
    """In the shortest of the three ways."""
    assert payload_of(messages.frame(b"x" * length)) == b"x" * length


@given(
    name=st.text(min_size=1).filter(lambda name: name not in messages.RESERVED),
    data=st.dictionaries(st.text(), st.text() | st.integers()),
)
def test_an_event_is_the_same_packet_in_both_forms(name: str, data: dict[str, Any]) -> None:
    """python-socketio reads from either what was put in; so does a client that speaks UTF-8."""
    try:
        json.dumps([name, data], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # our own messages hold no lone surrogates
    made = messages.event(name, data)
    assert payload_of(made.frame).decode() == "4" + made.text
    assert Packet(encoded_packet=made.text).data == [name, data]


@given(st.text() | st.text(alphabet='4201[]{}",:x').map(lambda text: f"42{text}"))
def test_no_text_is_too_strange(text: str) -> None:
    """It is refused with a code, or it is a packet that python-socketio can read."""
    wrong = messages.problem_with(text)
    if wrong is None and text[:1] == "4":
        Packet(encoded_packet=text[1:])


@given(ANYTHING | FIELDS)
def test_no_request_is_too_strange(data: Any) -> None:
    """Every reader gives what it promises, or refuses with a code."""
    for read in (messages.event_id, messages.bet_id, messages.cursor, messages.token):
        try:
            found: Any = read(data)
        except messages.BadRequest:
            continue
        if read is messages.event_id:
            assert 0 < found < 2**63
        elif read is messages.bet_id:
            assert len(found) == 16
        elif read is messages.cursor:
            assert found is None or all(0 <= each < 2**63 for each in found)


def test_no_event_has_a_name_that_clients_end_the_connection_for() -> None:
    """`disconnecting` is one of them."""
    for name in messages.RESERVED:
        with pytest.raises(AssertionError):
            messages.event(name, {})


def test_numbers_may_be_text() -> None:
    """As in the JSON of the other protocols, and as the messages themselves give them."""
    bet = uuid.uuid4()
    asked = {"betId": str(bet), "eventId": "9007199254740993", "after": {"shard": 3, "sequence": "17"}}
    assert messages.event_id(asked) == 9_007_199_254_740_993
    assert messages.bet_id(asked) == bet.bytes
    assert messages.cursor(asked) == (3, 17)
    assert messages.cursor({"betId": str(bet)}) is None


def test_who_is_sent_away_is_told_whether_to_come_back() -> None:
    """Where coming back with the same token cannot help, it is not asked for."""
    assert {each.code for each in Closing if each.reconnect} == {"SLOW_READER", "DRAINING"}
    assert all(each.data["message"] for each in Closing)
