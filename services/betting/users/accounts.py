"""Registering and logging in.

Registering tells whether an address is taken; the gateway's rate limit keeps that from being asked in bulk. Logging in
does not: an unknown address and a wrong password take the same path and give the same answer. Who has registered or
logged in gets a token for the device, which keeps other people's wrong passwords away from it (see throttle.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from betting.runtime.errors import ServiceError, already_exists, unauthenticated
from betting.runtime.ids import new_uuid7
from betting.users import inputs, tokens
from betting.users.issuing import Issuer
from betting.users.model import Credentials, Role, TokenPair, User
from betting.users.passwords import Passwords, Purpose
from betting.users.store import UserStore
from betting.users.throttle import Attempt, LoginKind, LoginThrottle

_PURPOSES = {LoginKind.EVERYONE: Purpose.LOGIN, LoginKind.OPERATORS: Purpose.OPERATOR}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user with a new token pair, and a token for the device they are at."""

    user: User
    tokens: TokenPair
    device_token: str


@dataclass(frozen=True, slots=True)
class Devices:
    """Device tokens: the key that makes them, and for how many microseconds one is good."""

    key: bytes
    lifetime_us: int

    def of(self, email: str, token: str, now_us: int) -> bytes | None:
        """The device of this token, if it has logged in to this account before; else None."""
        return tokens.device_of(self.key, email, token, now_us, self.lifetime_us)

    def token(self, email: str, device: bytes | None, now_us: int) -> str:
        """A new token, for the same device if it is known."""
        return tokens.device_token(self.key, email, device or tokens.new_device(), now_us)


class Accounts:
    """Every method may raise UNAVAILABLE: Postgres does not answer; RESOURCE_EXHAUSTED OVERLOADED: too many calls of
    the same purpose; DEADLINE_EXCEEDED: the deadline passed in the queue.
    """

    def __init__(
        self,
        store: UserStore,
        passwords: Passwords,
        login_throttle: LoginThrottle,
        devices: Devices,
        issuer: Issuer,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._throttle = login_throttle
        self._devices = devices
        self._issuer = issuer
        self._now_us = now_us

    async def register(self, email: str, password: str, display_name: str, source: str) -> SignedIn:
        """A new bettor, signed in; `source` is the client's network address, empty when nobody knows it.

        Raises INVALID_ARGUMENT, or ALREADY_EXISTS EMAIL_TAKEN.
        """
        email = inputs.normalised_email(email)
        password = inputs.new_password(password)
        display_name = inputs.display_name(display_name)
        password_hash = await self._passwords.hash(password, Purpose.REGISTER)
        now_us = self._now_us()
        user = User(new_uuid7(), email, display_name, Role.BETTOR, now_us)
        opened = self._issuer.opened(user)
        if not await self._store.add_user_with_session(user, password_hash, opened.session):
            raise already_exists("EMAIL_TAKEN", "this email is registered already: log in, or use another one")
        await self._throttle.remember(email, source, now_us)
        return SignedIn(user, opened.tokens, self._devices.token(email, None, now_us))

    async def login(
        self, email: str, password: str, source: str, device_token: str = "", login_kind: LoginKind = LoginKind.EVERYONE
    ) -> SignedIn:
        """A new session for whoever knows the password; `source` as above, `device_token` what this device was given.

        Raises UNAUTHENTICATED CREDENTIALS_WRONG, RESOURCE_EXHAUSTED LOGIN_RATE_LIMITED, or INVALID_ARGUMENT. The
        operators' door lets operators in only; nobody learns there whether a bettor's password was right.
        """
        email = inputs.normalised_email(email)
        password = inputs.given_password(password)
        now_us = self._now_us()
        device = self._devices.of(email, device_token, now_us)
        attempt = Attempt(login_kind, email, source, device)
        counted = await self._throttle.count(attempt, now_us)
        known = await self._proven(email, password, login_kind, counted)
        if known is None:
            raise unauthenticated("CREDENTIALS_WRONG", "email or password is wrong: check both and try again")
        await self._throttle.succeeded(attempt, counted, now_us)
        await self._rehash_if_outdated(known, password, login_kind)
        opened = self._issuer.opened(known.user)
        await self._store.add_session(known.user.user_id, opened.session)
        return SignedIn(known.user, opened.tokens, self._devices.token(email, device, now_us))

    async def _proven(
        self, email: str, password: str, login_kind: LoginKind, counted: Sequence[bytes]
    ) -> Credentials | None:
        """The user if the password is theirs: the same steps, in the same order, whether or not the user exists."""
        try:
            known = await self._store.credentials(email)
            stored_hash = known.password_hash if known is not None else None
            matched = await self._passwords.matches(password, stored_hash, _PURPOSES[login_kind])
        except ServiceError:
            await self._throttle.give_back(counted)  # the password was never looked at
            raise
        if not matched or known is None or (login_kind is LoginKind.OPERATORS and known.user.role is not Role.OPERATOR):
            return None
        return known

    async def _rehash_if_outdated(self, known: Credentials, password: str, login_kind: LoginKind) -> None:
        if self._passwords.outdated(known.password_hash):
            new_hash = await self._passwords.hash(password, _PURPOSES[login_kind])
            await self._store.replace_hash(known.user.user_id, known.password_hash, new_hash)
