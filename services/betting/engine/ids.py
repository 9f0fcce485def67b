"""Identifiers: 16-byte UUIDs as `bytes` in the core, text only at the edge."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import NewType

RequestKey = NewType("RequestKey", bytes)

# Two machine words are masked in half the time one 128-bit integer takes.
_WORDS = Struct(">QQ")
_VERSION_8 = 0x8 << 12
_KEEP_HIGH = (1 << 64) - 1 - (0xF << 12)
_VARIANT = 0b10 << 62
_KEEP_LOW = (1 << 62) - 1

MS_PER_MINUTE = 60_000


def _uuid8(material: bytes) -> bytes:
    """The first 128 bits of SHA-256, marked as UUID version 8 (RFC 9562, 5.8: vendor-specific)."""
    high, low = _WORDS.unpack_from(sha256(material).digest())
    return _WORDS.pack(high & _KEEP_HIGH | _VERSION_8, low & _KEEP_LOW | _VARIANT)


def account_id(user: bytes, currency: bytes) -> bytes:
    """The account of one user (16 bytes) in one currency (3 ASCII bytes)."""
    return _uuid8(user + currency)


def bet_id(account: bytes, key: bytes) -> bytes:
    """A bet's id follows from its account and request key: a repeat cannot make a second bet."""
    return _uuid8(account + key)


def is_uuid7(key: bytes) -> bool:
    """Whether these 16 bytes are a UUIDv7 (RFC 9562, 5.7)."""
    return len(key) == 16 and key[6] >> 4 == 7 and key[8] >> 6 == 0b10


def key_time_ms(key: bytes) -> int:
    """Milliseconds since 1970 that a UUIDv7 carries in its first 48 bits."""
    return int.from_bytes(key[:6])


def key_minute(key: bytes) -> int:
    """The minute a request key was made in; recent keys are kept by it."""
    return int.from_bytes(key[:6]) // MS_PER_MINUTE
