"""What an election says of a database that does not answer: once, not with every look and every beat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from betting.runtime import election, logs
from betting.runtime.election import Election, Lease

LOOKING, BEATING = "active process not read", "heartbeat failed"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred beats a second."""
    monkeypatch.setattr(election, "BEAT_S", 0.01)
    monkeypatch.setattr(election, "LOOK_EVERY_S", 0.01)


async def test_an_outage_is_told_once_and_when_it_is_over(database: Any, eventually: Callable[..., Any]) -> None:
    """The table is gone for many beats of the active process and many looks of the one that stands by."""
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=3) as pool:
        with capture_logs() as lines:

            async def told(event: str) -> list[Any]:
                return [line for line in lines if line["event"] == event]

            async def database_errors() -> int:
                return len(await told("database error"))

            parties = [Election(Lease(pool, "feed", f"feed-{n}@a"), logs.get("test")) for n in (1, 2)]
            running = [asyncio.create_task(each.run_for_ever(asyncio.Event().wait)) for each in parties]
            try:
                await eventually(lambda: told("active"), bool)
                await pool.execute("ALTER TABLE odds.leases RENAME TO gone")
                await eventually(database_errors, lambda count: count > 20)
                await pool.execute("ALTER TABLE odds.gone RENAME TO leases")
                for event in (LOOKING, BEATING):
                    over = await eventually(lambda event=event: told(f"{event}: over"), bool)
                    assert over[0]["failures"] > 1
                    [line] = await told(event)
                    assert (line["reason"], line["lease"], line["log_level"]) == ("POSTGRES_ERROR", "feed", "warning")
            finally:
                for task in running:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
