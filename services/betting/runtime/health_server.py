"""Health and diagnostics on a port and threads of their own, independent of the main loop.

The answers report whether the process is alive and whether its main loop makes progress. The loop is probed when a
request comes in, so there is no cost without requests; a finished call counts as progress too. An answer takes at most
`LOOP_ANSWERS_S`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2 as grpc_health_pb2
from grpc_health.v1 import health_pb2_grpc as grpc_health_pb2_grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.runtime import logs

# The health name of the process itself: SERVING from the first moment to the last, whatever it waits for.
LIVE = "live"
# The health name for rolls: SERVING once the process can do its work, now or when it is its turn (a standby).
READY = "ready"
LOOP_ANSWERS_S = 0.3
THREADS = 4

_LOG = logs.get(__name__)

Diagnostics = diagnostics_pb2.GetDiagnosticsResponse


class Progress:
    """Whether a main loop makes progress. `done` is for the loop, after every unit of work; the rest is for other
    threads.

    look: called in the loop; returns what the loop reports.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], Diagnostics]) -> None:
        self._loop = loop
        self._look = look
        self._lock = threading.Lock()
        self._answered: threading.Event | None = None  # while a question is open
        self._asked_s = 0.0
        self._asked_cpu_s = 0.0
        self._lag_s = 0.0
        self._done_s = 0.0
        self._report = look()

    def done(self) -> None:
        """Records that a unit of work is done."""
        self._done_s = time.monotonic()

    def ask(self) -> Diagnostics:
        """What the loop reports now.

        If it does not answer in time: its last report, and for how long it has not answered.
        """
        answered = self._question()
        answered.wait(LOOP_ANSWERS_S)
        now_s, cpu_s = time.monotonic(), time.process_time()
        report = Diagnostics()
        with self._lock:
            report.CopyFrom(self._report)
            report.lag_ms = int(self._lag_s * 1_000)
            if self._answered is not None and not answered.is_set():
                report.stalled_ms = max(1, int((now_s - max(self._asked_s, self._done_s)) * 1_000))
                report.stalled_cpu_ms = int((cpu_s - self._asked_cpu_s) * 1_000)
        return report

    def _question(self) -> threading.Event:
        """The probe in progress, or a new one."""
        with self._lock:
            if self._answered is not None:
                return self._answered
            answered = self._answered = threading.Event()
            self._asked_s, self._asked_cpu_s = time.monotonic(), time.process_time()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop has ended: there is nothing to get on with
            self._close(None)
        return answered

    def _answer(self) -> None:
        report = None
        try:
            report = self._look()
        except Exception as error:  # the loop makes progress: a report that fails must not make it look stalled
            _LOG.error("diagnostics not read", exc_info=error)
        self._close(report)

    def _close(self, report: Diagnostics | None) -> None:
        with self._lock:
            answered, self._answered = self._answered, None
            self._lag_s = time.monotonic() - self._asked_s
            self._report = report or self._report
        if answered is not None:
            answered.set()


class HealthServer:
    """grpc.health.v1 and DiagnosticsService. Every name but `live` is NOT_SERVING until `say` changes it."""

    def __init__(self, address: str, progress: Progress, options: Iterable[tuple[str, Any]]) -> None:
        self._address = address
        self._health = grpc_health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="health"), options=tuple(options), maximum_concurrent_rpcs=64
        )
        grpc_health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server(_Diagnostics(progress), self._server)

    def start(self) -> bool:
        """Starts listening. Returns False if the address cannot be used."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            port = 0
        if port == 0:
            return False
        self._health.set(LIVE, grpc_health_pb2.HealthCheckResponse.SERVING)
        self.say(["", READY], serving=False)
        self._server.start()
        return True

    def say(self, names: Iterable[str], *, serving: bool) -> None:
        """Sets the readiness of these health names."""
        response = grpc_health_pb2.HealthCheckResponse
        for name in names:
            self._health.set(name, response.SERVING if serving else response.NOT_SERVING)

    def stop(self) -> None:
        """Stops at once, without waiting for the threads."""
        self._server.stop(None)


class _Diagnostics(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def GetDiagnostics(
        self, request: diagnostics_pb2.GetDiagnosticsRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.GetDiagnosticsResponse:
        return self._progress.ask()
