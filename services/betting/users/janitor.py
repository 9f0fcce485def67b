"""Deletes expired rows, a limited number at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncpg

from betting.runtime import logs
from betting.runtime.clock import US_PER_S
from betting.runtime.loops import forever
from betting.runtime.postgres import translated

SWEEP_EVERY_S: Final = 60.0
BATCH_MAX: Final = 1_000

# Expired a day ago: until then a late client learns that its token expired rather than that it is unknown.
_KEPT_AFTER_END_US: Final = 24 * 3600 * US_PER_S

# Rows that another process is deleting are left to it.
_DELETE = """
DELETE FROM users.{table} WHERE {key} IN (
    SELECT {key} FROM users.{table} WHERE {moment} <= $1 ORDER BY {moment} LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""
_EXPIRED_TOKENS = _DELETE.format(table="refresh_tokens", key="token_sha256", moment="expires_at_us")
_EXPIRED_SESSIONS = _DELETE.format(table="sessions", key="session_id", moment="expires_at_us")
_PAST_REVOCATIONS = _DELETE.format(table="revocations", key="session_id", moment="relevant_until_us")
_UNUSED_NETWORKS = _DELETE.format(table="known_networks", key="subject", moment="seen_at_us")
_PAST_FAILURES = _DELETE.format(table="login_failures", key="subject", moment="window_started_at_us")

_log = logs.get(__name__)


class Janitor:
    """Sweeps the tables of user-service. login_window_us: how long failed logins count; network_kept_us: how long a
    network is remembered that nobody logs in from any more."""

    def __init__(
        self, pool: asyncpg.Pool, *, login_window_us: int, network_kept_us: int, now_us: Callable[[], int]
    ) -> None:
        self._pool = pool
        self._network_kept_us = network_kept_us
        self._login_window_us = login_window_us
        self._now_us = now_us

    async def sweep(self) -> int:
        """Deletes expired rows; returns how many."""
        now_us = self._now_us()
        kept_until_us = now_us - _KEPT_AFTER_END_US
        deleted = await self._delete(_EXPIRED_TOKENS, kept_until_us)
        deleted += await self._delete(_EXPIRED_SESSIONS, kept_until_us)
        deleted += await self._delete(_PAST_REVOCATIONS, now_us)
        deleted += await self._delete(_PAST_FAILURES, now_us - self._login_window_us)
        deleted += await self._delete(_UNUSED_NETWORKS, now_us - self._network_kept_us)
        _log.debug("cleanup done", rows=deleted)
        return deleted

    async def run(self) -> None:
        """Background task: deletes expired rows every SWEEP_EVERY_S; a failure is logged and tried again."""
        await forever(self.sweep, every_s=SWEEP_EVERY_S, first_after_s=SWEEP_EVERY_S, log=_log, event="cleanup failed")

    async def _delete(self, statement: str, until_us: int) -> int:
        total = 0
        while True:
            async with translated():
                tag = await self._pool.execute(statement, until_us, BATCH_MAX)
            deleted = int(tag.rpartition(" ")[2])  # "DELETE 12"
            total += deleted
            if deleted < BATCH_MAX:
                return total
