"""Sessions that were revoked before their tokens expire, from the Redis stream of user-service.

user-service does `XADD revoked-sessions MAXLEN ~ 100000 * sid <uuid> exp_us <microseconds>`; every gateway reads the
stream from its oldest entry and keeps each session until its last token expires. While Redis is not reachable no new
revocation is read: revoked tokens are then accepted until they expire, at most ten minutes.
"""

from __future__ import annotations

import asyncio
import heapq
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import RedisError

from betting.runtime import clock, logs
from betting.runtime.loops import FailureLog

STREAM: Final = "revoked-sessions"
MAX_SESSIONS: Final = 200_000
_READ_COUNT: Final = 1_000
# Below the client's socket timeout of one second.
_BLOCK_MS: Final = 500
_RETRY_S: Final = 0.5
_OLDEST: Final = "0-0"

_log = logs.get(__name__)


class RevokedSessions:
    """Revoked session ids until their tokens have ended; pure. Over `capacity`, those that end soonest go first."""

    def __init__(self, capacity: int = MAX_SESSIONS) -> None:
        self._capacity = capacity
        self._ends: dict[bytes, int] = {}
        self._order: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, session_id: bytes) -> bool:
        return session_id in self._ends

    def add(self, session_id: bytes, expires_at_us: int, now_us: int) -> bool:
        """Adds a session; returns whether it is new."""
        self._forget(now_us)
        if expires_at_us <= now_us or session_id in self._ends:
            return False
        if len(self._ends) >= self._capacity:
            del self._ends[heapq.heappop(self._order)[1]]
        self._ends[session_id] = expires_at_us
        heapq.heappush(self._order, (expires_at_us, session_id))
        return True

    def _forget(self, now_us: int) -> None:
        while self._order and self._order[0][0] <= now_us:
            del self._ends[heapq.heappop(self._order)[1]]


class RevocationFeed:
    """Reads the stream. revoked: called with each new session."""

    def __init__(self, client: redis.Redis, sessions: RevokedSessions, revoked: Callable[[bytes], object]) -> None:
        self._client = client
        self._sessions = sessions
        self._revoked = revoked
        self._position = _OLDEST

    async def run(self) -> None:
        """Runs for the life of the process; after every failure it starts from the oldest entry again."""
        unread = FailureLog(_log, "revocations not read")
        while True:
            try:
                await self.read_once(_BLOCK_MS)
            except (RedisError, OSError, TimeoutError) as error:
                unread.failed(error)
                self._position = _OLDEST
                await asyncio.sleep(_RETRY_S)
            else:
                unread.worked()

    async def read_once(self, block_ms: int | None) -> int:
        """Reads new entries; waits for them up to `block_ms`. Returns the number of entries."""
        reply: Any = await self._client.xread({STREAM: self._position}, count=_READ_COUNT, block=block_ms)
        entries = _entries(reply)
        for entry_id, fields in entries:
            self._position = _text(entry_id)
            self._take(fields)
        return len(entries)

    def _take(self, fields: Mapping[bytes | str, bytes | str]) -> None:
        values = {_text(name): _text(value) for name, value in fields.items()}
        try:
            session_id = uuid.UUID(values["sid"]).bytes
            expires_at_us = int(values["exp_us"])
        except (KeyError, ValueError):
            _log.error("revocation entry unreadable", stream=STREAM)
            return
        if self._sessions.add(session_id, expires_at_us, clock.now_us()):
            self._revoked(session_id)


def _entries(reply: Any) -> list[tuple[Any, Mapping[bytes | str, bytes | str]]]:
    """The entries of one stream in an XREAD reply, in either of redis-py's shapes (RESP2 list, RESP3 mapping)."""
    if not reply:
        return []
    if isinstance(reply, Mapping):
        batches = next(iter(reply.values()))
        return [entry for batch in batches for entry in (batch if isinstance(batch, list) else [batch])]
    return list(reply[0][1])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
