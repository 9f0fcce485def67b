"""What a client gets that speaks HTTP/2 at once, as plain gRPC does: a status for each of its calls. Pure.

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc/doc/PROTOCOL-HTTP2.md ("Trailers-Only"). Requests are not read: every
answer is the same, so HPACK needs no decoder, and no state.
"""

from __future__ import annotations

import struct
from typing import Final

from betting.gateway.protocols.failures import Code
from betting.gateway.protocols.wires import PLAIN_GRPC, percent_encode

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, 4.2: the largest frame that a peer may send us, who announce nothing else.
MAX_FRAME_BYTES: Final = 16_384
# One that goes on sends for nothing.
MAX_BYTES: Final = 256 * 1024
MAX_ANSWERS: Final = 100

_HEAD: Final = struct.Struct(">HBBBI")
_HEAD_BYTES: Final = 9
_HEADERS, _SETTINGS, _PING, _GOAWAY = 0x1, 0x4, 0x6, 0x7
_ACK: Final = 0x1
_END_OF_STREAM_AND_HEADERS: Final = 0x1 | 0x4
_NO_ERROR, _PROTOCOL_ERROR, _FRAME_SIZE_ERROR, _ENHANCE_YOUR_CALM = 0x0, 0x1, 0x6, 0xB
_PING_BYTES: Final = 8


class Http2Refusal:
    """The answers on one connection. `is_over`: nothing more is sent; close the connection."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._preface_seen = False
        self._bytes = 0
        self._last_stream = 0
        self._answers = 0
        self.is_over = False

    def answer(self, data: bytes) -> bytes:
        """The HTTP/2 frames to write after these bytes: settings, and UNAVAILABLE for each call.

        Empty once `is_over`.
        """
        if self.is_over:
            return b""
        self._bytes += len(data)
        self._unread += data
        if not self._preface_seen:
            if not PREFACE.startswith(self._unread[: len(PREFACE)]):
                return self._end(_PROTOCOL_ERROR)
            if len(self._unread) < len(PREFACE):
                return b""
            del self._unread[: len(PREFACE)]
            self._preface_seen = True
            return _frame(_SETTINGS, 0, 0, b"") + self._frames()
        return self._frames()

    def _frames(self) -> bytes:
        answers = bytearray()
        while len(self._unread) >= _HEAD_BYTES and not self.is_over:
            high, low, kind, flags, stream = _HEAD.unpack_from(self._unread)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                answers += self._end(_FRAME_SIZE_ERROR)
            elif len(self._unread) < _HEAD_BYTES + length:
                break
            else:
                payload = bytes(self._unread[_HEAD_BYTES : _HEAD_BYTES + length])
                del self._unread[: _HEAD_BYTES + length]
                answers += self._answer_to(kind, flags, stream & 0x7FFF_FFFF, payload)
        if self._bytes > MAX_BYTES and not self.is_over:
            answers += self._end(_ENHANCE_YOUR_CALM)
        return bytes(answers)

    def _answer_to(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK and len(payload) == _PING_BYTES:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _HEADERS and stream > self._last_stream:
            self._last_stream = stream
            self._answers += 1
            answer = _frame(_HEADERS, _END_OF_STREAM_AND_HEADERS, stream, _TRAILERS_ONLY)
            return answer + (self._end(_NO_ERROR) if self._answers >= MAX_ANSWERS else b"")
        if kind == _GOAWAY:
            return self._end(_NO_ERROR)
        return b""

    def _end(self, why: int) -> bytes:
        self.is_over = True
        return _frame(_GOAWAY, 0, 0, struct.pack(">II", self._last_stream, why) + PLAIN_GRPC.encode("ascii"))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """A literal field, not indexed, names and values as they are (RFC 7541, 6.2.2 and 5.2)."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    raw = text.encode("ascii")
    if len(raw) < 0x7F:
        return bytes((len(raw),)) + raw
    rest, length = len(raw) - 0x7F, bytearray((0x7F,))
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + raw


# 0x88 is ":status 200" of the static table (RFC 7541, appendix A).
_TRAILERS_ONLY: Final = (
    b"\x88"
    + _header("content-type", "application/grpc")
    + _header("grpc-status", str(int(Code.UNIMPLEMENTED)))
    + _header("grpc-message", percent_encode(PLAIN_GRPC))
)
