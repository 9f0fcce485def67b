"""Access tokens (JWT, RFC 7519, EdDSA per RFC 8037) and refresh tokens. Pure: time and keys come in as arguments."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from typing import Final

import jwt

from betting.runtime.clock import US_PER_S
from betting.users.model import Role
from betting.users.signing import OpenKey

ISSUER: Final = "betting"
ALGORITHM: Final = "EdDSA"
REFRESH_TOKEN_BYTES: Final = 32  # 256 bits: hashing it once is enough, nobody can guess it

_REFRESH_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and when it ends, in microseconds since 1970."""

    text: str
    expires_at_us: int


def access_token(
    key: OpenKey, *, user_id: uuid.UUID, session_id: uuid.UUID, role: Role, now_us: int, lifetime_us: int
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
