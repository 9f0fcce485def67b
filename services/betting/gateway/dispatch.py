"""From a request to its answer, whatever the protocol: limits, endpoint, counting, and no error that escapes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import grpc

from betting.gateway.endpoints import Call, Endpoint, Forward
from betting.gateway.heads import Head, failure_of
from betting.gateway.limiter import check
from betting.gateway.methods import Lane, Method
from betting.gateway.protocols.codes import Code
from betting.gateway.protocols.failures import Failure
from betting.gateway.protocols.wires import GrpcWeb, HttpReply, StreamWire, UnaryWire, Wire, connect_failure
from betting.runtime import logs, metrics
from betting.runtime.errors import ServiceError
from betting.runtime.method import level_of
from betting.v1 import bet_pb2

_log = logs.get(__name__)

_STATUS: Final = {Code(status.value[0]): status for status in grpc.StatusCode}
_PATH_SHOWN_MAX: Final = 200


class Dispatcher:
    """One per process. endpoints: by path, for methods with one reply; streams: for those with many."""

    def __init__(self, endpoints: Mapping[str, Endpoint], streams: Mapping[str, Forward], requests_max: int) -> None:
        self._endpoints = endpoints
        self._streams = streams
        self._requests_max = requests_max
        self._series: dict[tuple[str, str], metrics.Series] = {}
        self.in_flight = 0

    def enter(self) -> None:
        """Counts a request in; raises Failure when there are too many."""
        if self.in_flight >= self._requests_max:
            message = (
                f"{self.in_flight} requests are in flight at this gateway, {self._requests_max} is the limit: "
                "nothing was done, try again in a second"
            )
            raise Failure(Code.UNAVAILABLE, "OVERLOADED", message, headers=(("Retry-After", "1"),))
        self.in_flight += 1

    def leave(self) -> None:
        """Counts a request out."""
        self.in_flight -= 1

    async def unary(self, head: Head, body: bytes, correlation: str) -> bytes:
        """The body of the answer; raises Failure."""
        started_s = time.monotonic()
        wire = head.wire
        assert isinstance(wire, UnaryWire)
        try:
            self.enter()
            try:
                call = self._call(head, body, correlation)
                reply = await self._endpoint(head.method).unary(call)
                answer = wire.reply(wire.encode(reply, head.method.reply))
            finally:
                self.leave()
        except (ServiceError, Failure) as error:
            failure = self.failed(head.method, error, correlation)
            self.observe(head, failure.code.name, time.monotonic() - started_s)
            raise failure from None
        self.observe(head, "OK", time.monotonic() - started_s)
        return answer

    async def stream(self, head: Head, body: bytes, correlation: str) -> AsyncGenerator[bytes, None]:
        """The pieces of the answer's body, its end included, also when it ends badly."""
        wire = head.wire
        assert isinstance(wire, StreamWire)
        failure: Failure | None = None
        try:
            call = self._call(head, body, correlation)
            async with aclosing(self._streams[head.method.path].stream(call)) as replies:
                async for reply in replies:
                    yield wire.item(wire.encode(reply, head.method.reply))
        except (ServiceError, Failure) as error:
            failure = self.failed(head.method, error, correlation)
        yield wire.end(failure)

    def observe(self, head: Head, code: str, seconds: float) -> None:
        """Counts an answer; logs it when the caller follows it, having named a correlation id."""
        method = head.method
        if head.traced:
            _log.info(
                "call",
                method=method.path,
                code=code,
                duration_ms=round(seconds * 1e3, 3),
                correlation_id=head.correlation,
            )
        series = self._series.get((method.path, code))
        if series is None:
            family = metrics.latencies("betting_gateway_request_seconds", "Calls answered", ("method", "code"))
            series = self._series[(method.path, code)] = family.series(method.path, code)
        series.observe(seconds)

    def failed(self, method: Method, error: ServiceError | Failure, correlation: str) -> Failure:
        """What the caller gets; logged, whoever made the correlation id."""
        failure = failure_of(error) if isinstance(error, ServiceError) else error
        log_failure(failure, method.path, correlation)
        return failure

    def _call(self, head: Head, body: bytes, correlation: str) -> Call:
        wire, method = head.wire, head.method
        request = wire.request(method.request, body)
        count = len(request.bets) if isinstance(request, bet_pb2.PlaceBetsRequest) else 1
        if head.own is not head.address:
            check(head.own, max(1, count), _what(method))
        payload = request.SerializeToString() if wire.json else wire.payload(body)
        return Call(
            method, request, payload, head.caller, head.timeout_s, correlation, head.source, bool(head.correlation)
        )

    def _endpoint(self, method: Method) -> Endpoint:
        endpoint = self._endpoints.get(method.path)
        if endpoint is None:
            raise Failure(Code.UNIMPLEMENTED, "METHOD_UNKNOWN", f"{method.path} is not served here")
        return endpoint


def log_failure(failure: Failure, path: str, correlation: str) -> None:
    """The line that a failed request leaves: whoever was given the id finds what became of it. Once per failure."""
    if failure.logged:
        return
    failure.logged = True
    _log.log(
        level_of(_STATUS[failure.code]),
        "call failed",
        method=path[:_PATH_SHOWN_MAX],
        code=failure.code.name,
        reason=failure.reason,
        message=failure.message,
        correlation_id=correlation,
    )


def refusal(wire: Wire | None, failure: Failure) -> HttpReply:
    """A failed call in the caller's protocol, or as Connect JSON where there is none or HTTP has a word for it."""
    if wire is None or (failure.http_status is not None and not isinstance(wire, GrpcWeb)):
        return connect_failure(failure)
    return wire.failure(failure)


def unexpected(error: Exception, path: str, correlation: str) -> Failure:
    """The answer that hides an error nobody foresaw; the log has it."""
    _log.error("unexpected error", path=path, correlation_id=correlation, exc_info=error)
    message = f"internal error: repeat the request; if it fails again, report the correlation id {correlation}"
    failure = Failure(Code.INTERNAL, "INTERNAL", message)
    failure.logged = True
    return failure


def _what(method: Method) -> str:
    match method.lane:
        case Lane.MONEY:
            return "bets, deposits and withdrawals"
        case Lane.SIGN_IN:
            return "sign-ins from your address"
        case Lane.READ:
            return "requests"
