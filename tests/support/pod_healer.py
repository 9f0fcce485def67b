"""The healer's own process on Kubernetes as the operator starts it, and bet-services that only beat."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from pod_processes import environment_of_a_healer

from betting.journal import directory
from betting.life import Life

BEAT_EVERY_S = 0.5


@asynccontextmanager
async def healing(kubeconfig: Path, namespace: str, dsn: str, folder: Path) -> AsyncIterator[Path]:
    """The healer as the operator starts it; the path of its log."""
    log = folder / "healer.log"
    process = await asyncio.create_subprocess_exec(
        *(
            "/bin/sh",
            "-c",
            f'exec "$0" -m betting.runtime.launch betting_operator.healer >"{log}" 2>&1',
            sys.executable,
        ),
        env=environment_of_a_healer(kubeconfig, namespace, dsn, folder),
    )
    try:
        yield log
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def beating(connection: asyncpg.Connection, lives: list[Life]) -> AsyncIterator[None]:
    """Bet-services that are registered, and beat while their pods run."""
    for life in lives:
        await directory.register(connection, life, "127.0.0.1:7100", [1])

    async def beat() -> None:
        while True:
            for life in lives:
                await directory.beat(connection, str(life))
            await asyncio.sleep(BEAT_EVERY_S)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
