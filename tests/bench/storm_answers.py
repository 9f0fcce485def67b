"""Servers in the place of many pods, in a process of its own: killing it ends all of them as a kernel does.

Run by `storm_pods`. Its stdin has one line of JSON for each thing that it is told:

- `{"serve": [workload, instance, boot id, IP]}`: a server for this life. It answers "OK" on stdout, a line, once it is.
- `{"callees": [[instance, boot id], …]}`: the bet-services that its callers of bet-services have called.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.v1 import health_pb2 as status_pb2
from betting_operator.healing.signals import BET_SERVICE
from betting_operator.kubernetes.workloads import HEALTH_PORT, WORKLOADS

CALLERS = frozenset(name for name, each in WORKLOADS.items() if BET_SERVICE in each.calls)
RESIDENT_BYTES, EXPLAINED_BYTES = 180 * 2**20, 160 * 2**20
# Calls of one caller to one bet-service in ten seconds.
CALLS, P90_US, ANSWERED_MS_AGO = 40, 4_000, 150
LINE_BYTES_MAX = 1 << 20

_callees: list[Any] = []


class _Diagnostics(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    def __init__(self, workload: str, instance: str, boot_id: str) -> None:
        self._calls = workload in CALLERS
        self._status = status_pb2.InstanceStatus(
            workload=workload,
            instance=instance,
            boot_id=boot_id,
            state=status_pb2.SERVICE_STATE_SERVING,
            resident_bytes=RESIDENT_BYTES,
        )

    async def GetDiagnostics(self, _request: Any, _context: Any) -> Any:
        return diagnostics_pb2.GetDiagnosticsResponse(
            instance=self._status, callees=_callees if self._calls else (), explained_bytes=EXPLAINED_BYTES
        )


class _Health(health_pb2_grpc.HealthServicer):
    async def Watch(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        await asyncio.Event().wait()


def _callee(instance: str, boot_id: str) -> Any:
    return diagnostics_pb2.CalleeExperience(
        calls=CALLS,
        p90_us=P90_US,
        answered_ms_ago=ANSWERED_MS_AGO,
        workload=BET_SERVICE,
        instance=instance,
        boot_id=boot_id,
    )


async def _serve(workload: str, instance: str, boot_id: str, ip: str) -> grpc.aio.Server:
    server = grpc.aio.server()
    diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server(_Diagnostics(workload, instance, boot_id), server)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    server.add_insecure_port(f"{ip}:{HEALTH_PORT}")
    await server.start()
    return server


async def main() -> None:
    """Until its stdin ends."""
    lines = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    servers = []
    while line := await lines.readline():
        told = json.loads(line)
        if "serve" in told:
            servers.append(await _serve(*told["serve"]))
            print("OK", flush=True)
        else:
            _callees[:] = [_callee(*each) for each in told["callees"]]


if __name__ == "__main__":
    asyncio.run(main())
