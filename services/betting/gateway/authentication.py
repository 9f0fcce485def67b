"""From an Authorization header to a caller, by the cache where possible."""

from __future__ import annotations

from betting.gateway import tokens
from betting.gateway.callers import Caller, Callers
from betting.gateway.keys import SigningKeys
from betting.gateway.limiter import Limiter
from betting.gateway.revocations import RevokedSessions
from betting.placement import shard_of
from betting.runtime import clock
from betting.runtime.errors import unauthenticated
from betting.runtime.principal import Principal, sign


class Authenticator:
    """One per process. secret: what principals are signed with; grace_s: how long a request may take at most."""

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
