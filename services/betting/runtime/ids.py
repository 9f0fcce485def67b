"""New identifiers: UUIDv7 (RFC 9562, 5.7), which sort by the time they were made."""

from __future__ import annotations

import os
import time
import uuid

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_MASK = (1 << 62) - 1
_NS_PER_MS = 1_000_000


def uuid7_from(time_ns: int, random_bytes: bytes) -> bytes:
    """The 16 bytes of a UUIDv7: 48 bits of milliseconds, 12 of their fraction (RFC 9562, 6.2 method 3), 62 random."""
    milliseconds, rest_ns = divmod(time_ns, _NS_PER_MS)
    fraction = (rest_ns << 12) // _NS_PER_MS
    noise = int.from_bytes(random_bytes[:8]) & _RANDOM_MASK
    return ((milliseconds << 80) | _VERSION | (fraction << 64) | _VARIANT | noise).to_bytes(16)


def new_uuid7_bytes() -> bytes:
    """A new UUIDv7 as 16 bytes."""
    return uuid7_from(time.time_ns(), os.urandom(8))


def new_uuid7() -> uuid.UUID:
    """A new UUIDv7."""
    return uuid.UUID(bytes=new_uuid7_bytes())


def new_boot_id() -> str:
    """Tells one life of a process from the next; 16 characters, so that it fits Postgres' names beside the instance."""
    return os.urandom(8).hex()
