"""The supervisor's word about processes: its stream, kept open; and killing, through its hands only."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import grpc

from betting.internal.v1 import supervisor_pb2, supervisor_pb2_grpc
from betting.runtime import channels, logs
from betting.runtime.principal import METADATA_KEY
from betting_operator.healing.signals import Exit, Phase, Process

# The stream brings a picture every second: an older one is no word about now.
FRESH_FOR_S = 3.0
RECONNECT_S = 0.25
CALL_TIMEOUT_S = 1.0
MESSAGE_BYTES_MAX = 1 << 20
EXITS_KNOWN = 256

_log = logs.get(__name__)


class CannotKill(Exception):
    """The supervisor would not, or could not be asked; the message says why."""


class SupervisorLink:
    """token: this process's principal, signed anew when needed; exited: called when an exit was told."""

    def __init__(self, address: str, token: Callable[[], bytes], exited: Callable[[], None]) -> None:
        self._channel = channels.open_channel(address, MESSAGE_BYTES_MAX)
        self._stub = supervisor_pb2_grpc.SupervisorServiceStub(self._channel)
        self._token = token
        self._exited = exited
        self._picture: supervisor_pb2.WatchProcessesResponse | None = None
        self._running: dict[str, str] = {}  # in that picture: asked for a dozen times as often as it changes
        self._seen_at_s = -math.inf
        self._known: deque[tuple[str, str]] = deque(maxlen=EXITS_KNOWN)
        self._news: list[Exit] = []

    async def run(self) -> None:
        """Keeps the stream open for the life of the process."""
        while True:
            try:
                stream = self._stub.WatchProcesses(
                    supervisor_pb2.WatchProcessesRequest(), metadata=self._metadata(), wait_for_ready=False
                )
                async for picture in stream:
                    self._take(picture)
            except grpc.aio.AioRpcError as error:
                _log.warning("supervisor not heard", code=error.code().name)
            await asyncio.sleep(RECONNECT_S)

    def processes(self) -> tuple[Process, ...] | None:
        """Every process as it is now; None when the supervisor is not heard."""
        if self._picture is None or not self._heard:
            return None
        age_ms = int((time.monotonic() - self._seen_at_s) * 1_000)
        return tuple(_process(each, age_ms) for each in self._picture.processes)

    def boot_ids(self) -> Mapping[str, str]:
        """The present life of every process that runs; empty when the supervisor is not heard."""
        return self._running if self._heard else {}

    def take_exits(self) -> tuple[Exit, ...]:
        """Exits told since the last call, each once."""
        news, self._news = self._news, []
        return tuple(news)

    async def kill(self, instance: str, boot_id: str) -> None:
        """Ends this life and no other. Raises CannotKill."""
        request = supervisor_pb2.KillProcessRequest(instance=instance, boot_id=boot_id)
        try:
            await self._stub.KillProcess(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise CannotKill(f"{error.code().name}: {error.details()}") from None

    async def report(self, lines: Sequence[str]) -> None:
        """Tells whoever watches the platform run; lost when nobody can be told."""
        request = supervisor_pb2.ReportHealingRequest(lines=lines)
        try:
            await self._stub.ReportHealing(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            _log.warning("not reported", code=error.code().name)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    @property
    def _heard(self) -> bool:
        return time.monotonic() - self._seen_at_s <= FRESH_FOR_S

    def _take(self, picture: supervisor_pb2.WatchProcessesResponse) -> None:
        self._picture, self._seen_at_s = picture, time.monotonic()
        self._running = {each.instance: each.boot_id for each in picture.processes if each.phase == Phase.RUNNING}
        fresh = [each for each in picture.exits if (each.instance, each.boot_id) not in self._known]
        if fresh:
            self._remember(fresh)
            self._exited()

    def _remember(self, exits: Iterable[supervisor_pb2.ProcessExit]) -> None:
        now_ms = int(self._seen_at_s * 1_000)
        for each in exits:
            self._known.append((each.instance, each.boot_id))
            self._news.append(Exit(each.instance, each.boot_id, now_ms - each.age_ms, each.how))

    def _metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ((METADATA_KEY, self._token()),)


def _process(each: supervisor_pb2.ProcessStatus, age_ms: int) -> Process:
    """Who was silent when the picture was made still is: had it answered, there would be a newer one."""
    silent_ms = each.silent_ms + age_ms if each.silent_ms else 0
    return Process(each.service, each.instance, each.boot_id, Phase(each.phase), each.restarts, silent_ms)
