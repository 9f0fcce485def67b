"""One machine: processes under our own supervisor, whose open stream says what runs and what ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc

from betting.internal.v1 import supervisor_pb2, supervisor_pb2_grpc
from betting.life import Life
from betting.runtime import channels, logs
from betting.runtime.loops import FailureLog
from betting.runtime.principal import METADATA_KEY
from betting_operator.healing.signals import Exit, Phase
from betting_operator.platforms.port import CannotDo, Instance, Platform, free_bytes

# The stream brings an inventory every second: an older one is no word about now.
FRESH_FOR_S = 3.0
RECONNECT_S = 0.25
CALL_TIMEOUT_S = 1.0
MESSAGE_BYTES_MAX = 1 << 20
EXITS_KNOWN = 256

_log = logs.get(__name__)


class SupervisorPlatform(Platform):
    """token: this process's principal, signed anew when needed; folder: where the healer keeps its record."""

    def __init__(self, address: str, token: Callable[[], bytes], folder: Path) -> None:
        self._channel = channels.open_channel(address, MESSAGE_BYTES_MAX)
        self._stub = supervisor_pb2_grpc.SupervisorServiceStub(self._channel)
        self._token = token
        self._folder = folder
        self._instances: tuple[Instance, ...] = ()  # of the latest inventory: asked for more often than it changes
        self._seen_at_s = -math.inf
        self._known: deque[Life] = deque(maxlen=EXITS_KNOWN)
        self._news: list[Exit] = []

    async def run(self, exited: Callable[[], None]) -> None:
        """Keeps the stream open for the life of the process."""
        unheard = FailureLog(_log, "supervisor not reachable")
        while True:
            try:
                stream = self._stub.WatchProcesses(
                    supervisor_pb2.WatchProcessesRequest(), metadata=self._metadata(), wait_for_ready=False
                )
                async for inventory in stream:
                    self._take(inventory, exited)
                    unheard.worked()
            except grpc.aio.AioRpcError as error:
                unheard.failed(error, problem=error.code().name)
            await asyncio.sleep(RECONNECT_S)

    def instances(self) -> tuple[Instance, ...] | None:
        """Every process as it is now; None when the supervisor is not heard."""
        age_s = time.monotonic() - self._seen_at_s
        if age_s > FRESH_FOR_S:
            return None
        # Who was silent when the inventory was made still is: had it answered, there would be a newer one.
        return tuple(
            replace(each, silent_ms=each.silent_ms + int(age_s * 1_000)) if each.silent_ms else each
            for each in self._instances
        )

    def take_exits(self) -> tuple[Exit, ...]:
        """Exits reported since the last call, each once."""
        news, self._news = self._news, []
        return tuple(news)

    async def kill(self, life: Life) -> None:
        """Ends this life through the supervisor's own handle of the process. Raises CannotDo."""
        request = supervisor_pb2.KillProcessRequest(instance=life.instance, boot_id=life.boot_id)
        try:
            await self._stub.KillProcess(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise CannotDo(f"{error.code().name}: {error.details()}") from None

    async def report(self, lines: Sequence[str]) -> None:
        """Shows lines on the screen of `betting up` and in `betting status`."""
        request = supervisor_pb2.ReportHealingRequest(lines=lines)
        try:
            await self._stub.ReportHealing(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            _log.warning("healing lines not reported", code=error.code().name)

    def disk_free_bytes(self) -> int | None:
        """Of the disk with the data folder."""
        return free_bytes(self._folder)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    def _take(self, inventory: supervisor_pb2.WatchProcessesResponse, exited: Callable[[], None]) -> None:
        self._seen_at_s = time.monotonic()
        self._instances = tuple(_instance(each) for each in inventory.processes)
        fresh = [
            each for each in inventory.exits if Life(each.workload, each.instance, each.boot_id) not in self._known
        ]
        if fresh:
            self._remember(fresh)
            exited()

    def _remember(self, exits: Iterable[supervisor_pb2.ProcessExit]) -> None:
        now_ms = int(self._seen_at_s * 1_000)
        for each in exits:
            life = Life(each.workload, each.instance, each.boot_id)
            self._known.append(life)
            self._news.append(Exit(life, now_ms - each.age_ms, each.how))

    def _metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ((METADATA_KEY, self._token()),)


def _instance(each: supervisor_pb2.ProcessStatus) -> Instance:
    return Instance(
        workload=each.workload,
        instance=each.instance,
        boot_id=each.boot_id,
        phase=Phase(each.phase),
        address=each.address,
        restarts=each.restarts,
        silent_ms=each.silent_ms,
        health_address=each.health_address,
    )
