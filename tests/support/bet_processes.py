"""Services, bet-service unless said otherwise, as processes of their own, so that they can be killed and frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import in_process
from grpc_health.v1 import health_pb2, health_pb2_grpc
from owner_calls import SHARDS

# Patience of the orphan rule in tests; production waits ten times as long.
ORPHANED_AFTER_S = 1.0


class BetProcess:
    """One life after another of one instance."""

    def __init__(
        self, name: str, address: str, environment: dict[str, str], log: Path, module: str = "betting.bets"
    ) -> None:
        self.name = name
        self.address = address
        self._environment = environment
        self._log = log
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module], env=self._environment, stdout=output, stderr=output
            )

    async def ready(self) -> None:
        """Returns once it serves; raises with its last words if it ended instead."""
        async with grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while True:
                assert self._process is not None
                if self._process.poll() is not None:
                    raise AssertionError(f"{self.name} ended: {self._log.read_text()[-2000:]}")
                try:
                    reply = await check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
                    continue
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                await asyncio.sleep(0.05)

    def log_text(self) -> str:
        """Everything its lives have logged."""
        return self._log.read_text()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, reaped."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(timeout=10)
        self._process = None

    def terminate(self) -> None:
        """SIGTERM: it begins to drain."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)

    async def stop(self) -> None:
        """SIGTERM, and returns once it has drained and ended."""
        if self._process is None:
            return
        self.terminate()
        await self.ended()

    async def ended(self) -> None:
        """Returns once it has ended by itself."""
        assert self._process is not None
        await asyncio.to_thread(self._process.wait, 20)
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def environment(name: str, address: str, dsn: str, redis_url: str, odds: str, **more: str) -> dict[str, str]:
    """Settings of a test instance; `more` by field name."""
    settings = {
        "instance": name,
        "grpc_address": address,
        "postgres_dsn": dsn,
        "redis_url": redis_url,
        "odds_service": odds,
        "shard_count": str(SHARDS),
        "internal_secret": in_process.SECRET,
        "drain_timeout": "5",
        **more,
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BETTING_")}
    return inherited | {f"BETTING_{key.upper()}": value for key, value in settings.items()}


@asynccontextmanager
async def running(*processes: BetProcess) -> AsyncIterator[None]:
    """Started and serving; whatever is left at the end is killed."""
    for process in processes:
        process.start()
    try:
        await asyncio.gather(*(process.ready() for process in processes))
        yield
    finally:
        for process in processes:
            if process._process is not None:
                process.kill()
