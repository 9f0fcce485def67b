"""Health and diagnostics beside the work: on a port and threads of their own, whatever the main loop is at.

Whoever asks hears whether the process lives and whether its main loop gets on. The loop is asked with each question, so
watching it costs nothing while nobody asks; a call that ends is progress too. An answer takes at most `LOOP_ANSWERS_S`.
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

# The health name of the process itself: SERVING from the first moment to the last, whatever it waits for.
LIVE = "live"
LOOP_ANSWERS_S = 0.3
THREADS = 4

Diagnostics = diagnostics_pb2.GetDiagnosticsResponse


class Progress:
    """Whether a main loop gets on. `done` is called by it for every unit of work, the rest by other threads.

    look: called in the loop, for what it has to say.
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
        self._said = look()

    def done(self) -> None:
        """A unit of work has been done."""
        self._done_s = time.monotonic()

    def ask(self) -> Diagnostics:
        """What the loop says now; of a loop that does not answer in time, what it said last, and for how long."""
        answered = self._question()
        answered.wait(LOOP_ANSWERS_S)
        now_s, cpu_s = time.monotonic(), time.process_time()
        said = Diagnostics()
        with self._lock:
            said.CopyFrom(self._said)
            said.lag_ms = int(self._lag_s * 1_000)
            if self._answered is not None and not answered.is_set():
                said.stalled_ms = max(1, int((now_s - max(self._asked_s, self._done_s)) * 1_000))
                said.stalled_cpu_ms = int((cpu_s - self._asked_cpu_s) * 1_000)
        return said

    def _question(self) -> threading.Event:
        """The open one, or a new one."""
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
        self._close(self._look())

    def _close(self, said: Diagnostics | None) -> None:
        with self._lock:
            answered, self._answered = self._answered, None
            self._lag_s = time.monotonic() - self._asked_s
            self._said = said or self._said
        if answered is not None:
            answered.set()


class HealthServer:
    """grpc.health.v1 and DiagnosticsService. NOT_SERVING under every name but `live` until told otherwise."""

    def __init__(self, address: str, progress: Progress, options: Iterable[tuple[str, Any]]) -> None:
        self._address = address
        self._health = grpc_health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="health"), options=tuple(options), maximum_concurrent_rpcs=64
        )
        grpc_health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server(_Diagnostics(progress), self._server)

    def start(self) -> bool:
        """Listens. False: the address cannot be listened on."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            port = 0
        if port == 0:
            return False
        self._health.set(LIVE, grpc_health_pb2.HealthCheckResponse.SERVING)
        self.say([""], serving=False)
        self._server.start()
        return True

    def say(self, names: Iterable[str], *, serving: bool) -> None:
        """Readiness, under each of these names."""
        response = grpc_health_pb2.HealthCheckResponse
        for name in names:
            self._health.set(name, response.SERVING if serving else response.NOT_SERVING)

    def stop(self) -> None:
        """Ends at once; returns before it has."""
        self._server.stop(None)


class _Diagnostics(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def GetDiagnostics(
        self, request: diagnostics_pb2.GetDiagnosticsRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.GetDiagnosticsResponse:
        return self._progress.ask()
