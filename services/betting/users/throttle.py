"""Failed logins are counted per email and per network address, in Postgres, in a fixed window.

An attempt is counted before the password is looked at and given back if the password was right: of many attempts at
the same moment, no more are let through than the limit. Without Postgres nobody logs in, so the limit cannot be
escaped by breaking what counts it. Locking an address out for a quarter of an hour is the price; the limit per source
makes it dear, and sessions that exist go on.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from betting.runtime.clock import US_PER_S
from betting.runtime.errors import ServiceError, resource_exhausted
from betting.runtime.postgres import translated

# Whoever has one IPv6 address usually has its whole /64.
_IPV6_PREFIX_BITS: Final = 64

# Rows come sorted by subject, so that two attempts lock them in the same order.
_COUNT = """
INSERT INTO users.login_failures AS counted (subject, failures, window_started_at_us)
SELECT subject, 1, $2 FROM unnest($1::bytea[]) AS subject
ON CONFLICT (subject) DO UPDATE SET
    failures = CASE WHEN counted.window_started_at_us <= $3 THEN 1 ELSE counted.failures + 1 END,
    window_started_at_us = CASE WHEN counted.window_started_at_us <= $3 THEN $2 ELSE counted.window_started_at_us END
RETURNING subject, failures, window_started_at_us
"""
_LOCK = "SELECT 1 FROM users.login_failures WHERE subject = ANY($1) ORDER BY subject FOR UPDATE"
_GIVE_BACK = "UPDATE users.login_failures SET failures = failures - 1 WHERE subject = ANY($1) AND failures > 0"
_FORGET = "DELETE FROM users.login_failures WHERE subject = $1"


@dataclass(frozen=True, slots=True)
class ThrottlePolicy:
    """How many failures are let through per window."""

    window_us: int
    failures_per_email: int
    failures_per_source: int


@dataclass(frozen=True, slots=True)
class Subjects:
    """What an attempt counts against: hashes, so that the table holds no addresses of people who have no account."""

    email: bytes
    source: bytes | None

    def ordered(self) -> list[bytes]:
        """In the one order in which rows are locked."""
        return sorted(subject for subject in (self.email, self.source) if subject is not None)


def subjects(email: str, source: str) -> Subjects:
    """The subjects of an attempt by somebody at `source`, an IP address. Empty: nobody knows where, the email counts
    alone; one counter for everybody would let one attacker lock everybody out."""
    return Subjects(
        email=hashlib.sha256(b"email\x00" + email.encode()).digest(),
        source=hashlib.sha256(b"source\x00" + network_of(source).encode()).digest() if source else None,
    )


def network_of(source: str) -> str:
    """The network that counts as one source: an IPv4 address, an IPv6 /64; anything else as it is."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed, _IPV6_PREFIX_BITS), strict=False))
    return str(address)


class LoginThrottle:
    """The counters."""

    def __init__(self, pool: asyncpg.Pool, policy: ThrottlePolicy) -> None:
        self._pool = pool
        self._policy = policy

    async def count(self, attempt: Subjects, now_us: int) -> None:
        """Counts an attempt as failed. Raises RESOURCE_EXHAUSTED LOGIN_RATE_LIMITED when one is too many."""
        window_start_us = now_us - self._policy.window_us
        async with translated():
            rows = await self._pool.fetch(_COUNT, attempt.ordered(), now_us, window_start_us)
        counted = {bytes(row["subject"]): (row["failures"], row["window_started_at_us"]) for row in rows}
        limits = {attempt.email: self._policy.failures_per_email, attempt.source: self._policy.failures_per_source}
        for subject, (failures, started_at_us) in counted.items():
            if failures > limits[subject]:
                raise _rate_limited(started_at_us + self._policy.window_us - now_us)

    async def succeeded(self, attempt: Subjects) -> None:
        """The password was right: forgets the email's failures, gives the source its attempt back."""
        if attempt.source is not None:
            await self._give_back([attempt.source])
        async with translated():
            await self._pool.execute(_FORGET, attempt.email)

    async def undecided(self, attempt: Subjects) -> None:
        """The password was never looked at: gives the attempt back."""
        await self._give_back(attempt.ordered())

    async def _give_back(self, ordered: Sequence[bytes]) -> None:
        async with translated(), self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK, ordered)
            await connection.execute(_GIVE_BACK, ordered)


def _rate_limited(remaining_us: int) -> ServiceError:
    seconds = max(1, -(-remaining_us // US_PER_S))
    message = f"too many failed logins: try again in {seconds} seconds"
    return resource_exhausted("LOGIN_RATE_LIMITED", message)
