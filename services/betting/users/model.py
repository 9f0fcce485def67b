"""The values of user-service: user, session, token pair. Times are microseconds since 1970."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a user may be; the value is the JWT's `role` claim and the table's column."""

    BETTOR = "bettor"
    OPERATOR = "operator"


class EndReason(enum.StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    LOGOUT_ALL = "logout-all"
    TOKEN_REUSED = "token-reused"  # noqa: S105 - a reason, not a secret
    PASSWORD_CHANGED = "password-changed"  # noqa: S105


@dataclass(frozen=True, slots=True)
class User:
    """The public profile of a user, without secrets."""

    user_id: uuid.UUID
    email: str
    display_name: str
    role: Role
    created_at_us: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user with the hash of their password, in PHC string format."""

    user: User
    password_hash: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session about to be stored, with the hash of its first refresh token."""

    session_id: uuid.UUID
    created_at_us: int
    expires_at_us: int
    token_sha256: bytes
    token_expires_at_us: int


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that has not ended, with its user."""

    session_id: uuid.UUID
    expires_at_us: int
    user: User


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens of a client. The refresh token is returned once and stored nowhere."""

    access_token: str
    access_expires_at_us: int
    refresh_token: str
    refresh_expires_at_us: int
