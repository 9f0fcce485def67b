"""Users, sessions and refresh tokens in Postgres. Races between callers are decided here, by row locks."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncpg

from betting.runtime.postgres import translated
from betting.users.model import Credentials, EndReason, LiveSession, NewSession, Role, User
from betting.users.tokens import stored_form

_USER_COLUMNS = "u.user_id, u.email, u.display_name, u.role, u.created_at_us"

# User, session and first token in one statement: it commits or does not, in one round trip.
_INSERT_USER_WITH_SESSION = """
WITH new_user AS (
    INSERT INTO users.users (user_id, email, password_hash, display_name, role, created_at_us)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (email) DO NOTHING RETURNING user_id
), new_session AS (
    INSERT INTO users.sessions (session_id, user_id, created_at_us, expires_at_us)
    SELECT $7, user_id, $8, $9 FROM new_user RETURNING session_id
)
INSERT INTO users.refresh_tokens (token_sha256, session_id, issued_at_us, expires_at_us)
SELECT $10, session_id, $8, $11 FROM new_session RETURNING session_id
"""
_INSERT_USER = """
INSERT INTO users.users (user_id, email, password_hash, display_name, role, created_at_us)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (email) DO NOTHING RETURNING user_id
"""
_INSERT_SESSION = """
WITH new_session AS (
    INSERT INTO users.sessions (session_id, user_id, created_at_us, expires_at_us)
    VALUES ($1, $2, $3, $4) RETURNING session_id
)
INSERT INTO users.refresh_tokens (token_sha256, session_id, issued_at_us, expires_at_us)
SELECT $5, session_id, $3, $6 FROM new_session
"""
_FIND_CREDENTIALS = f"SELECT {_USER_COLUMNS}, u.password_hash FROM users.users u WHERE u.email = $1"  # noqa: S608
_REPLACE_HASH = "UPDATE users.users SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2 RETURNING user_id"
_FIND_LIVE_SESSION = f"""
SELECT s.session_id, s.expires_at_us, {_USER_COLUMNS}
FROM users.sessions s JOIN users.users u USING (user_id)
WHERE s.session_id = $1 AND s.user_id = $2 AND s.ended_at_us IS NULL AND s.expires_at_us > $3
"""  # noqa: S608

_FIND_FAMILY = "SELECT session_id FROM users.refresh_tokens WHERE token_sha256 = $1"
# Every use of any token of a family passes through this row lock, one after another.
_LOCK_SESSION = f"""
SELECT s.expires_at_us, s.ended_at_us, {_USER_COLUMNS}
FROM users.sessions s JOIN users.users u USING (user_id) WHERE s.session_id = $1 FOR UPDATE OF s
"""  # noqa: S608
_READ_BY_HASH = "SELECT expires_at_us, used_at_us FROM users.refresh_tokens WHERE token_sha256 = $1"
_USE_PRESENTED = (
    "UPDATE users.refresh_tokens SET used_at_us = $2 WHERE token_sha256 = $1 AND used_at_us IS NULL RETURNING 1"
)
_ADD_SUCCESSOR = """
INSERT INTO users.refresh_tokens (token_sha256, session_id, issued_at_us, expires_at_us) VALUES ($1, $2, $3, $4)
"""

# Ends sessions and puts them into the outbox in one statement: neither without the other. Locked in one order.
_END_SESSIONS = """
WITH live AS (
    SELECT session_id FROM users.sessions
    WHERE user_id = $1 AND ($2::uuid IS NULL OR session_id = $2) AND ended_at_us IS NULL AND expires_at_us > $3
    ORDER BY session_id FOR UPDATE
), ended AS (
    UPDATE users.sessions s SET ended_at_us = $3, ended_reason = $4 FROM live
    WHERE s.session_id = live.session_id RETURNING s.session_id
)
INSERT INTO users.revocations (session_id, relevant_until_us) SELECT session_id, $5 FROM ended
ON CONFLICT (session_id) DO NOTHING RETURNING session_id
"""


# Exchanges of one session within the window, one after another: no client needs as many.
_CHAIN_MAX: Final = 100


class RefreshRefusal(enum.Enum):
    """Why a refresh token was not exchanged, in checking order."""

    UNKNOWN = "unknown"
    REUSED = "reused"
    SESSION_ENDED = "session-ended"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Rotated:
    """A refresh token was exchanged, now or a moment ago, for this one, which ends at `expires_at_us`."""

    session: LiveSession
    refresh_token: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class RotationRequest:
    """The token presented, and which one takes a token's place.

    reuse_window_us: how long after its exchange a token may be presented again, in microseconds.
    """

    presented: str
    successor_of: Callable[[str], str]
    now_us: int
    lifetime_us: int
    reuse_window_us: int


class UserStore:
    """The tables `users`, `sessions`, `refresh_tokens`, `revocations`.

    relevant_after_us: how long after its end a session's access tokens may still look valid; ended sessions are
    announced for that long. Every method raises UNAVAILABLE when Postgres does not answer.
    """

    def __init__(self, pool: asyncpg.Pool, *, relevant_after_us: int) -> None:
        self._pool = pool
        self._relevant_after_us = relevant_after_us

    async def add_user_with_session(self, user: User, password_hash: str, session: NewSession) -> bool:
        """Stores a user who is signed in at once; False when the email is taken, and nothing is stored."""
        async with translated():
            added = await self._pool.fetchval(
                _INSERT_USER_WITH_SESSION, *_user_row(user, password_hash), session.session_id, session.created_at_us,
                session.expires_at_us, session.token_sha256, session.token_expires_at_us,
            )  # fmt: skip
        return added is not None

    async def add_user(self, user: User, password_hash: str) -> bool:
        """Stores a user; False when the email is taken."""
        async with translated():
            return await self._pool.fetchval(_INSERT_USER, *_user_row(user, password_hash)) is not None

    async def add_session(self, user_id: uuid.UUID, session: NewSession) -> None:
        """Stores a session with its first refresh token."""
        async with translated():
            await self._pool.execute(
                _INSERT_SESSION, session.session_id, user_id, session.created_at_us, session.expires_at_us,
                session.token_sha256, session.token_expires_at_us,
            )  # fmt: skip

    async def credentials(self, email: str) -> Credentials | None:
        """The user with this normalised email and the hash of the password; None when there is none."""
        async with translated():
            row = await self._pool.fetchrow(_FIND_CREDENTIALS, email)
        return None if row is None else Credentials(_user(row), row["password_hash"])

    async def replace_hash(self, user_id: uuid.UUID, old_hash: str, new_hash: str) -> bool:
        """Replaces a hash if it is still the old one; returns whether it did."""
        async with translated():
            return await self._pool.fetchval(_REPLACE_HASH, user_id, old_hash, new_hash) is not None

    async def live_session(self, session_id: uuid.UUID, user_id: uuid.UUID, now_us: int) -> LiveSession | None:
        """The session with its user; None when it is not this user's, has ended or has expired."""
        async with translated():
            row = await self._pool.fetchrow(_FIND_LIVE_SESSION, session_id, user_id, now_us)
        return None if row is None else LiveSession(row["session_id"], row["expires_at_us"], _user(row))

    async def rotate(self, request: RotationRequest) -> Rotated | RefreshRefusal:
        """Exchanges a refresh token. One used longer ago than the window ends its session, which is committed too."""
        async with translated():
            session_id = await self._pool.fetchval(_FIND_FAMILY, stored_form(request.presented))
            if session_id is None:
                return RefreshRefusal.UNKNOWN
            async with self._pool.acquire() as connection, connection.transaction():
                return await self._rotate_locked(connection, session_id, request)

    async def _rotate_locked(
        self, connection: asyncpg.Connection, session_id: uuid.UUID, request: RotationRequest
    ) -> Rotated | RefreshRefusal:
        session = await connection.fetchrow(_LOCK_SESSION, session_id)
        # Statements after the lock see what the lock's last holder committed (READ COMMITTED: a snapshot each).
        presented_sha256 = stored_form(request.presented)
        token = await connection.fetchrow(_READ_BY_HASH, presented_sha256)
        if session is None or token is None:
            return RefreshRefusal.UNKNOWN
        if token["used_at_us"] is not None:
            if session["ended_at_us"] is None and request.now_us - token["used_at_us"] <= request.reuse_window_us:
                again = await self._newest(connection, session_id, session, request)
                if again is not None:
                    return again
            await self._end(connection, session["user_id"], session_id, EndReason.TOKEN_REUSED, request.now_us)
            return RefreshRefusal.REUSED
        if session["ended_at_us"] is not None:
            return RefreshRefusal.SESSION_ENDED
        if min(token["expires_at_us"], session["expires_at_us"]) <= request.now_us:
            return RefreshRefusal.EXPIRED
        expires_at_us = min(request.now_us + request.lifetime_us, session["expires_at_us"])
        used = await connection.fetchval(_USE_PRESENTED, presented_sha256, request.now_us)
        assert used == 1, "a token is used under its session's lock only"
        successor = request.successor_of(request.presented)
        await connection.execute(_ADD_SUCCESSOR, stored_form(successor), session_id, request.now_us, expires_at_us)
        return Rotated(LiveSession(session_id, session["expires_at_us"], _user(session)), successor, expires_at_us)

    async def _newest(
        self, connection: asyncpg.Connection, session_id: uuid.UUID, session: asyncpg.Record, request: RotationRequest
    ) -> Rotated | None:
        """The session's newest token: a successor may have been exchanged already by who got it first. None when it has
        expired, or when a successor was made with another key."""
        token = request.presented
        for _ in range(_CHAIN_MAX):
            token = request.successor_of(token)
            row = await connection.fetchrow(_READ_BY_HASH, stored_form(token))
            if row is None:
                return None
            if row["used_at_us"] is None:
                if min(row["expires_at_us"], session["expires_at_us"]) <= request.now_us:
                    return None
                live = LiveSession(session_id, session["expires_at_us"], _user(session))
                return Rotated(live, token, row["expires_at_us"])
        return None

    async def end_sessions(
        self, user_id: uuid.UUID, session_id: uuid.UUID | None, reason: EndReason, now_us: int
    ) -> list[uuid.UUID]:
        """Ends one session of a user, or all (None), and notes them for announcement; returns those that were live."""
        async with translated():
            return await self._end(self._pool, user_id, session_id, reason, now_us)

    async def _end(
        self,
        source: asyncpg.Pool | asyncpg.Connection,
        user_id: uuid.UUID,
        session_id: uuid.UUID | None,
        reason: EndReason,
        now_us: int,
    ) -> list[uuid.UUID]:
        relevant_until_us = now_us + self._relevant_after_us
        rows = await source.fetch(_END_SESSIONS, user_id, session_id, now_us, reason.value, relevant_until_us)
        return [row["session_id"] for row in rows]


def _user_row(user: User, password_hash: str) -> tuple[object, ...]:
    return user.user_id, user.email, password_hash, user.display_name, user.role.value, user.created_at_us


def _user(row: asyncpg.Record) -> User:
    return User(row["user_id"], row["email"], row["display_name"], Role(row["role"]), row["created_at_us"])
