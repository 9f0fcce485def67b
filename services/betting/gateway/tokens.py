"""Verifies access tokens (JWT, RFC 7519; EdDSA, RFC 8037). Pure; keys and time come in as arguments."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from betting.runtime.clock import US_PER_S
from betting.runtime.errors import ServiceError, unauthenticated
from betting.runtime.principal import Role

ISSUER: Final = "betting"
ALGORITHMS: Final = ["EdDSA"]
MAX_TOKEN_CHARACTERS: Final = 4_096
MAX_KEY_ID_CHARACTERS: Final = 128
MAX_EXPIRES_AT_S: Final = 1 << 40
ROLES: Final = {"bettor": Role.BETTOR, "operator": Role.OPERATOR}

_SCHEME: Final = "bearer "
_REQUIRED: Final = ["sub", "sid", "exp", "iat", "iss", "role"]
# Our own checks of time and the claims' shapes follow; PyJWT checks signature, algorithm, issuer and presence.
_OPTIONS: Final[Any] = {
    "require": _REQUIRED,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of an access token whose signature and times were checked."""

    user_id: bytes
    session_id: bytes
    role: Role
    expires_at_us: int


def bearer(header: str | None) -> str:
    """The token inside an Authorization header; raises UNAUTHENTICATED TOKEN_MISSING or TOKEN_MALFORMED."""
    if not header:
        message = "this call needs a signed-in user: log in and send the header Authorization: Bearer <access token>"
        raise unauthenticated("TOKEN_MISSING", message)
    if len(header) > MAX_TOKEN_CHARACTERS:
        raise _malformed(f"the Authorization header has {len(header)} characters, {MAX_TOKEN_CHARACTERS} is the limit")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise _malformed("the Authorization header is not Bearer and an access token")
    return header[len(_SCHEME) :].strip()


def key_id(token: str) -> str:
    """The key id in the token's header, not yet verified. Raises UNAUTHENTICATED TOKEN_MALFORMED."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _malformed("the access token is not a JSON Web Token") from None
    if header.get("alg") not in ALGORITHMS:
        raise _malformed("the access token is not signed with EdDSA")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KEY_ID_CHARACTERS:
        raise _malformed("the access token does not name its key (kid)")
    return kid


def claims(token: str, key: Ed25519PublicKey, now_us: int) -> Claims:
    """The claims of the token after checking signature, issuer and expiry. Raises UNAUTHENTICATED."""
    try:
        payload = jwt.decode(token, key, algorithms=ALGORITHMS, issuer=ISSUER, options=_OPTIONS)
    except jwt.InvalidSignatureError:
        raise unauthenticated("TOKEN_FORGED", "the access token's signature does not fit: log in again") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
        raise _malformed("the access token does not say what this platform's tokens say") from None
    believed = _claims(payload)
    if believed.expires_at_us <= now_us:
        ended_s = (now_us - believed.expires_at_us) // US_PER_S
        message = f"the access token has ended {ended_s} s ago: refresh it, or log in again"
        raise unauthenticated("TOKEN_EXPIRED", message)
    return believed


def _claims(payload: Mapping[str, Any]) -> Claims:
    role = payload["role"]
    expires_at_s = payload["exp"]
    if not isinstance(role, str) or role not in ROLES:
        raise _malformed("the access token's role is not known")
    if type(expires_at_s) is not int or not 0 < expires_at_s < MAX_EXPIRES_AT_S:
        raise _malformed("the access token's end (exp) is not a time")
    return Claims(
        user_id=_uuid(payload["sub"]),
        session_id=_uuid(payload["sid"]),
        role=ROLES[role],
        expires_at_us=expires_at_s * US_PER_S,
    )


def _uuid(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _malformed("the access token's ids are not UUIDs")
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise _malformed("the access token's ids are not UUIDs") from None


def _malformed(why: str) -> ServiceError:
    return unauthenticated("TOKEN_MALFORMED", f"{why}: log in again")
