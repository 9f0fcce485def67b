# ruff: noqa: PT017 - some inputs are good and others bad: both outcomes are checked
"""Frames, base64 text and timeouts: what can be read is read, everything else is refused with a reason."""

from __future__ import annotations

import base64

import pytest
from frames import split_frames
from hypothesis import given
from hypothesis import strategies as st

from betting.gateway.protocols import encoding
from betting.gateway.protocols.encoding import decode_text, encode_text
from betting.gateway.protocols.failures import Code, Failure


def reason_of(call: object, *arguments: object) -> tuple[Code, str]:
    """Code and reason of the Failure that a call raises."""
    with pytest.raises(Failure) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code, caught.value.reason


@given(st.binary(max_size=2_000))
def test_a_framed_message_is_read_back(payload: bytes) -> None:
    """Encoding and decoding one message gives the same bytes."""
    assert encoding.decode_single(encoding.encode_frame(payload)) == payload


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_failure(body: bytes) -> None:
    """No input makes the frame decoder raise anything but a Failure of the caller's making."""
    try:
        payload = encoding.decode_single(body)
    except Failure as failure:
        assert failure.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
        assert failure.message
    else:
        assert encoding.encode_frame(payload) == body


@given(st.binary(min_size=1, max_size=200), st.integers(min_value=0, max_value=204))
def test_a_frame_cut_short_is_refused(payload: bytes, cut: int) -> None:
    """Every proper prefix of a frame is refused."""
    whole = encoding.encode_frame(payload)
    code, reason = reason_of(encoding.decode_single, whole[: min(cut, len(whole) - 1)])
    assert (code, reason) in ((Code.INVALID_ARGUMENT, "FRAME_TRUNCATED"), (Code.UNIMPLEMENTED, "NO_MESSAGE"))


def test_a_compressed_frame_is_unimplemented() -> None:
    """The compression flag gets the code that tells a client to send plain messages."""
    assert reason_of(encoding.decode_single, b"\x01\0\0\0\x01x") == (Code.UNIMPLEMENTED, "COMPRESSION_UNSUPPORTED")


@pytest.mark.parametrize("flags", [0x02, 0x80, 0xFF])
def test_other_flags_are_malformed(flags: int) -> None:
    """A request frame has no other flags: trailers and ends of stream come from the server."""
    assert reason_of(encoding.decode_single, bytes((flags,)) + b"\0\0\0\x01x") == (Code.INVALID_ARGUMENT, "FRAME_FLAGS")


def test_two_messages_are_one_too_many() -> None:
    """Unary methods take one message."""
    two = encoding.encode_frame(b"a") + encoding.encode_frame(b"b")
    assert reason_of(encoding.decode_single, two) == (Code.UNIMPLEMENTED, "TOO_MANY_MESSAGES")


@given(st.lists(st.tuples(st.sampled_from([0, 0x80]), st.binary(max_size=50)), max_size=5), st.integers(0, 400))
def test_frames_are_split_wherever_the_bytes_break(parts: list[tuple[int, bytes]], cut: int) -> None:
    """Splitting a prefix and then the rest finds the frames that were put together."""
    whole = b"".join(encoding.encode_frame(payload, flags) for flags, payload in parts)
    first, left = split_frames(whole[:cut])
    second, rest = split_frames(left + whole[cut:])
    assert first + second == parts
    assert rest == b""


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_base64_segments_are_joined(parts: list[bytes]) -> None:
    """Text mode may pad after every frame: the segments are read one after another."""
    assert decode_text(b"".join(encode_text(part) for part in parts)) == b"".join(parts)


@given(st.binary(max_size=120))
def test_any_text_is_base64_or_a_failure(body: bytes) -> None:
    """No input makes the text decoder raise anything but a Failure."""
    try:
        decode_text(body)
    except Failure as failure:
        assert failure.reason == "BASE64"


@pytest.mark.parametrize(
    "body", [b"AAA", b"AAAA=", b"AA AA", b"====", b"AAAA\n", b"AB=A", "äöüß".encode(), b"A" * 4_001]
)
def test_broken_base64_is_refused(body: bytes) -> None:
    """Wrong lengths, foreign characters and misplaced padding are the caller's error."""
    assert reason_of(decode_text, body) == (Code.INVALID_ARGUMENT, "BASE64")


def test_a_long_run_of_base64_without_padding_is_read() -> None:
    """Length alone does not make the decoder slow or refuse."""
    data = bytes(range(256)) * 3_000
    assert decode_text(base64.b64encode(data)) == data


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1H", 3600),
        ("2M", 120),
        ("10S", 10),
        ("250m", 0.25),
        ("1500u", 0.0015),
        ("99999999n", 0.099999999),
        (None, None),
    ],
)
def test_grpc_timeouts(value: str, seconds: float) -> None:
    """The units of the gRPC specification."""
    assert encoding.grpc_timeout_s(value) == pytest.approx(seconds)
    assert encoding.grpc_timeout_s(None) is None


@pytest.mark.parametrize("value", ["", "10", "S", "123456789S", "-1S", "1.5S", "1 S", "1s", "٣S"])
def test_malformed_grpc_timeouts_are_refused(value: str) -> None:
    """Anything else is no timeout."""
    assert reason_of(encoding.grpc_timeout_s, value) == (Code.INVALID_ARGUMENT, "TIMEOUT")


@pytest.mark.parametrize("value", ["", "12345678901", "-1", "1.5", "1e3", "٣"])
def test_malformed_connect_timeouts_are_refused(value: str) -> None:
    """Connect takes up to ten digits of milliseconds."""
    assert reason_of(encoding.connect_timeout_s, value) == (Code.INVALID_ARGUMENT, "TIMEOUT")


def test_connect_timeouts_are_milliseconds() -> None:
    """1500 is one and a half seconds."""
    assert encoding.connect_timeout_s("1500") == 1.5
