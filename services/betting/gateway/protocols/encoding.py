"""Bytes and text of the protocols: length-prefixed frames, base64 text, protobuf and JSON messages, timeouts.

A frame is one flag byte, four bytes of length, the payload: gRPC PROTOCOL-WEB and Connect agree. Whatever is wrong
with an input becomes a Failure.
"""

from __future__ import annotations

import binascii
import re
import struct

from google.protobuf import json_format, message

from betting.gateway.protocols import json_reader
from betting.gateway.protocols.failures import Code, Failure, malformed

PREFIX_BYTES = 5
FLAG_COMPRESSED = 0x01
FLAG_END_STREAM = 0x02  # Connect: the last envelope of a stream
FLAG_TRAILERS = 0x80  # gRPC-Web: the frame that carries the trailers

# What is read of one body. The largest request that is taken, 500 bets of 20 legs, has 65,000 values.
JSON_VALUES_MAX = 100_000
TEXT_SEGMENTS_MAX = 64

_PREFIX = struct.Struct(">BI")


def encode_frame(payload: bytes, flags: int = 0) -> bytes:
    """The payload with its prefix."""
    return _PREFIX.pack(flags, len(payload)) + payload


def decode_single(body: bytes) -> bytes:
    """The one message that a request to a unary or server-streaming method carries.

    Raises Failure: INVALID_ARGUMENT for a broken frame, UNIMPLEMENTED for compression and for no or several messages
    (the codes connect-go and gRPC implementations give for a cardinality violation).
    """
    if len(body) < PREFIX_BYTES:
        raise _too_short(len(body))
    flags, length = _PREFIX.unpack_from(body)
    if flags:
        raise _unusable_flags(flags)
    end = PREFIX_BYTES + length
    if end == len(body):
        return body[PREFIX_BYTES:]
    if end > len(body):
        got = len(body) - PREFIX_BYTES
        raise malformed("FRAME_TRUNCATED", f"the frame announces {length} bytes, {got} came: send the whole message")
    raise Failure(
        Code.UNIMPLEMENTED, "TOO_MANY_MESSAGES", "this method takes exactly one message, more bytes follow it"
    )


def _too_short(size_bytes: int) -> Failure:
    if size_bytes == 0:
        return Failure(Code.UNIMPLEMENTED, "NO_MESSAGE", "this method takes exactly one message, the body is empty")
    return malformed("FRAME_TRUNCATED", f"a frame starts with {PREFIX_BYTES} bytes, only {size_bytes} came")


def _unusable_flags(flags: int) -> Failure:
    if flags == FLAG_COMPRESSED:
        message = "compressed messages are not taken here: send them uncompressed (encoding identity)"
        return Failure(Code.UNIMPLEMENTED, "COMPRESSION_UNSUPPORTED", message)
    return malformed("FRAME_FLAGS", f"frame flags {flags:#04x} are not those of a request message: expected 0x00")


_SEGMENT = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def encode_text(data: bytes) -> bytes:
    """One padded base64 segment."""
    return binascii.b2a_base64(data, newline=False)


def decode_text(body: bytes) -> bytes:
    """Joins the segments; raises Failure for anything that is not base64 in groups of four."""
    if body.count(b"=") > 2 * TEXT_SEGMENTS_MAX:
        raise malformed("BASE64", f"the text body has over {TEXT_SEGMENTS_MAX} padded segments: send it in fewer")
    parts = []
    position = 0
    while position < len(body):
        match = _SEGMENT.match(body, position)
        if match is None or (match.end() - position) % 4:
            raise malformed("BASE64", f"the text body is not base64 in groups of four characters near byte {position}")
        try:
            parts.append(binascii.a2b_base64(match.group(), strict_mode=True))
        except binascii.Error:
            raise malformed("BASE64", f"the text body is not valid base64 near byte {position}") from None
        position = match.end()
    return b"".join(parts)


def from_binary(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses a message; raises Failure INVALID_ARGUMENT when it is not one."""
    try:
        return kind.FromString(body)
    except message.DecodeError:
        raise malformed(
            "PROTOBUF",
            f"the message of {len(body)} bytes is not {kind.DESCRIPTOR.full_name} in protobuf's binary form: "
            "encode it with the published protos, or send JSON under a Content-Type that says so",
        ) from None


def json_values(body: bytes) -> int:
    """At least how many values a JSON text has, without reading it."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def from_json(kind: type[message.Message], body: bytes) -> message.Message:
    """Parses proto3 JSON; unknown members are ignored, as Connect servers do; raises Failure INVALID_ARGUMENT."""
    values = json_values(body)
    if values > JSON_VALUES_MAX:
        message = f"the JSON body has about {values} values, at most {JSON_VALUES_MAX} are read: send less at once"
        raise malformed("JSON_TOO_LARGE", message)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed("UTF8", f"the JSON body is not UTF-8 at byte {error.start}: encode it as UTF-8") from None
    if not text.lstrip().startswith("{"):
        found = f"has {len(body)} bytes but no JSON object" if text.strip() else "is empty"
        raise malformed("JSON", f"the body {found}: send a JSON object, {{}} if there is nothing to say")
    return json_reader.read(kind, text)


def to_json(reply: message.Message) -> bytes:
    """Proto3 JSON without line breaks."""
    return json_format.MessageToJson(reply, indent=None, ensure_ascii=False).encode("utf-8", "replace")


# gRPC PROTOCOL-HTTP2: at most eight digits and a unit.
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# Connect: at most ten digits, milliseconds.
_CONNECT = re.compile(r"[0-9]{1,10}", re.ASCII)


def grpc_timeout_s(value: str | None) -> float | None:
    """Seconds in a grpc-timeout header; None when there is none."""
    if value is None:
        return None
    match = _GRPC.fullmatch(value)
    if match is None:
        raise malformed("TIMEOUT", f"grpc-timeout {value[:20]!r} is not one to eight digits and one of H M S m u n")
    return int(match[1]) * _UNIT_S[match[2]]


def connect_timeout_s(value: str | None) -> float | None:
    """Seconds in a Connect-Timeout-Ms header; None when there is none."""
    if value is None:
        return None
    if _CONNECT.fullmatch(value) is None:
        raise malformed("TIMEOUT", f"Connect-Timeout-Ms {value[:20]!r} is not one to ten digits (milliseconds)")
    return int(value) / 1000
