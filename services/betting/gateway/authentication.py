"""Authenticates requests by their Authorization header: from a cache, or by the signature of the token and the keys."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from betting.gateway import tokens
from betting.gateway.limits import Bucket, Limiter
from betting.gateway.revocations import RevokedSessions
from betting.internal.v1 import keys_pb2
from betting.placement import shard_of
from betting.runtime import clock, logs
from betting.runtime.errors import ServiceError, unauthenticated, unavailable
from betting.runtime.principal import Principal, Role, sign


class Caller:
    """A verified access token. `principal` is what the services see; `revoked` turns true when its session ends,
    and when it is forgotten here: then the token must be checked again."""

    __slots__ = ("expires_at_us", "money", "principal", "reads", "revoked", "role", "session_id", "shard_id", "user_id")

    def __init__(
        self,
        *,
        user_id: bytes,
        session_id: bytes,
        role: Role,
        expires_at_us: int,
        principal: bytes,
        shard_id: int,
        money: Bucket,
        reads: Bucket,
    ) -> None:
        self.user_id = user_id
        self.session_id = session_id
        self.role = role
        self.expires_at_us = expires_at_us
        self.principal = principal
        self.shard_id = shard_id
        self.money = money
        self.reads = reads
        self.revoked = False


# A session has one token in use, and a moment after a refresh two. Its header can be written in countless ways.
HEADERS_PER_SESSION_MAX: Final = 8


class Callers:
    """Callers by their Authorization header, least recently used out first. No session has more than a few of them, so
    that nobody drives out all others by writing one token in many ways."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_header: OrderedDict[str, Caller] = OrderedDict()
        self._by_session: dict[bytes, dict[str, Caller]] = {}

    def __len__(self) -> int:
        return len(self._by_header)

    def get(self, header: str, now_us: int) -> Caller | None:
        """The caller, if the token is known, has not ended and its session was not revoked."""
        caller = self._by_header.get(header)
        if caller is None:
            return None
        if caller.revoked or caller.expires_at_us <= now_us:
            self._drop(header)
            return None
        self._by_header.move_to_end(header)
        return caller

    def put(self, header: str, caller: Caller) -> None:
        """Remembers a caller whose token was just verified."""
        if header in self._by_header:
            self._drop(header)
        if len(siblings := self._by_session.get(caller.session_id, {})) >= HEADERS_PER_SESSION_MAX:
            self._drop(next(iter(siblings)))
        while len(self._by_header) >= self._capacity:
            self._drop(next(iter(self._by_header)))
        self._by_header[header] = caller
        self._by_session.setdefault(caller.session_id, {})[header] = caller

    def revoke(self, session_id: bytes) -> int:
        """Ends all of a session's tokens; returns how many were in use here."""
        callers = self._by_session.get(session_id, {})
        for caller in callers.values():
            caller.revoked = True
        return len(callers)

    def _drop(self, header: str) -> None:
        caller = self._by_header.pop(header)
        caller.revoked = True
        siblings = self._by_session[caller.session_id]
        del siblings[header]
        if not siblings:
            del self._by_session[caller.session_id]


# Made-up key ids must not become a stream of calls to user-service.
MIN_REFRESH_INTERVAL_S: Final = 2.0
# Until user-service has answered once nobody can be let in: callers wait, and it is asked sooner, then more slowly.
FIRST_REFRESH_INTERVAL_S: Final = 0.25
REFRESH_INTERVAL_S: Final = 60.0
MAX_KEYS: Final = 64
_KEY_BYTES: Final = 32

_log = logs.get(__name__)

Fetch = Callable[[], Awaitable[Iterable[keys_pb2.SigningKey]]]


class SigningKeys:
    """Keys by id. fetch: asks user-service for all of them, raises ServiceError."""

    def __init__(self, fetch: Fetch, *, min_refresh_interval_s: float = MIN_REFRESH_INTERVAL_S) -> None:
        self._fetch = fetch
        self._min_refresh_interval_s = min_refresh_interval_s
        self._keys: dict[str, tuple[Ed25519PublicKey, int]] = {}
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()
        self._answered = False
        self._interval_s = min(FIRST_REFRESH_INTERVAL_S, min_refresh_interval_s)

    def __len__(self) -> int:
        return len(self._keys)

    async def get(self, key_id: str) -> Ed25519PublicKey:
        """The key with this id.

        Raises UNAUTHENTICATED KEY_UNKNOWN, or UNAVAILABLE KEYS_UNAVAILABLE while user-service has never answered.
        """
        key = self._current(key_id)
        if key is None:
            await self._refresh_if_due()
            key = self._current(key_id)
        if key is not None:
            return key
        if not self._answered:
            raise unavailable("KEYS_UNAVAILABLE", "tokens cannot be checked at the moment: try again in a few seconds")
        raise unauthenticated("KEY_UNKNOWN", "the access token was signed with a key that is not in use: log in again")

    async def run(self) -> None:
        """Reads the keys from time to time, so that a rotation delays no request; runs for the life of the process."""
        while True:
            await self._refresh_if_due()
            await asyncio.sleep(REFRESH_INTERVAL_S if self._answered else self._interval_s)

    def _current(self, key_id: str) -> Ed25519PublicKey | None:
        key, not_after_us = self._keys.get(key_id, (None, 0))
        return key if not_after_us > clock.now_us() else None

    async def _refresh_if_due(self) -> None:
        before_s = self._read_at_s
        async with self._reading:
            if self._read_at_s != before_s:
                return  # another caller has asked meanwhile
            too_soon_s = before_s + self._interval_s - time.monotonic()
            if too_soon_s > 0 and self._answered:
                return
            await asyncio.sleep(max(0.0, too_soon_s))
            self._read_at_s = time.monotonic()
            try:
                keys = list(await self._fetch())
            except ServiceError as error:
                _log.warning("signing keys not read", reason=error.reason)
                self._interval_s = min(2 * self._interval_s, self._min_refresh_interval_s)
                return
            self._interval_s = self._min_refresh_interval_s
            self._keys = dict(_usable(keys))
            self._answered = True


def _usable(keys: list[keys_pb2.SigningKey]) -> Iterable[tuple[str, tuple[Ed25519PublicKey, int]]]:
    for key in keys[:MAX_KEYS]:
        if len(key.public_key) == _KEY_BYTES:
            yield key.key_id, (Ed25519PublicKey.from_public_bytes(key.public_key), key.not_after_us)
        else:
            _log.error("signing key is not Ed25519", key_id=key.key_id)


class Authenticator:
    """Authenticates the requests of this process.

    secret: signs the principals; grace_s: how long a request may take at most, in seconds.
    """

    def __init__(
        self,
        *,
        keys: SigningKeys,
        revoked: RevokedSessions,
        callers: Callers,
        limiter: Limiter,
        secret: bytes,
        shard_count: int,
        grace_s: float,
    ) -> None:
        self._keys = keys
        self._revoked = revoked
        self._callers = callers
        self._limiter = limiter
        self._secret = secret
        self._shard_count = shard_count
        self._grace_us = int(grace_s * clock.US_PER_S)

    async def caller(self, header: str | None) -> Caller:
        """The caller of a request; raises UNAUTHENTICATED, or UNAVAILABLE while keys cannot be read."""
        known = self._callers.get(header, clock.now_us()) if header else None
        if known is not None:
            return known
        token = tokens.bearer(header)
        key = await self._keys.get(tokens.key_id(token))
        claims = tokens.claims(token, key, clock.now_us())
        if claims.session_id in self._revoked:
            raise unauthenticated("SESSION_ENDED", "this session has ended: log in again")
        caller = self._made(claims)
        self._callers.put(header or "", caller)
        return caller

    def _made(self, claims: tokens.Claims) -> Caller:
        # Whoever was let in before the token's end may wait until their request's: it is not checked again on the way.
        let_in_until_us = claims.expires_at_us + self._grace_us
        principal = Principal(claims.user_id, claims.role, claims.session_id, let_in_until_us)
        user = claims.user_id.hex()
        return Caller(
            user_id=claims.user_id,
            session_id=claims.session_id,
            role=claims.role,
            expires_at_us=claims.expires_at_us,
            principal=sign(principal, self._secret),
            shard_id=shard_of(claims.user_id, self._shard_count),
            money=self._limiter.money(user),
            reads=self._limiter.reads(user),
        )
