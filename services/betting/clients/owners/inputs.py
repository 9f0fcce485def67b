"""What comes in with a command for an owner, checked where a person can still be told: one meaning for all services."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from betting.runtime.errors import invalid_argument, shown

_RFC_VARIANT: Final = frozenset("89abAB")


def request_key(text: str, field: str = "request_key") -> bytes:
    """The 16 bytes of a UUIDv7 in its 36-character form; raises INVALID_ARGUMENT REQUEST_KEY_NOT_UUID7."""
    if len(text) == 36 and text[14] == "7" and text[19] in _RFC_VARIANT:
        raw = uuid_bytes(text)
        if raw is not None:
            return raw
    raise invalid_argument(
        "REQUEST_KEY_NOT_UUID7",
        f"{field} is {shown(text)}: make a new UUIDv7 (RFC 9562) for every request, in its 36-character form",
    )


def currency(text: str, allowed: Collection[str], field: str = "currency") -> str:
    """One of the codes allowed (the setting BETTING_CURRENCIES); raises INVALID_ARGUMENT CURRENCY, with the list."""
    if text in allowed:
        return text
    listed = ", ".join(sorted(allowed))
    raise invalid_argument("CURRENCY", f"{field} is {shown(text)}: give one of {listed} (ISO 4217, in capitals)")


def uuid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a UUID in its 36-character form, or None."""
    if len(text) != 36 or text[8] != "-" or text[13] != "-" or text[18] != "-" or text[23] != "-":
        return None
    digits = text.replace("-", "")
    if len(digits) != 32 or not digits.isalnum():
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None
