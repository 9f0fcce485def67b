"""The gRPC server of a process: health and diagnostics answer from the first moment, before anything else is ready.

Health names: "" and the services' names tell whether calls are to be sent here (readiness); "live" whether the process
answers at all (liveness, start-up); "ready" whether it can do its work, now or, of a standby, when it is its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as grpc_health_pb2
from grpc_health.v1 import health_pb2_grpc as grpc_health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from betting.internal.v1 import diagnostics_pb2_grpc
from betting.life import Life
from betting.runtime import channels, diagnostics, errors, metrics
from betting.runtime.bulkhead import Bulkhead
from betting.runtime.client import TargetStatistics
from betting.runtime.composition import Servicer
from betting.runtime.health_server import LIVE, READY, HealthServer, Progress
from betting.runtime.interceptor import Context, Interceptor, behaviour_of
from betting.runtime.method import Method, class_of
from betting.runtime.outcomes import CallStatistics
from betting.runtime.principal import Verifier
from betting.runtime.settings import ServiceSettings, split_address

HEALTH_FULL_NAME = "grpc.health.v1.Health"
# What is still open when all calls have ended (a watch of our health, say) gets this long.
LAST_GRACE_S = 0.05


class PortBusyError(Exception):
    """The address cannot be listened on: another process has the port, or it is not ours."""


class Server:
    """Starts not serving; `serve` opens the services, `refuse` closes them for newcomers, `stop` ends it."""

    def __init__(
        self,
        identity: diagnostics.Identity,
        settings: ServiceSettings,
        targets: Callable[[], Iterable[TargetStatistics]],
        call_statistics: Callable[[], Iterable[CallStatistics]],
        explained_bytes: Callable[[], int],
        alerts: Callable[[], Iterable[str]],
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._serving = False
        self._refusing = False
        self.address = settings.grpc_address
        self._bulkheads: dict[str, Bulkhead] = {}  # by class of methods
        self._interceptor = Interceptor(
            Verifier(settings.internal_secret_bytes),
            identity.life,
            default_deadline_s=settings.default_deadline.total_seconds(),
        )
        self._handlers = _Handlers(identity.life)
        self._health = grpc_health.HealthServicer()
        self._names: list[str] = []
        self._beside: HealthServer | None = None
        self._server = grpc.aio.server(options=channels.server_options(settings.max_message_bytes))
        self._diagnostics = diagnostics.DiagnosticsServicer(
            identity,
            lambda: settings.advertised_address or self.address,
            lambda: self._serving,
            targets,
            call_statistics,
            explained_bytes,
            alerts,
        )

    async def start(self) -> str:
        """Listens, with health NOT_SERVING; the address with the real port. Raises PortBusyError."""
        await self._health.set(LIVE, grpc_health_pb2.HealthCheckResponse.SERVING)
        await self._say(["", READY], serving=False)
        grpc_health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers,))
        self._register(
            Servicer(
                diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server,
                self._diagnostics,
                diagnostics.FULL_NAME,
                unbounded_methods=frozenset({"GetDiagnostics"}),
                quiet_methods=frozenset({"GetDiagnostics"}),
            )
        )
        self.address = self._bound()
        await self._server.start()
        await self._begin_beside()
        self._gauge()
        return self.address

    async def serve(self, servicers: Iterable[Servicer], *, active: bool = True, able: bool = True) -> None:
        """Opens the services, and says SERVING if this process is active. able: whether it could be."""
        for servicer in servicers:
            self._register(servicer)
        self._reflect()
        self._handlers.ready = True
        await self.set_active(active)
        await self.set_able(able)

    async def set_able(self, able: bool) -> None:
        """Says, as "ready", whether this process can do its work, now or when it is its turn."""
        if not self._refusing:
            await self._say([READY], serving=able)

    async def set_active(self, active: bool) -> None:
        """Says SERVING or, of a process that stands by, NOT_SERVING; calls are answered in either case."""
        if not self._refusing:
            self._serving = active
            await self._say(["", *self._names], serving=active)

    async def refuse(self) -> None:
        """Says NOT_SERVING; calls that still come are answered."""
        self._refusing, self._serving = True, False
        await self._say(["", READY, *self._names], serving=False)

    async def stop(self, timeout_s: float) -> bool:
        """Refuses new calls, ends streams, waits for the calls in flight, closes. False: some had to be cut off."""
        closing = asyncio.ensure_future(self._server.stop(timeout_s))
        self._interceptor.end_streams()
        started_s = time.monotonic()
        waiting = asyncio.ensure_future(self._interceptor.idle())
        await asyncio.wait((closing, waiting), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finished = self._interceptor.in_flight == 0
        waiting.cancel()
        rest_s = max(0.0, timeout_s - (time.monotonic() - started_s))
        await self._server.stop(min(LAST_GRACE_S, rest_s))
        await closing
        if self._beside is not None:
            self._beside.stop()
        return finished

    async def _begin_beside(self) -> None:
        address = self._settings.health_address
        if address is None:
            return
        progress = Progress(asyncio.get_running_loop(), self._diagnostics.look)
        self._interceptor.done = progress.done
        beside = HealthServer(address, progress, channels.server_options(self._settings.max_message_bytes))
        if beside.start():
            self._beside = beside
        else:
            await self._server.stop(None)
            raise PortBusyError(f"cannot listen on {address}: is another process using the port?")

    async def _say(self, names: Iterable[str], *, serving: bool) -> None:
        names = list(names)
        response = grpc_health_pb2.HealthCheckResponse
        for name in names:
            await self._health.set(name, response.SERVING if serving else response.NOT_SERVING)
        if self._beside is not None:
            self._beside.say(names, serving=serving)

    def _bound(self) -> str:
        host, _ = split_address(self._settings.grpc_address)
        try:
            port = self._server.add_insecure_port(self._settings.grpc_address)
        except RuntimeError:
            port = 0
        if port == 0:
            raise PortBusyError(f"cannot listen on {self._settings.grpc_address}: is another process using the port?")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _register(self, servicer: Servicer) -> None:
        registrar = _Registrar()
        servicer.add_to_server(servicer.implementation, registrar)
        for path, handler in registrar.handlers.items():
            if _left_out(handler):
                continue
            name = path.rpartition("/")[2]
            method = Method(path, quiet=name in servicer.quiet_methods)
            bulkhead = None if name in servicer.unbounded_methods else self._bulkhead(path)
            self._handlers.add(path, self._interceptor.wrap(method, handler, bulkhead))
        self._names.append(servicer.full_name)

    def _bulkhead(self, path: str) -> Bulkhead:
        """The places of a method's class: each class has as many, and none can take another's."""
        found = class_of(path)
        known = self._bulkheads.get(found.name)
        if known is None:
            known = self._bulkheads[found.name] = Bulkhead(
                f"{self._identity.life.workload} ({found.name})",
                in_flight_max=self._settings.server_in_flight,
                queued_max=self._settings.server_queued,
                wait_max_s=found.wait_max_s,
            )
        return known

    def _reflect(self) -> None:
        """Adds reflection, unwrapped like health: it touches nothing of ours."""
        registrar = _Registrar()
        names = [*self._names, HEALTH_FULL_NAME, reflection.SERVICE_NAME]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), registrar)
        for path, handler in registrar.handlers.items():
            self._handlers.add(path, handler)

    def _gauge(self) -> None:
        metrics.gauge("betting_grpc_server_in_flight_calls", "Calls being answered").set_function(
            lambda: self._interceptor.in_flight
        )
        metrics.gauge("betting_grpc_server_queued_calls", "Calls waiting for a place in the bulkhead").set_function(
            lambda: sum(each.statistics().queued for each in self._bulkheads.values())
        )


def _left_out(handler: Any) -> bool:
    """Whether the servicer inherits this method from its generated base: gRPC then answers UNIMPLEMENTED by itself."""
    return str(getattr(behaviour_of(handler), "__module__", "")).endswith("_pb2_grpc")


class _Registrar:
    """Stands in for a server in front of generated code and collects its handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Generated code offers its handlers twice; the other form names them."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


class _Handlers(grpc.GenericRpcHandler):
    """Finds the wrapped handler of a method. Before `ready`, calls to the services are answered UNAVAILABLE."""

    def __init__(self, life: Life) -> None:
        self._by_path: dict[str, Any] = {}
        self.ready = False
        answer = errors.unavailable("STARTING", "this instance is starting: try again in a moment")
        trailing = ((errors.DETAILS_KEY, errors.encode_details(answer)), life.metadata)

        async def still_starting(_request: bytes, context: Context) -> bytes:
            await context.abort(answer.code, answer.message, trailing)
            raise AssertionError("abort always raises")

        self._starting: Any = grpc.unary_unary_rpc_method_handler(still_starting)

    def add(self, path: str, handler: Any) -> None:
        self._by_path[path] = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler, or None: gRPC answers UNIMPLEMENTED."""
        found = self._by_path.get(handler_call_details.method)
        return found if found is not None or self.ready else self._starting
