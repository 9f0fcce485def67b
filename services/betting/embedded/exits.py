"""Records in the directory that an owner has exited, as soon as the supervisor sees it: no waiting for a timeout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

from betting.journal import directory
from betting.life import Life

TIMEOUT_S = 1.0


def reporter(dsn: Callable[[], str], workload: str, instance: str) -> Callable[[str], Awaitable[None]]:
    """For `ProcessSpec.on_exit` of a bet-service. If it cannot be recorded, the shards are orphaned after a timeout."""

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
