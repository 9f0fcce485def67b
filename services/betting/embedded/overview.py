"""The data of `betting status`: processes from the supervisor, the platform's status from health-monitor."""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
import psutil

from betting.embedded import ports_plan
from betting.embedded.folder import DataFolder
from betting.embedded.ports import HOST
from betting.runtime import principal
from betting.runtime.clock import now_us
from betting.supervision import state
from betting.v1 import health_pb2, health_pb2_grpc

MONITOR = "health-monitor"
MONITOR_TIMEOUT_S = 2.0
_CALLER = "betting-status"


@dataclass(frozen=True)
class Overview:
    """All data of one look. `platform` is None while health-monitor does not answer; `problem` has the reason."""

    at_s: float
    running: bool
    supervisor: state.PlatformState
    resident_bytes: dict[str, int]
    platform: health_pb2.GetPlatformStatusResponse | None
    problem: str = ""


class Observer:
    """Looks at one data folder repeatedly."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._monitor = _Monitor()

    async def look(self) -> Overview:
        """Raises PlatformError when nothing was ever started there."""
        supervisor = state.load(self._folder.state)
        running = self._folder.is_locked()
        platform, problem = await self._ask(supervisor) if running else (None, "not running")
        memory = {each.name: resident_bytes(each) for each in supervisor.processes} if running else {}
        return Overview(time.monotonic(), running, supervisor, memory, platform, problem)

    async def close(self) -> None:
        """Closes the channel to the health monitor; `look` must not be called afterwards."""
        await self._monitor.close()

    async def _ask(self, supervisor: state.PlatformState) -> tuple[health_pb2.GetPlatformStatusResponse | None, str]:
        port = supervisor.ports.get(ports_plan.grpc_name(MONITOR))
        if port is None:
            return None, f"{MONITOR} has no port"
        return await self._monitor.ask(f"{HOST}:{port}", bytes.fromhex(self._folder.internal_secret()))


class RemoteObserver:
    """Looks at a platform elsewhere, through its health monitor alone. secret: what its services sign with."""

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        self._secret = secret
        self._monitor = _Monitor()

    async def look(self) -> Overview:
        """Takes the instances from health-monitor too, as there is no supervisor to ask."""
        platform, problem = await self._monitor.ask(self._address, self._secret)
        instances = platform.instances if platform is not None else ()
        processes = [_process(each) for each in instances]
        memory = {process.name: each.resident_bytes for process, each in zip(processes, instances, strict=True)}
        supervisor = state.PlatformState(0, 0, processes=processes)
        return Overview(time.monotonic(), True, supervisor, memory, platform, problem)

    async def close(self) -> None:
        """Closes the channel to the health monitor; `look` must not be called afterwards."""
        await self._monitor.close()


class _Monitor:
    """A client of health-monitor, which may restart at another address."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._address = ""

    async def ask(self, address: str, secret: bytes) -> tuple[health_pb2.GetPlatformStatusResponse | None, str]:
        """Its reply; or None, and why there is none."""
        if self._channel is None or address != self._address:
            await self.close()
            self._channel, self._address = grpc.aio.insecure_channel(address), address
        call = health_pb2_grpc.HealthMonitorServiceStub(self._channel).GetPlatformStatus
        metadata = ((principal.METADATA_KEY, principal.service_principal(_CALLER, secret, now_us())),)
        try:
            return await call(health_pb2.GetPlatformStatusRequest(), timeout=MONITOR_TIMEOUT_S, metadata=metadata), ""
        except grpc.aio.AioRpcError as error:
            return None, f"{MONITOR} at {address} does not answer ({error.code().name})"

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close()


def _process(each: health_pb2.InstanceStatus) -> state.ProcessState:
    phases = {
        health_pb2.SERVICE_STATE_SERVING: state.ProcessPhase.READY,
        health_pb2.SERVICE_STATE_NOT_SERVING: state.ProcessPhase.STARTING,
    }
    return state.ProcessState(
        name=each.instance or f"{each.workload} at {each.address}",
        phase=phases.get(each.state, state.ProcessPhase.STOPPED),
        boot_id=each.boot_id,
        started_at_us=each.started_at_us,
    )


def resident_bytes(process: state.ProcessState) -> int:
    """Resident memory of a process and its children; 0 when it is gone."""
    if process.pid is None:
        return 0
    try:
        parent = psutil.Process(process.pid)
        return sum(_resident(each) for each in [parent, *parent.children(recursive=True)])
    except psutil.Error:
        return 0


def _resident(process: psutil.Process) -> int:
    """Shared pages counted once (Linux): the buffers of Postgres would otherwise count for each connection."""
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
