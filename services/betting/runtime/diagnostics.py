"""DiagnosticsService: the status of this process and the statistics of its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import grpc
import psutil

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.life import Life
from betting.runtime.client import TargetStatistics
from betting.runtime.outcomes import CallStatistics
from betting.v1 import health_pb2

FULL_NAME = "betting.internal.v1.DiagnosticsService"


@dataclass(frozen=True)
class Identity:
    """The life of this process, and its start in microseconds since 1970."""

    life: Life
    started_at_us: int


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    """Answers from memory; never waits for anything."""

    def __init__(
        self,
        identity: Identity,
        address: Callable[[], str],
        serving: Callable[[], bool],
        targets: Callable[[], Iterable[TargetStatistics]],
        call_statistics: Callable[[], Iterable[CallStatistics]],
        explained_bytes: Callable[[], int],
        alerts: Callable[[], Iterable[str]],
    ) -> None:
        self._identity = identity
        self._address = address
        self._serving = serving
        self._targets = targets
        self._call_statistics = call_statistics
        self._explained_bytes = explained_bytes
        self._alerts = alerts
        self._process = psutil.Process()

    async def GetDiagnostics(
        self, request: diagnostics_pb2.GetDiagnosticsRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> diagnostics_pb2.GetDiagnosticsResponse:
        """The status of this instance, and the statistics of its calls to other processes."""
        return self.look()

    def look(self) -> diagnostics_pb2.GetDiagnosticsResponse:
        """The reply of GetDiagnostics as of now. Call it in the main loop only."""
        return diagnostics_pb2.GetDiagnosticsResponse(
            instance=self.status(),
            callees=[_callee(each) for each in self._call_statistics()],
            explained_bytes=self._explained_bytes(),
            alerts=self._alerts(),
        )

    def status(self) -> health_pb2.InstanceStatus:
        """The status of this instance."""
        serving = self._serving()
        return health_pb2.InstanceStatus(
            workload=self._identity.life.workload,
            instance=self._identity.life.instance,
            boot_id=self._identity.life.boot_id,
            address=self._address(),
            state=health_pb2.SERVICE_STATE_SERVING if serving else health_pb2.SERVICE_STATE_NOT_SERVING,
            started_at_us=self._identity.started_at_us,
            resident_bytes=self._process.memory_info().rss,
            breakers=[status for target in self._targets() for status in _breakers(target)],
        )


def _callee(each: CallStatistics) -> diagnostics_pb2.CalleeExperience:
    message = diagnostics_pb2.CalleeExperience(
        address=each.address,
        calls=each.calls,
        failures=each.failures,
        p90_us=int(each.p90_s * 1_000_000),
        unanswered=each.unanswered,
        silent_ms=int(each.silent_s * 1_000),
    )
    if each.life is not None:
        message.workload, message.instance = each.life.workload, each.life.instance
        message.boot_id = each.life.boot_id
    if each.answered_ago_s is not None:
        message.answered_ms_ago = int(each.answered_ago_s * 1_000)
    return message


def _breakers(target: TargetStatistics) -> Iterator[health_pb2.BreakerStatus]:
    for name, each in target.classes.items():
        yield health_pb2.BreakerStatus(
            target=f"{target.name}/{name}", state=each.breaker.state.value, opened_total=each.breaker.opened_total
        )
