"""SupervisorService: reports processes to the healer, and executes its kills."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from betting.internal.v1 import supervisor_pb2, supervisor_pb2_grpc
from betting.runtime.clock import now_us
from betting.runtime.errors import ServiceError
from betting.runtime.loops import woken_within
from betting.runtime.principal import METADATA_KEY, Role, Verifier
from betting.supervision.errors import PlatformError
from betting.supervision.process import OtherLife
from betting.supervision.state import ProcessPhase, ProcessState
from betting.supervision.supervisor import Supervisor

# The picture is sent this often also when nothing changed: how long somebody has been silent does.
SNAPSHOT_INTERVAL_S = 1.0
STOP_GRACE_S = 0.2
LINES_MAX = 100
LINE_LENGTH_MAX = 500

# Paused is what a person did; the healer has to find out by evidence.
_PHASES = {
    ProcessPhase.STARTING: "starting",
    ProcessPhase.READY: "running",
    ProcessPhase.PAUSED: "running",
    ProcessPhase.WAITING: "down",
    ProcessPhase.STOPPING: "stopping",
    ProcessPhase.STOPPED: "stopping",
}

# Breaks a process: fault, process, seconds (0: for good). Raises PlatformError, with nothing done.
Injector = Callable[[str, str, float], Awaitable[None]]

_Context = grpc.aio.ServicerContext[Any, Any]


class SupervisorServicer(supervisor_pb2_grpc.SupervisorServiceServicer):
    """SupervisorService, for callers that hold the internal secret of the platform."""

    def __init__(self, supervisor: Supervisor, secret: bytes, inject: Injector | None = None) -> None:
        self._supervisor = supervisor
        self._inject = inject
        self._verifier = Verifier(secret)

    async def WatchProcesses(
        self, request: supervisor_pb2.WatchProcessesRequest, context: _Context
    ) -> AsyncIterator[supervisor_pb2.WatchProcessesResponse]:
        await self._authorise(context)
        with self._supervisor.watched() as changed:
            while True:
                changed.clear()
                yield process_snapshot(self._supervisor)
                await woken_within(changed, SNAPSHOT_INTERVAL_S)

    async def KillProcess(
        self, request: supervisor_pb2.KillProcessRequest, context: _Context
    ) -> supervisor_pb2.KillProcessResponse:
        await self._authorise(context)
        try:
            self._supervisor.kill_life(request.instance, request.boot_id)
        except OtherLife as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except PlatformError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return supervisor_pb2.KillProcessResponse()

    async def InjectFault(
        self, request: supervisor_pb2.InjectFaultRequest, context: _Context
    ) -> supervisor_pb2.InjectFaultResponse:
        await self._authorise(context)
        if self._inject is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this platform does not take injected faults")
        try:
            await self._inject(request.fault, request.instance, request.duration_ms / 1_000)
        except PlatformError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return supervisor_pb2.InjectFaultResponse()

    async def ReportHealing(
        self, request: supervisor_pb2.ReportHealingRequest, context: _Context
    ) -> supervisor_pb2.ReportHealingResponse:
        await self._authorise(context)
        self._supervisor.report_healing(line[:LINE_LENGTH_MAX] for line in request.lines[:LINES_MAX])
        return supervisor_pb2.ReportHealingResponse()

    async def _authorise(self, context: _Context) -> None:
        token = dict(context.invocation_metadata() or ()).get(METADATA_KEY, b"")
        try:
            caller = self._verifier.verify(token if isinstance(token, bytes) else token.encode(), now_us())
        except ServiceError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, error.message)
        if caller.role is not Role.SERVICE:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this call is for the platform's own services")


def process_snapshot(supervisor: Supervisor) -> supervisor_pb2.WatchProcessesResponse:
    """The state of every process, and the latest exits."""
    now_s = time.monotonic()
    return supervisor_pb2.WatchProcessesResponse(
        processes=[_status(supervisor, each) for each in supervisor.processes],
        exits=[
            supervisor_pb2.ProcessExit(
                workload=supervisor.workload_of(each.instance),
                instance=each.instance,
                boot_id=each.boot_id,
                how=each.how,
                age_ms=int((now_s - each.at_s) * 1_000),
            )
            for each in supervisor.exits
        ],
    )


def _status(supervisor: Supervisor, process: ProcessState) -> supervisor_pb2.ProcessStatus:
    return supervisor_pb2.ProcessStatus(
        workload=supervisor.workload_of(process.name),
        instance=process.name,
        boot_id=process.boot_id if process.pid is not None else "",
        phase=_PHASES[process.phase],
        restarts=process.restarts,
        silent_ms=supervisor.silent_ms(process.name),
        address=supervisor.address_of(process.name),
        health_address=supervisor.health_address_of(process.name),
    )


@asynccontextmanager
async def serving(
    supervisor: Supervisor, address: str, secret: bytes, inject: Injector | None = None
) -> AsyncIterator[None]:
    """Serves the healer for the length of a block, and `betting chaos` where faults may be injected (`inject`).

    Raises PlatformError when the port is taken.
    """
    server = grpc.aio.server()
    supervisor_pb2_grpc.add_SupervisorServiceServicer_to_server(SupervisorServicer(supervisor, secret, inject), server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise PlatformError(f"The supervisor cannot listen on {address}: is another process using the port?")
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_GRACE_S)
