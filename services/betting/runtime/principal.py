"""Who is calling: a fixed-size signed token that the gateway makes and every service checks.

Layout (big endian): version u8, role u8, has_user u8, user_id 16 bytes, session_id 16 bytes, expires_at_us i64, then
HMAC-SHA256 over all of it. The key is shared by the services of one platform; users never see a token.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from betting.runtime import context as request_context
from betting.runtime import errors
from betting.runtime.clock import US_PER_S

METADATA_KEY = "x-betting-principal-bin"
VERIFIED_TOKENS_MAX = 65_536
SERVICE_TOKEN_LIFETIME_S = 3600

_VERSION = 1
_BODY = struct.Struct(">BBB16s16sq")
_MAC_LENGTH = hashlib.sha256().digest_size
TOKEN_LENGTH = _BODY.size + _MAC_LENGTH
_NO_USER = bytes(16)


class Role(enum.IntEnum):
    """What a caller may be."""

    BETTOR = 1
    OPERATOR = 2
    SERVICE = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: a user in a session, or a service. Ids are 16 bytes; `expires_at_us` is microseconds since 1970."""

    user_id: bytes | None
    role: Role
    session_id: bytes
    expires_at_us: int


def sign(principal: Principal, secret: bytes) -> bytes:
    """The token for the metadata key `x-betting-principal-bin`."""
    user = principal.user_id
    if (user is not None and len(user) != 16) or len(principal.session_id) != 16:
        raise ValueError("user_id and session_id are 16 bytes each")
    body = _BODY.pack(
        _VERSION, principal.role, user is not None, user or _NO_USER, principal.session_id, principal.expires_at_us
    )
    return body + hmac.digest(secret, body, "sha256")


def service_principal(instance: str, secret: bytes, now_us: int, lifetime_s: int = SERVICE_TOKEN_LIFETIME_S) -> bytes:
    """A token that a service signs for itself; its session id names the instance."""
    session = hashlib.sha256(instance.encode()).digest()[:16]
    return sign(Principal(None, Role.SERVICE, session, now_us + lifetime_s * US_PER_S), secret)


class Verifier:
    """Checks tokens. Genuine ones are kept, the least recently used go first, so that the usual check is a look-up."""

    def __init__(self, secret: bytes, *, capacity: int = VERIFIED_TOKENS_MAX) -> None:
        self._secret = secret
        self._capacity = capacity
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: bytes, now_us: int) -> Principal:
        """The caller a token stands for.

        Raises UNAUTHENTICATED: PRINCIPAL_MALFORMED, PRINCIPAL_FORGED (wrong key or altered) or PRINCIPAL_EXPIRED.
        """
        principal = self._verified.get(token)
        if principal is None:
            principal = self._checked(token)
            self._keep(token, principal)
        else:
            self._verified.move_to_end(token)
        if principal.expires_at_us <= now_us:
            del self._verified[token]
            raise errors.unauthenticated("PRINCIPAL_EXPIRED", "the caller's token has expired: log in again")
        return principal

    def __len__(self) -> int:
        return len(self._verified)

    def _keep(self, token: bytes, principal: Principal) -> None:
        if len(self._verified) >= self._capacity:
            self._verified.popitem(last=False)
        self._verified[token] = principal

    def _checked(self, token: bytes) -> Principal:
        if len(token) != TOKEN_LENGTH:
            raise _malformed()
        body, mac = token[: _BODY.size], token[_BODY.size :]
        if not hmac.compare_digest(mac, hmac.digest(self._secret, body, "sha256")):
            raise errors.unauthenticated("PRINCIPAL_FORGED", "the caller's token is not signed by this platform")
        return _unpacked(body)


def _unpacked(body: bytes) -> Principal:
    version, role, has_user, user, session, expires_at_us = _BODY.unpack(body)
    if version != _VERSION or role not in Role.__members__.values():
        raise _malformed()
    return Principal(user if has_user else None, Role(role), session, expires_at_us)


def _malformed() -> errors.ServiceError:
    return errors.unauthenticated("PRINCIPAL_MALFORMED", "the caller's token is not of a kind this version reads")


# Set by the server for each request; None: the request came without a token.
current: ContextVar[Principal | None] = ContextVar("principal", default=None)


def current_token() -> bytes | None:
    """The token that came with the current request, to hand on with `Target.call(principal=...)`."""
    return request_context.principal_token.get()


def require_principal() -> Principal:
    """The caller of the current request. Raises UNAUTHENTICATED PRINCIPAL_MISSING."""
    principal = current.get()
    if principal is None:
        raise errors.unauthenticated("PRINCIPAL_MISSING", "this call needs a caller: log in and send the access token")
    return principal


def require_user(_context: grpc.aio.ServicerContext[Any, Any]) -> Principal:
    """The caller, who is a user: `user_id` is there. Raises UNAUTHENTICATED, or PERMISSION_DENIED USER_REQUIRED."""
    principal = require_principal()
    if principal.user_id is None:
        raise errors.permission_denied("USER_REQUIRED", "this call acts for a user, but a service made it")
    return principal


def require_role(_context: grpc.aio.ServicerContext[Any, Any], *roles: Role) -> Principal:
    """The caller, who has one of these roles. Raises UNAUTHENTICATED, or PERMISSION_DENIED ROLE_REQUIRED."""
    principal = require_principal()
    if principal.role not in roles:
        names = " or ".join(role.name.lower() for role in roles)
        raise errors.permission_denied("ROLE_REQUIRED", f"this call is for the role {names}")
    return principal
