"""Sessions after their login: refreshing, ending, looking up.

A refresh token is good for one exchange. Shown again within a few seconds it gets the same successor again: two tabs of
one browser, or a client whose first answer was lost. Later it ends the session: whoever shows it may be the thief or
the victim, and nobody can tell. The window makes no second family: everybody who comes within it holds the same newest
token, and of two who go on using it apart, the second one to exchange it after the window ends the session.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from betting.runtime.errors import ServiceError, invalid_argument, unauthenticated
from betting.users import tokens
from betting.users.issuing import Issuer
from betting.users.model import EndReason, TokenPair, User
from betting.users.revocations import RevocationPublisher
from betting.users.session_cache import SessionCache
from betting.users.store import RefreshRefusal, RotationRequest, UserStore


@dataclass(frozen=True, slots=True)
class Successors:
    """key: what a refresh token's successor is derived with; reuse_window_us: how long it is given again."""

    key: bytes
    reuse_window_us: int

    def of(self, refresh_token: str) -> str:
        """The token that replaces this one."""
        return tokens.successor(self.key, refresh_token)


class Sessions:
    """Truth is in Postgres: every method may raise UNAVAILABLE when it does not answer; none needs Valkey."""

    def __init__(
        self,
        store: UserStore,
        cache: SessionCache,
        announcer: RevocationPublisher,
        issuer: Issuer,
        successors: Successors,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._cache = cache
        self._announcer = announcer
        self._issuer = issuer
        self._successors = successors
        self._now_us = now_us

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchanges a refresh token for a new pair. Raises UNAUTHENTICATED, or INVALID_ARGUMENT for an empty one."""
        if not refresh_token:
            raise invalid_argument("REFRESH_TOKEN_MISSING", "refresh_token is empty: send the newest one you have")
        if not tokens.is_refresh_token(refresh_token):
            raise _refused(RefreshRefusal.UNKNOWN)
        # Taken before the exchange: without a key to sign with, the token presented shall not be used up.
        key, now_us = self._issuer.signer(), self._now_us()
        rotated = await self._store.rotate(
            RotationRequest(
                presented=refresh_token,
                successor_of=self._successors.of,
                now_us=now_us,
                lifetime_us=self._issuer.lifetimes.refresh_us,
                reuse_window_us=self._successors.reuse_window_us,
            )
        )
        if isinstance(rotated, RefreshRefusal):
            if rotated is RefreshRefusal.REUSED:
                self._announcer.wanted()
            raise _refused(rotated)
        session = rotated.session
        return self._issuer.pair(
            key, session.user, session.session_id, now_us, rotated.refresh_token, rotated.expires_at_us
        )

    async def end(self, user_id: uuid.UUID, session_id: uuid.UUID | None, reason: EndReason) -> int:
        """Ends one session, or all of the user's (None); returns how many were live."""
        ended = await self._store.end_sessions(user_id, session_id, reason, self._now_us())
        if ended:
            self._announcer.wanted()
            await self._cache.ended(ended)
        return len(ended)

    async def user(self, user_id: uuid.UUID, session_id: uuid.UUID) -> User:
        """The user of a live session. Raises UNAUTHENTICATED SESSION_ENDED."""
        now_us = self._now_us()
        session = await self._cache.get(session_id, now_us)
        if session is None or session.user.user_id != user_id:
            session = await self._store.live_session(session_id, user_id, now_us)
            if session is None:
                raise _session_ended()
            await self._cache.put(session, now_us)
        return session.user


def _refused(why: RefreshRefusal) -> ServiceError:
    match why:
        case RefreshRefusal.UNKNOWN:
            return unauthenticated("REFRESH_TOKEN_INVALID", "refresh_token is not one of this platform's: log in again")
        case RefreshRefusal.REUSED:
            message = "refresh_token was used before: its session has been ended for safety, log in again"
            return unauthenticated("REFRESH_TOKEN_REUSED", message)
        case RefreshRefusal.SESSION_ENDED:
            return _session_ended()
        case RefreshRefusal.EXPIRED:
            return unauthenticated("REFRESH_TOKEN_EXPIRED", "refresh_token has expired: log in again")
        case _:
            assert_never(why)


def _session_ended() -> ServiceError:
    return unauthenticated("SESSION_ENDED", "this session has ended: log in again")
