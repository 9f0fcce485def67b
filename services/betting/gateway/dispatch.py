"""Handles a call in any protocol: limits, endpoint, metrics, and every error as an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Any, Final, TypeVar

import grpc

from betting.gateway.endpoints import Call, Endpoint, Forward
from betting.gateway.heads import Head, failure_of
from betting.gateway.limits import BodyRoom, ConcurrencyLimit, Turns, check
from betting.gateway.methods import Method, RateClass
from betting.gateway.protocols.encoding import json_values
from betting.gateway.protocols.failures import Code, Failure, malformed
from betting.gateway.protocols.wires import (
    GrpcWeb,
    HttpReply,
    StreamWire,
    UnaryWire,
    connect_failure,
    is_plain_grpc,
    plain_grpc_failure,
    wire_of,
)
from betting.gateway.settings import GatewaySettings
from betting.runtime import logs, metrics
from betting.runtime.errors import ServiceError
from betting.runtime.method import level_of
from betting.runtime.networks import network_of
from betting.v1 import bet_pb2

_log = logs.get(__name__)

_STATUS: Final = {Code(status.value[0]): status for status in grpc.StatusCode}
_PATH_SHOWN_MAX: Final = 200
# An answer to the connection more than to the call, whatever the protocol.
_EXPECTATION: Final = 417
# More JSON than this (about a millisecond's work) is converted beside the loop.
_JSON_VALUES_INLINE: Final = 500
_JSON_VALUES_ANONYMOUS: Final = 5_000
_REPLY_BYTES_INLINE: Final = 8_192
# What is held of bodies at once, in all and of one address or user: places alone would let one fill the memory.
BODY_BYTES_MAX: Final = 256 << 20
BODY_BYTES_OF_ONE_MAX: Final = 16 << 20

T = TypeVar("T")


class Dispatcher:
    """One per process. endpoints: by path, for methods with one reply; streams: for those with many.

    `requests` and `streams` are the places of calls with one reply and with many, `bodies` the bytes of bodies that are
    held for them. A call has its place from the end of its head to the end of its answer, its body included.
    """

    def __init__(
        self, endpoints: Mapping[str, Endpoint], streams: Mapping[str, Forward], settings: GatewaySettings
    ) -> None:
        self._endpoints = endpoints
        self._streams = streams
        self._series: dict[tuple[str, str], metrics.Series] = {}
        self._converter = ThreadPoolExecutor(1, "json")
        self._turns = Turns()
        self.requests = ConcurrencyLimit(
            "requests in flight",
            settings.requests_max,
            of_address=settings.requests_per_address_max,
            of_user=settings.requests_per_user_max,
        )
        self.streams = ConcurrencyLimit(
            "streams",
            settings.streams_max,
            of_address=settings.streams_per_address_max,
            of_user=settings.streams_per_user_max,
        )

        self.bodies = ConcurrencyLimit(
            "bytes of request bodies",
            max(BODY_BYTES_MAX, settings.request_bytes_max),
            of_address=max(BODY_BYTES_OF_ONE_MAX, settings.request_bytes_max),
            of_user=max(BODY_BYTES_OF_ONE_MAX, settings.request_bytes_max),
        )

    def place(self, head: Head) -> AbstractContextManager[None]:
        """Holds a place for a call, for the length of a block. Raises Failure if there is none."""
        return _held(self.streams if head.method.streams else self.requests, head.holder)

    def body_place(self, source: str) -> AbstractContextManager[None]:
        """Holds a place for a request that is not a call but has a body to wait for."""
        return _held(self.requests, network_of(source))

    def body_room(self, holder: str | bytes) -> BodyRoom:
        """Room for the body of a request, for the length of a block."""
        return BodyRoom(self.bodies, holder)

    async def unary(self, head: Head, body: bytes, correlation: str) -> bytes:
        """Answers a call with one reply: the encoded body.

        Raises Failure with the status for the caller; it is counted.
        """
        started_s = time.monotonic()
        wire = head.wire
        assert isinstance(wire, UnaryWire)
        try:
            call = await self._call(head, body, correlation)
            reply = await self._endpoint(head.method).unary(call)
            answer = wire.reply(await self._encoded(head, reply))
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
            call = await self._call(head, body, correlation)
            async with aclosing(self._streams[head.method.path].stream(call)) as replies:
                async for reply in replies:
                    yield wire.item(await self._encoded(head, reply))
        except (ServiceError, Failure) as error:
            failure = self.failed(head.method, error, correlation)
        yield wire.end(failure)

    def observe(self, head: Head, code: str, seconds: float) -> None:
        """Counts a finished call; logs it if the caller sent its own correlation id."""
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
            family = metrics.latencies(
                "betting_gateway_request_seconds", "Duration of answered calls", ("method", "code")
            )
            series = self._series[(method.path, code)] = family.series(method.path, code)
        series.observe(seconds)

    def failed(self, method: Method, error: ServiceError | Failure, correlation: str) -> Failure:
        """The failure for the caller. It is logged, whoever made the correlation id."""
        failure = failure_of(error) if isinstance(error, ServiceError) else error
        log_failure(failure, method.path, correlation)
        return failure

    async def _call(self, head: Head, body: bytes, correlation: str) -> Call:
        wire, method = head.wire, head.method
        values = json_values(wire.payload(body)) if wire.json else 0
        if head.caller is None and values > _JSON_VALUES_ANONYMOUS:
            message = f"the JSON body has about {values} values, at most {_JSON_VALUES_ANONYMOUS} are read of callers"
            raise malformed("JSON_TOO_LARGE", f"{message} who are not signed in: send less at once")
        if values > _JSON_VALUES_INLINE:
            request: Any = await self._aside(head.holder, wire.request, method.request, body)
        else:
            request = wire.request(method.request, body)
        count = len(request.bets) if isinstance(request, bet_pb2.PlaceBetsRequest) else 1
        if head.own is not head.address:
            check(head.own, max(1, count), _what(method))
        payload = request.SerializeToString() if wire.json else wire.payload(body)
        return Call(
            method, request, payload, head.caller, head.timeout_s, correlation, head.source, bool(head.correlation)
        )

    async def _encoded(self, head: Head, reply: bytes) -> bytes:
        if head.wire.json and len(reply) > _REPLY_BYTES_INLINE:
            return await self._aside(head.holder, head.wire.encode, reply, head.method.reply)
        return head.wire.encode(reply, head.method.reply)

    async def _aside(self, holder: str | bytes, convert: Callable[..., T], *arguments: Any) -> T:
        """Converts large JSON in a separate thread: done in the main loop it would block all other calls.

        One at a time per holder: a client that sends much of it waits for its own conversions, others for one of them.
        """
        async with self._turns.of(holder):
            return await asyncio.get_running_loop().run_in_executor(self._converter, convert, *arguments)

    def _endpoint(self, method: Method) -> Endpoint:
        endpoint = self._endpoints.get(method.path)
        if endpoint is None:
            raise Failure(Code.UNIMPLEMENTED, "METHOD_UNKNOWN", f"{method.path} is not served here")
        return endpoint


def log_failure(failure: Failure, path: str, correlation: str) -> None:
    """Logs a failed request, once, so that its correlation id can be found."""
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


@contextmanager
def _held(places: ConcurrencyLimit, holder: str | bytes) -> Iterator[None]:
    places.take(holder)
    try:
        yield
    finally:
        places.give_back(holder)


def refusal(content_type: str, failure: Failure) -> HttpReply:
    """A failed call in the caller's protocol, or as Connect JSON where there is none or HTTP has a word for it."""
    if is_plain_grpc(content_type):
        return plain_grpc_failure(failure)
    wire = wire_of(content_type)
    by_http = failure.http_status is not None and (not isinstance(wire, GrpcWeb) or failure.http_status == _EXPECTATION)
    if wire is None or by_http:
        return connect_failure(failure)
    return wire.failure(failure)


def unexpected(error: Exception, path: str, correlation: str) -> Failure:
    """The answer for an unexpected error, without its details; the log has them."""
    _log.error("unexpected error", path=path, correlation_id=correlation, exc_info=error)
    message = f"internal error: repeat the request; if it fails again, report the correlation id {correlation}"
    failure = Failure(Code.INTERNAL, "INTERNAL", message)
    failure.logged = True
    return failure


def _what(method: Method) -> str:
    match method.rate_class:
        case RateClass.MONEY:
            return "bets, deposits and withdrawals"
        case RateClass.SIGN_IN:
            return "sign-ins from your address"
        case RateClass.READ:
            return "requests"
