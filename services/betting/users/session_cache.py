"""Live sessions in Valkey, to save a query for each authenticated call. A cache only: any failure is a miss.

An ended session is overwritten with a tombstone that outlives every earlier copy; copies are only added where there is
none, so a slow reader cannot bring an ended session back.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.exceptions import RedisError

from betting.runtime import logs
from betting.runtime.clock import US_PER_S
from betting.users.model import LiveSession, Role, User

COPY_LIFETIME_S: Final = 60
TOMBSTONE_LIFETIME_S: Final = 2 * COPY_LIFETIME_S
# A cache that is slower than the query it saves is none; after a failure it is left alone for a while.
TIMEOUT_S: Final = 0.25
REST_AFTER_FAILURE_S: Final = 2.0

_TOMBSTONE: Final = b"ended"
_T = TypeVar("_T")

_log = logs.get(__name__)


def cache_key(session_id: uuid.UUID) -> str:
    """The Valkey key of a session's copy."""
    return f"session:{session_id}"


class SessionCache:
    """Copies of sessions by id. No method raises."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._resting_until_s = 0.0

    async def get(self, session_id: uuid.UUID, now_us: int) -> LiveSession | None:
        """The session if there is a copy that has not expired. None means nothing about the session."""
        text = await self._tried(self._redis.get(cache_key(session_id)))
        if text is None or text == _TOMBSTONE:
            return None
        session = _decoded(text)
        return session if session is not None and session.expires_at_us > now_us else None

    async def put(self, session: LiveSession, now_us: int) -> None:
        """Keeps a copy for a minute at most."""
        lifetime_s = min(COPY_LIFETIME_S, (session.expires_at_us - now_us) // US_PER_S)
        if lifetime_s > 0:
            await self._tried(self._redis.set(cache_key(session.session_id), _encoded(session), ex=lifetime_s, nx=True))

    async def ended(self, session_ids: Iterable[uuid.UUID]) -> None:
        """Marks sessions as ended for TOMBSTONE_LIFETIME_S, so that no late `put` brings their copies back."""
        pipeline = self._redis.pipeline(transaction=False)
        write_tombstones(pipeline, session_ids)
        await self._tried(pipeline.execute())

    async def _tried(self, call: Awaitable[_T]) -> _T | None:
        if time.monotonic() < self._resting_until_s:
            _discard(call)
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await call
        except (RedisError, OSError, TimeoutError) as error:
            self._resting_until_s = time.monotonic() + REST_AFTER_FAILURE_S
            _log.info("session cache unavailable", error=repr(error))
            return None


def write_tombstones(pipeline: Any, session_ids: Iterable[uuid.UUID]) -> None:
    """Adds the commands to a pipeline that is executed elsewhere."""
    for session_id in session_ids:
        pipeline.set(cache_key(session_id), _TOMBSTONE, ex=TOMBSTONE_LIFETIME_S)


def _discard(call: Awaitable[object]) -> None:
    """Ends a coroutine that was never awaited, so that Python does not warn about it."""
    close = getattr(call, "close", None)
    if close is not None:
        close()


def _encoded(session: LiveSession) -> bytes:
    user = session.user
    fields = [
        str(session.session_id), session.expires_at_us, str(user.user_id), user.email, user.display_name,
        user.role.value, user.created_at_us,
    ]  # fmt: skip
    return json.dumps(fields, ensure_ascii=False).encode()


def _decoded(text: bytes | str) -> LiveSession | None:
    try:
        session_id, expires_at_us, user_id, email, display_name, role, created_at_us = json.loads(text)
        user = User(uuid.UUID(user_id), email, display_name, Role(role), created_at_us)
        return LiveSession(uuid.UUID(session_id), expires_at_us, user)
    except (ValueError, TypeError, AttributeError):
        return None  # written by another version
