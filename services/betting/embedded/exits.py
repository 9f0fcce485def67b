"""Tells the directory that an owner has ended, because the supervisor saw it: no waiting for the orphan rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

from betting.journal import directory
from betting.life import Life

TIMEOUT_S = 1.0


def reporter(dsn: Callable[[], str], workload: str, instance: str) -> Callable[[str], Awaitable[None]]:
    """For `ProcessSpec.on_exit` of a bet-service. What cannot be told, the orphan rule finds out."""

    async def report(boot_id: str) -> None:
        try:
            connection = await asyncpg.connect(dsn(), timeout=TIMEOUT_S)
            try:
                await directory.mark_exited(connection, str(Life(workload, instance, boot_id)))
            finally:
                await connection.close(timeout=TIMEOUT_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return

    return report
