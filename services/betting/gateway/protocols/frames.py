"""Length-prefixed messages: one flag byte, four bytes of length, the payload (gRPC PROTOCOL-WEB and Connect agree)."""

from __future__ import annotations

import struct

from betting.gateway.protocols.codes import Code
from betting.gateway.protocols.failures import Failure, malformed

PREFIX_BYTES = 5
FLAG_COMPRESSED = 0x01
FLAG_END_STREAM = 0x02  # Connect: the last envelope of a stream
FLAG_TRAILERS = 0x80  # gRPC-Web: the frame that carries the trailers

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


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """All complete frames at the front of `data` as (flags, payload), and the bytes left over."""
    frames = []
    start = 0
    while len(data) - start >= PREFIX_BYTES:
        flags, length = _PREFIX.unpack_from(data, start)
        end = start + PREFIX_BYTES + length
        if end > len(data):
            break
        frames.append((flags, data[start + PREFIX_BYTES : end]))
        start = end
    return frames, data[start:]


def _too_short(size_bytes: int) -> Failure:
    if size_bytes == 0:
        return Failure(Code.UNIMPLEMENTED, "NO_MESSAGE", "this method takes exactly one message, the body is empty")
    return malformed("FRAME_TRUNCATED", f"a frame starts with {PREFIX_BYTES} bytes, only {size_bytes} came")


def _unusable_flags(flags: int) -> Failure:
    if flags == FLAG_COMPRESSED:
        message = "compressed messages are not taken here: send them uncompressed (encoding identity)"
        return Failure(Code.UNIMPLEMENTED, "COMPRESSION_UNSUPPORTED", message)
    return malformed("FRAME_FLAGS", f"frame flags {flags:#04x} are not those of a request message: expected 0x00")
