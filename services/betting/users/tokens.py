"""Access tokens (JWT, RFC 7519, EdDSA per RFC 8037), refresh tokens, device tokens. Pure: time and keys come in.

A refresh token's successor is derived from it, so that it can be given again to whoever did not get it; only its hash
is stored. A device token is 16 bytes that name the device, when it was made, and a MAC over both and the account's
email: it proves that this device has logged in to this account before, and gives no access.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import Final

import jwt

from betting.runtime.clock import US_PER_S
from betting.users.model import Role
from betting.users.signing import UnsealedKey

ISSUER: Final = "betting"
ALGORITHM: Final = "EdDSA"
REFRESH_TOKEN_BYTES: Final = 32  # 256 bits: hashing it once is enough, nobody can guess it

DEVICE_BYTES: Final = 16
_DEVICE_TIME_BYTES: Final = 8
_MAC_BYTES: Final = 32
_DEVICE_TOKEN_CHARS: Final = -(-(DEVICE_BYTES + _DEVICE_TIME_BYTES + _MAC_BYTES) * 4 // 3)

_REFRESH_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and when it ends, in microseconds since 1970."""

    text: str
    expires_at_us: int


def access_token(
    key: UnsealedKey, *, user_id: uuid.UUID, session_id: uuid.UUID, role: Role, now_us: int, lifetime_us: int
) -> AccessToken:
    """A token for one session. Its times are whole seconds (NumericDate), so it may end up to a second early."""
    issued_at_s = now_us // US_PER_S
    expires_at_s = (now_us + lifetime_us) // US_PER_S
    claims = {
        "iss": ISSUER,
        "sub": str(user_id),
        "sid": str(session_id),
        "iat": issued_at_s,
        "exp": expires_at_s,
        "role": role.value,
    }
    text = jwt.encode(claims, key.private_key, algorithm=ALGORITHM, headers={"kid": key.key_id})
    return AccessToken(text, expires_at_s * US_PER_S)


def new_refresh_token() -> str:
    """43 characters of base64url without padding."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def is_refresh_token(text: str) -> bool:
    """Whether a text could be a refresh token; others are not worth a query."""
    return _REFRESH_TOKEN.fullmatch(text) is not None


def stored_form(refresh_token: str) -> bytes:
    """What is stored of a refresh token: its SHA-256."""
    return hashlib.sha256(refresh_token.encode("ascii")).digest()


def derived_key(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose (HMAC-SHA256 of its name), from the platform's internal secret."""
    return hmac.digest(secret, b"betting.users " + purpose.encode(), "sha256")


def successor(key: bytes, refresh_token: str) -> str:
    """The one token that a refresh token is exchanged for; nobody without the key can tell."""
    return _text(hmac.digest(key, refresh_token.encode("ascii"), "sha256"))


def new_device() -> bytes:
    """The id of a device that was not seen before."""
    return secrets.token_bytes(DEVICE_BYTES)


def device_token(key: bytes, email: str, device: bytes, now_us: int) -> str:
    """Proof that this device has logged in to the account of this (normalised) email."""
    head = device + now_us.to_bytes(_DEVICE_TIME_BYTES)
    return _text(head + _device_mac(key, email, head))


def device_of(key: bytes, email: str, token: str, now_us: int, lifetime_us: int) -> bytes | None:
    """The device that a token names; None for one that is another account's, too old, or none of ours.

    The last character has two bits to spare: only the spelling that was handed out counts.
    """
    if len(token) != _DEVICE_TOKEN_CHARS or not token.isascii():
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    head, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if _text(raw) != token or not hmac.compare_digest(mac, _device_mac(key, email, head)):
        return None
    made_at_us = int.from_bytes(head[DEVICE_BYTES:])
    return head[:DEVICE_BYTES] if now_us - made_at_us < lifetime_us else None


def _device_mac(key: bytes, email: str, head: bytes) -> bytes:
    return hmac.digest(key, head + email.encode(), "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
