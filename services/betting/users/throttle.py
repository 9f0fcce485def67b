"""Failed logins are counted in Postgres, in a fixed window, for each account and the place they come from.

A place is a network, or a device that has logged in to this account before. What strangers do from elsewhere never
uses up the attempts of a place that the owner knows:

- a known device has attempts of its own (it shows the token that its last login gave it, see tokens.py);
- so has each network; one from which the account was logged in to before has more of them;
- only attempts from networks and devices not seen before count, beyond that, for the account as a whole (guessing
  from many networks is slowed) and for the network as a whole (so is one network that tries many accounts).

An attempt is counted before the password is looked at and given back if the password was right: of many attempts at
the same moment, no more are let through than the limit. Without Postgres nobody logs in, so the limits cannot be
escaped by breaking what counts them; Redis has no part in it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg

from betting.runtime.clock import US_PER_S
from betting.runtime.errors import ServiceError, resource_exhausted
from betting.runtime.networks import network_of
from betting.runtime.postgres import translated

_COUNT = """
INSERT INTO users.login_failures AS counted (subject, failures, window_started_at_us) VALUES ($1, 1, $2)
ON CONFLICT (subject) DO UPDATE SET
    failures = CASE WHEN counted.window_started_at_us <= $3 THEN 1 ELSE counted.failures + 1 END,
    window_started_at_us = CASE WHEN counted.window_started_at_us <= $3 THEN $2 ELSE counted.window_started_at_us END
RETURNING failures, window_started_at_us
"""
_LOCK = "SELECT 1 FROM users.login_failures WHERE subject = ANY($1) ORDER BY subject FOR UPDATE"
_GIVE_BACK = "UPDATE users.login_failures SET failures = failures - 1 WHERE subject = ANY($1) AND failures > 0"
_FORGET = "DELETE FROM users.login_failures WHERE subject = $1"
_IS_KNOWN = "SELECT EXISTS (SELECT FROM users.known_networks WHERE subject = $1)"
_REMEMBER = """
INSERT INTO users.known_networks (subject, seen_at_us) VALUES ($1, $2)
ON CONFLICT (subject) DO UPDATE SET seen_at_us = greatest(known_networks.seen_at_us, excluded.seen_at_us)
"""


class LoginKind(enum.StrEnum):
    """Which login method is used. Each has counters of its own."""

    EVERYONE = "everyone"
    OPERATORS = "operators"


@dataclass(frozen=True, slots=True)
class ThrottlePolicy:
    """How many failures are let through per window, of `window_us` microseconds.

    per_place: of one account from one network; per_known_place: the same where the account was logged in to before,
    network or device; per_account and per_source: of one account, and from one network, in all, from places not seen
    before.
    """

    window_us: int
    per_place: int
    per_known_place: int
    per_account: int
    per_source: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to log in. email: normalised; source: the client's IP address, empty when nobody knows it; device:
    the id of a device that logged in to this account before."""

    login_kind: LoginKind
    email: str
    source: str
    device: bytes | None = None

    @property
    def place(self) -> bytes:
        """The counter that the attempt always counts for: account and device, or account and network."""
        if self.device is not None:
            return self._subject(b"device", self.email.encode(), self.device)
        return self._subject(b"network", self.email.encode(), network_of(self.source).encode())

    @property
    def network(self) -> bytes | None:
        """The account seen from this network, whatever the login method; None when the client's address is unknown."""
        return known_network(self.email, self.source)

    def wider(self, policy: ThrottlePolicy) -> Iterator[tuple[bytes, int]]:
        """What an attempt from a place not seen before counts for besides, and how much is let through.

        One counter for everybody whose network nobody knows would let one attacker lock everybody out.
        """
        if self.source:
            yield self._subject(b"source", network_of(self.source).encode()), policy.per_source
        yield self._subject(b"account", self.email.encode()), policy.per_account

    def _subject(self, *parts: bytes) -> bytes:
        return _hashed(self.login_kind.encode(), *parts)


def known_network(email: str, source: str) -> bytes | None:
    """Under what the network of a successful login is remembered; None when nobody knows it."""
    return _hashed(b"known", email.encode(), network_of(source).encode()) if source else None


class LoginThrottle:
    """The counters. Every method may raise UNAVAILABLE: Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, policy: ThrottlePolicy) -> None:
        self._pool = pool
        self._policy = policy

    async def count(self, attempt: Attempt, now_us: int) -> tuple[bytes, ...]:
        """Counts an attempt as failed; returns what it was counted for, the place first.

        Raises RESOURCE_EXHAUSTED LOGIN_RATE_LIMITED when one is too many; it then counts for the full counter only:
        who is refused in one place uses up nothing elsewhere.
        """
        counted: list[bytes] = []
        for subject, limit in await self._limits(attempt):
            async with translated():
                row = await self._pool.fetchrow(_COUNT, subject, now_us, now_us - self._policy.window_us)
            if row["failures"] > limit:
                await self.give_back(counted)
                raise _rate_limited(limit, row["window_started_at_us"] + self._policy.window_us - now_us)
            counted.append(subject)
        return tuple(counted)

    async def succeeded(self, attempt: Attempt, counted: Sequence[bytes], now_us: int) -> None:
        """The password was right: forgets the place's failures, gives the rest back, remembers the network."""
        await self.give_back(counted[1:])
        async with translated():
            await self._pool.execute(_FORGET, attempt.place)
        await self.remember(attempt.email, attempt.source, now_us)

    async def remember(self, email: str, source: str, now_us: int) -> None:
        """Records that the account was logged in to from this network; an empty `source` records nothing."""
        network = known_network(email, source)
        if network is not None:
            async with translated():
                await self._pool.execute(_REMEMBER, network, now_us)

    async def give_back(self, counted: Sequence[bytes]) -> None:
        """Takes back the count of an attempt. Rows are locked in one order."""
        if not counted:
            return
        ordered = sorted(counted)
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK, ordered)
            await connection.execute(_GIVE_BACK, ordered)

    async def _limits(self, attempt: Attempt) -> list[tuple[bytes, int]]:
        known = attempt.device is not None or await self._is_known(attempt.network)
        if known:
            return [(attempt.place, self._policy.per_known_place)]
        return [(attempt.place, self._policy.per_place), *attempt.wider(self._policy)]

    async def _is_known(self, network: bytes | None) -> bool:
        if network is None:
            return False
        async with translated():
            return bool(await self._pool.fetchval(_IS_KNOWN, network))


def _hashed(*parts: bytes) -> bytes:
    """A hash, so that the tables hold no addresses. Lengths are hashed too: no two lists of parts are one text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4) + part)
    return digest.digest()


def _rate_limited(limit: int, remaining_us: int) -> ServiceError:
    seconds = max(1, -(-remaining_us // US_PER_S))
    message = (
        f"{limit} logins have failed, which is the limit here: try again in {seconds} seconds, "
        "or on a device or network where you have logged in before"
    )
    return resource_exhausted("LOGIN_RATE_LIMITED", message)
