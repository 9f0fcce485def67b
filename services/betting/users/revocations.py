"""Publishes ended sessions to the gateways: from the outbox in Postgres to the stream `revoked-sessions` in Valkey.

Each row is announced until Valkey has said yes, so an announcement outlives Valkey being down and this process being
killed. Valkey can also lose what it accepted: it was wiped, restarted from an old file, or another server took over.
A marker in Valkey that names the server tells: when it is missing or names another one, everything that still matters
is announced again. Readers see each session once or more, in no particular order.

An entry is `sid` (UUID as text) and `exp_us` (after which no access token of that session can be valid).
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError

from betting.runtime import logs
from betting.runtime.errors import ServiceError, unavailable
from betting.runtime.loops import woken_within
from betting.runtime.postgres import translated
from betting.users.session_cache import write_tombstones

STREAM: Final = "revoked-sessions"
MARKER: Final = "revoked-sessions:complete-on"
STREAM_LENGTH_MAX: Final = 100_000
BATCH_MAX: Final = 500
POLL_S: Final = 1.0

_NIL: Final = uuid.UUID(int=0)
_PENDING = """
SELECT session_id, relevant_until_us FROM users.revocations
WHERE announced_at_us IS NULL AND relevant_until_us > $1 ORDER BY session_id LIMIT $2
"""
_RELEVANT = """
SELECT session_id, relevant_until_us FROM users.revocations
WHERE session_id > $3 AND relevant_until_us > $1 ORDER BY session_id LIMIT $2
"""
_MARK_ANNOUNCED = "UPDATE users.revocations SET announced_at_us = $2 WHERE session_id = ANY($1::uuid[])"
# The marker is set only if it is still ours: Valkey may have been wiped while we announced.
_COMPARE_AND_SET = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0"
)

_log = logs.get(__name__)


class RevocationPublisher:
    """Publishes revocations from the outbox to the stream. Several may run: readers tolerate repetitions."""

    def __init__(self, pool: asyncpg.Pool, client: redis.asyncio.Redis, now_us: Callable[[], int]) -> None:
        self._pool = pool
        self._redis = client
        self._now_us = now_us
        self._wanted = asyncio.Event()

    def wanted(self) -> None:
        """Wakes `run`: there is something in the outbox."""
        self._wanted.set()

    async def run(self) -> None:
        """Background task: publishes revocations until cancelled; a failure is logged and tried again."""
        failing = False
        while True:
            self._wanted.clear()
            try:
                await self.announce()
                failing = False
            except ServiceError as error:
                if not failing:
                    _log.warning("revocations not published", reason=error.reason, error=error.message)
                failing = True
            await self._pause(eager=not failing)

    async def announce(self) -> int:
        """Publishes what is due; returns how many. Raises UNAVAILABLE when Valkey or Postgres does not answer."""
        try:
            repeated = await self._announce_all_if_lost()
            return repeated + await self._announce_pending()
        except (RedisError, OSError, TimeoutError) as error:
            raise unavailable("VALKEY_UNAVAILABLE", f"Valkey does not answer ({type(error).__name__})") from error

    async def _pause(self, *, eager: bool) -> None:
        if not eager:
            await asyncio.sleep(POLL_S)
            return
        await woken_within(self._wanted, POLL_S)

    async def _announce_pending(self) -> int:
        total = 0
        while True:
            rows = await self._fetch(_PENDING, self._now_us(), BATCH_MAX)
            if not rows:
                return total
            await self._publish(rows)
            async with translated():
                await self._pool.execute(_MARK_ANNOUNCED, [row["session_id"] for row in rows], self._now_us())
            total += len(rows)

    async def _announce_all_if_lost(self) -> int:
        pipeline: Any = self._redis.pipeline(transaction=False)  # its stubs type commands as if they were awaited
        marker, exists, server = await pipeline.get(MARKER).exists(STREAM).info("server").execute()
        run_id = str(server["run_id"]).encode()
        if marker == run_id and exists:
            return 0
        return await self._announce_all(run_id)

    async def _announce_all(self, run_id: bytes) -> int:
        ticket = secrets.token_hex(16).encode()
        await self._redis.set(MARKER, ticket)
        total, after = 0, _NIL
        while rows := await self._fetch(_RELEVANT, self._now_us(), BATCH_MAX, after):
            await self._publish(rows)
            total, after = total + len(rows), rows[-1]["session_id"]
        await self._redis.eval(_COMPARE_AND_SET, 1, MARKER, ticket, run_id)
        if total:
            _log.info("revocations published again", sessions=total)
        return total

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with translated():
            rows: list[asyncpg.Record] = await self._pool.fetch(query, *arguments)
        return rows

    async def _publish(self, rows: Sequence[asyncpg.Record]) -> None:
        pipeline: Any = self._redis.pipeline(transaction=False)
        for row in rows:
            entry = {"sid": str(row["session_id"]), "exp_us": str(row["relevant_until_us"])}
            pipeline.xadd(STREAM, entry, maxlen=STREAM_LENGTH_MAX, approximate=True)
        write_tombstones(pipeline, (row["session_id"] for row in rows))
        await pipeline.execute()
