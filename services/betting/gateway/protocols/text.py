"""gRPC-Web's text mode: base64 segments one after another, each padded by itself (PROTOCOL-WEB, "grpc-web-text")."""

from __future__ import annotations

import binascii
import re

from betting.gateway.protocols.failures import malformed

_SEGMENT = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def encode_text(data: bytes) -> bytes:
    """One padded base64 segment."""
    return binascii.b2a_base64(data, newline=False)


def decode_text(body: bytes) -> bytes:
    """Joins the segments; raises Failure for anything that is not base64 in groups of four."""
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
