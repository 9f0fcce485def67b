"""Signed-in callers, and the bounded cache that makes the usual check a look-up."""

from __future__ import annotations

from collections import OrderedDict

from betting.gateway.limits import Bucket
from betting.runtime.principal import Role


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


class Callers:
    """Callers by their Authorization header, least recently used out first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_header: OrderedDict[str, Caller] = OrderedDict()
        self._by_session: dict[bytes, set[Caller]] = {}

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
        while len(self._by_header) >= self._capacity:
            self._drop(next(iter(self._by_header)))
        self._by_header[header] = caller
        self._by_session.setdefault(caller.session_id, set()).add(caller)

    def revoke(self, session_id: bytes) -> int:
        """Ends all of a session's tokens; returns how many were in use here."""
        callers = self._by_session.get(session_id, ())
        for caller in callers:
            caller.revoked = True
        return len(callers)

    def _drop(self, header: str) -> None:
        caller = self._by_header.pop(header)
        caller.revoked = True
        siblings = self._by_session[caller.session_id]
        siblings.discard(caller)
        if not siblings:
            del self._by_session[caller.session_id]
