"""Makes sessions and token pairs; stores nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from betting.runtime.ids import new_uuid7
from betting.users import tokens
from betting.users.keyring import Keyring
from betting.users.model import NewSession, TokenPair, User
from betting.users.signing import UnsealedKey


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Lifetimes in microseconds of access token, refresh token and session; access ≤ refresh ≤ session."""

    access_us: int
    refresh_us: int
    session_us: int

    def __post_init__(self) -> None:
        assert 0 < self.access_us <= self.refresh_us <= self.session_us, "tokens end before what they come from"


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """A session to be stored, and the tokens that its user gets once it is."""

    session: NewSession
    tokens: TokenPair


class Issuer:
    """Makes sessions and token pairs, signed with the current key.

    Every method may raise UNAVAILABLE NO_SIGNING_KEY.
    """

    def __init__(self, keyring: Keyring, lifetimes: Lifetimes, now_us: Callable[[], int]) -> None:
        self.lifetimes = lifetimes
        self._keyring = keyring
        self._now_us = now_us

    def opened(self, user: User) -> IssuedSession:
        """A new session with its first token pair.

        Nothing is stored: the caller stores `session`, then hands out `tokens`.
        """
        now_us, session_id, refresh_token = self._now_us(), new_uuid7(), tokens.new_refresh_token()
        refresh_ends_us = now_us + self.lifetimes.refresh_us
        session = NewSession(
            session_id=session_id,
            created_at_us=now_us,
            expires_at_us=now_us + self.lifetimes.session_us,
            token_sha256=tokens.stored_form(refresh_token),
            token_expires_at_us=refresh_ends_us,
        )
        pair = self.pair(self.signer(), user, session_id, now_us, refresh_token, refresh_ends_us)
        return IssuedSession(session, pair)

    def signer(self) -> UnsealedKey:
        """The private key that new tokens are signed with. Raises UNAVAILABLE NO_SIGNING_KEY."""
        return self._keyring.signer()

    def pair(
        self, key: UnsealedKey, user: User, session_id: uuid.UUID, now_us: int, refresh_token: str, refresh_ends_us: int
    ) -> TokenPair:
        """A signed access token together with the given refresh token; ends in microseconds since 1970."""
        access = tokens.access_token(
            key,
            user_id=user.user_id,
            session_id=session_id,
            role=user.role,
            now_us=now_us,
            lifetime_us=self.lifetimes.access_us,
        )
        return TokenPair(access.text, access.expires_at_us, refresh_token, refresh_ends_us)
