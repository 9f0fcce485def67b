# ruff: noqa: PT017 - some inputs are good and others bad: both outcomes are checked
"""The protocols: replies and failures as gRPC-Web and Connect clients expect them."""

from __future__ import annotations

import base64
import json
from urllib.parse import unquote

import pytest
from frames import split_frames
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from betting.gateway.protocols import encoding, wires
from betting.gateway.protocols.encoding import (
    FLAG_END_STREAM,
    FLAG_TRAILERS,
    decode_text,
    encode_frame,
    encode_text,
)
from betting.gateway.protocols.failures import CONNECT_HTTP_STATUS, Code, Failure, connect_name
from betting.gateway.protocols.wires import WIRES, StreamWire, UnaryWire, wire_of
from betting.v1 import bet_pb2, event_pb2

FAILURE = Failure(Code.NOT_FOUND, "BET_NOT_FOUND", "no bet “7” – 100 % sure\nreally")


def trailers_of(body: bytes) -> dict[str, str]:
    """The trailers in the last frame of a gRPC-Web body."""
    frames, rest = split_frames(body)
    flags, payload = frames[-1]
    assert (flags, rest) == (FLAG_TRAILERS, b"")
    return dict(line.split(": ", 1) for line in payload.decode("ascii").split("\r\n") if line)


@given(st.text(max_size=60))
def test_status_messages_survive_percent_encoding(message: str) -> None:
    """Any text comes back, and only printable ASCII without a bare percent sign goes over the wire."""
    encoded = wires.percent_encode(message)
    assert all(0x20 <= ord(c) <= 0x7E for c in encoded)
    assert unquote(encoded) == message


def test_a_grpc_web_reply_is_a_message_and_its_trailers() -> None:
    """One data frame, then status 0."""
    body = WIRES["application/grpc-web+proto"].reply(b"abc")  # type: ignore[attr-defined]
    frames, rest = split_frames(body)
    assert frames == [(0, b"abc"), (FLAG_TRAILERS, b"grpc-status: 0\r\n")]
    assert rest == b""


def test_a_grpc_web_failure_is_trailers_with_details() -> None:
    """Status, message and google.rpc.Status travel in the trailers, HTTP says 200."""
    reply = WIRES["application/grpc-web"].failure(FAILURE)
    trailers = trailers_of(reply.body)
    assert reply.status == 200
    assert trailers["grpc-status"] == "5"
    assert unquote(trailers["grpc-message"]) == FAILURE.message
    packed = trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.reason, info.domain) == (5, "BET_NOT_FOUND", "selfhealing.bet")


def test_text_mode_is_the_binary_form_in_base64() -> None:
    """Every piece that text mode writes is the binary piece, encoded by itself."""
    text, binary = WIRES["application/grpc-web-text"], WIRES["application/grpc-web"]
    assert isinstance(text, UnaryWire)
    assert isinstance(text, StreamWire)
    assert isinstance(binary, UnaryWire)
    assert isinstance(binary, StreamWire)
    assert decode_text(text.reply(b"abc")) == binary.reply(b"abc")
    stream = text.item(b"a") + text.item(b"bc") + text.end(FAILURE)
    assert decode_text(stream) == binary.item(b"a") + binary.item(b"bc") + binary.end(FAILURE)
    assert text.payload(encode_text(encode_frame(b"x")[:3]) + encode_text(encode_frame(b"x")[3:])) == b"x"


def test_a_connect_failure_is_json_with_readable_details() -> None:
    """Code, message and details, the value unpadded, and a readable form for people."""
    reply = WIRES["application/json"].failure(FAILURE)
    error = json.loads(reply.body)
    assert (reply.status, reply.content_type) == (404, "application/json")
    assert (error["code"], error["message"]) == ("not_found", FAILURE.message)
    assert error["details"][0]["type"] == "google.rpc.ErrorInfo"
    assert error["details"][0]["debug"]["reason"] == "BET_NOT_FOUND"
    assert "=" not in error["details"][0]["value"]


def test_a_connect_stream_ends_with_an_envelope() -> None:
    """The end is flagged and says whether it went well."""
    wire = WIRES["application/connect+json"]
    assert isinstance(wire, StreamWire)
    (well,), _ = split_frames(wire.end(None))
    (badly,), _ = split_frames(wire.end(FAILURE))
    assert well == (FLAG_END_STREAM, b"{}")
    assert badly[0] == FLAG_END_STREAM
    assert json.loads(badly[1])["error"]["code"] == "not_found"


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_code_has_a_connect_form(code: Code) -> None:
    """No code is left without a name and an HTTP status of an error."""
    assert CONNECT_HTTP_STATUS[code] >= 400
    assert connect_name(code).islower()


@pytest.mark.parametrize(
    ("content_type", "known"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON;charset=UTF-8", True),
        ("application/json; charset=latin-1", False),
        ("application/grpc-web-text+proto", True),
        ("application/connect+proto", True),
        ("application/grpc", False),
        ("text/plain", False),
        ("", False),
        (None, False),
    ],
)
def test_content_types(content_type: str | None, known: bool) -> None:
    """Ours are found whatever their case and parameters; others are not ours."""
    assert (wire_of(content_type) is not None) is known


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"\xff\xfe", b"[]", b"1", b"null", b"{", b'{"legs": 5}', b'{"legs": [null]}', b'{"currency": 5}',
        b'{"stakeMinor": "x"}', b'{"stakeMinor": 1e99}', b'{"stakeMinor": 9223372036854775808}',
        b'{"stakeMinor": ' + b"9" * 10_000 + b"}", b'{"requestKey": "\\ud800"}', b'{"currency":"A","currency":"B"}',
        b"[" * 100_000, b'{"legs":' * 200,
    ],
)  # fmt: skip
def test_broken_json_is_the_callers_error(body: bytes) -> None:
    """Whatever is wrong with the JSON, the caller learns it, as INVALID_ARGUMENT."""
    with pytest.raises(Failure) as caught:
        encoding.from_json(bet_pb2.PlaceBetRequest, body)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_unknown_members_are_ignored() -> None:
    """A newer client's fields do not break an older gateway."""
    request = encoding.from_json(event_pb2.ListEventsRequest, b'{"pageSize": 7, "newer": {"a": [1]}}')
    assert request == event_pb2.ListEventsRequest(page_size=7)


@given(st.binary(max_size=400))
def test_any_json_body_is_a_message_or_a_failure(body: bytes) -> None:
    """Random bytes never get past the codec as anything else."""
    for kind in (bet_pb2.PlaceBetRequest, bet_pb2.PlaceBetsRequest):
        try:
            encoding.from_json(kind, body)
        except Failure as failure:
            assert failure.code is Code.INVALID_ARGUMENT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["requestKey", "stakeMinor", "legs", "price", "bets", "marketId", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_value_is_a_message_or_a_failure(value: object) -> None:
    """Well-formed JSON of the wrong shape is refused, never a crash."""
    body = json.dumps(value).encode()
    for kind in (bet_pb2.PlaceBetRequest, bet_pb2.PlaceBetsRequest):
        try:
            encoding.from_json(kind, body)
        except Failure as failure:
            assert failure.code is Code.INVALID_ARGUMENT


@given(st.binary(max_size=300))
def test_any_binary_body_is_a_message_or_a_failure(body: bytes) -> None:
    """Random bytes are a message or malformed."""
    try:
        encoding.from_binary(bet_pb2.PlaceBetRequest, body)
    except Failure as failure:
        assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "PROTOBUF")


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1), st.text(max_size=20))
def test_json_and_binary_say_the_same(stake_minor: int, key: str) -> None:
    """A message in either codec is the same message."""
    message = bet_pb2.PlaceBetRequest(request_key=key, stake_minor=stake_minor)
    assert encoding.from_json(bet_pb2.PlaceBetRequest, encoding.to_json(message)) == message
    assert json_format.Parse(encoding.to_json(message), bet_pb2.PlaceBetRequest()) == message
