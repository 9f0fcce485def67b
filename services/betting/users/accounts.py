"""Registering and logging in.

Registering tells whether an address is taken; the gateway's rate limit keeps that from being asked in bulk. Logging in
does not: an unknown address and a wrong password take the same path and give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from betting.runtime.errors import ServiceError, already_exists, unauthenticated
from betting.runtime.ids import new_uuid7
from betting.users import inputs, throttle
from betting.users.issuing import Issuer
from betting.users.model import Credentials, Role, TokenPair, User
from betting.users.passwords import Passwords
from betting.users.store import UserStore
from betting.users.throttle import LoginThrottle, Subjects


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user with a new token pair."""

    user: User
    tokens: TokenPair


class Accounts:
    """Every method may raise UNAVAILABLE: Postgres does not answer, or more people sign in than can be hashed."""

    def __init__(
        self,
        store: UserStore,
        passwords: Passwords,
        login_throttle: LoginThrottle,
        issuer: Issuer,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._throttle = login_throttle
        self._issuer = issuer
        self._now_us = now_us

    async def register(self, email: str, password: str, display_name: str) -> SignedIn:
        """A new bettor, signed in. Raises INVALID_ARGUMENT, or ALREADY_EXISTS EMAIL_TAKEN."""
        email = inputs.normalised_email(email)
        password = inputs.new_password(password)
        display_name = inputs.display_name(display_name)
        password_hash = await self._passwords.hash(password)
        user = User(new_uuid7(), email, display_name, Role.BETTOR, self._now_us())
        opened = self._issuer.opened(user)
        if not await self._store.add_user_with_session(user, password_hash, opened.session):
            raise already_exists("EMAIL_TAKEN", "somebody has registered with this email: log in, or use another one")
        return SignedIn(user, opened.tokens)

    async def login(self, email: str, password: str, source: str) -> SignedIn:
        """A new session for whoever knows the password; `source` is the client's network address.

        Raises UNAUTHENTICATED CREDENTIALS_WRONG, RESOURCE_EXHAUSTED LOGIN_RATE_LIMITED, or INVALID_ARGUMENT.
        """
        email = inputs.normalised_email(email)
        password = inputs.given_password(password)
        attempt = throttle.subjects(email, source)
        await self._throttle.count(attempt, self._now_us())
        known = await self._proven(email, password, attempt)
        if known is None:
            raise unauthenticated("CREDENTIALS_WRONG", "email or password is wrong: check both and try again")
        await self._throttle.succeeded(attempt)
        await self._rehash_if_outdated(known, password)
        opened = self._issuer.opened(known.user)
        await self._store.add_session(known.user.user_id, opened.session)
        return SignedIn(known.user, opened.tokens)

    async def _proven(self, email: str, password: str, attempt: Subjects) -> Credentials | None:
        """The user if the password is theirs: the same steps, in the same order, whether or not the user exists."""
        try:
            known = await self._store.credentials(email)
            matched = await self._passwords.matches(password, known.password_hash if known is not None else None)
        except ServiceError:
            await self._throttle.undecided(attempt)
            raise
        return known if matched else None

    async def _rehash_if_outdated(self, known: Credentials, password: str) -> None:
        if self._passwords.outdated(known.password_hash):
            new_hash = await self._passwords.hash(password)
            await self._store.replace_hash(known.user.user_id, known.password_hash, new_hash)
