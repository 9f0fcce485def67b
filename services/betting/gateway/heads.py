"""Reads and checks the head of a request: method, protocol, caller, deadline; and the rules of CORS.

Checked in this order. CORS follows the Fetch standard ("CORS protocol").
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from multidict import MultiMapping

from betting.gateway.authentication import Authenticator, Caller
from betting.gateway.limits import Bucket, Limiter, check
from betting.gateway.methods import Access, Method, RateClass
from betting.gateway.protocols.failures import Code, Failure
from betting.gateway.protocols.wires import (
    PLAIN_GRPC,
    StreamWire,
    UnaryWire,
    Wire,
    accepted_types,
    check_version,
    is_plain_grpc,
    wire_of,
)
from betting.gateway.settings import GatewaySettings
from betting.runtime.errors import ServiceError, permission_denied
from betting.runtime.networks import network_of
from betting.runtime.principal import Role

Headers = tuple[tuple[str, str], ...]

EXPOSED: Final = "grpc-status, grpc-message, grpc-status-details-bin, x-correlation-id, retry-after"
ALLOWED: Final = (
    "authorization, content-type, connect-protocol-version, connect-timeout-ms, grpc-timeout, x-grpc-web, "
    "x-user-agent, x-correlation-id, traceparent, tracestate, baggage, sentry-trace"
)
METHODS: Final = "GET, POST, OPTIONS"
MAX_AGE_S: Final = "7200"


class Cors:
    """origins: "*", or origins separated by commas; headers: names that may be sent besides ALLOWED, likewise.

    Credentials are never allowed: tokens travel in a header.
    """

    def __init__(self, origins: str = "*", headers: str = "") -> None:
        more = [name.strip().lower() for name in headers.split(",") if name.strip()]
        self._allowed_headers = ", ".join((ALLOWED, *more))
        listed = {origin.strip() for origin in origins.split(",") if origin.strip()}
        self._everybody = "*" in listed
        self._origins = listed

    def headers(self, origin: str | None) -> Headers:
        """What goes on every answer to a request from this origin."""
        if self._everybody:
            return (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", EXPOSED)) if origin else ()
        if origin is None or origin not in self._origins:
            return (("Vary", "Origin"),)
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, origin: str | None) -> Headers:
        """The headers that answer a CORS preflight (OPTIONS) request."""
        allowed = self.headers(origin)
        if not any(name == "Access-Control-Allow-Origin" for name, _ in allowed):
            return allowed
        return (
            *allowed,
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", self._allowed_headers),
            ("Access-Control-Max-Age", MAX_AGE_S),
        )


_CORRELATION: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SOURCE_LENGTH_MAX: Final = 64
_IDENTITY: Final = frozenset({"", "identity"})


@dataclass(slots=True)
class Head:
    """The head of a request that passed the checks.

    `correlation` is the caller's own id, or empty; `source` the client's address.
    """

    method: Method
    wire: Wire
    caller: Caller | None
    timeout_s: float
    correlation: str
    source: str
    cors: Headers
    address: Bucket
    own: Bucket  # the caller's bucket for this kind of call
    holder: str | bytes  # whose places it takes: a user's by id, or an address's

    @property
    def traced(self) -> bool:
        """Whether the caller sent its own correlation id, and so may look for it in the logs."""
        return bool(self.correlation)


class HeadReader:
    """Checks heads. Every refusal is a Failure."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        authenticator: Authenticator,
        limiter: Limiter,
        cors: Cors,
        settings: GatewaySettings,
    ) -> None:
        self._methods = methods
        self._authenticator = authenticator
        self._limiter = limiter
        self.cors = cors
        self._proxies = settings.trusted_proxies
        self._timeout_s = settings.request_timeout.total_seconds()
        self._timeout_max_s = settings.request_timeout_max.total_seconds()

    async def read(self, verb: str, path: str, headers: MultiMapping[str], peer: str) -> Head:
        """The head of a request; raises Failure or ServiceError."""
        source = self.source(headers, peer)
        address = self.admit(source)
        method = self._method(path)
        wire = _wire(verb, method, headers)
        timeout_s = self._timeout(method, wire, headers)
        caller = await self._caller(method, headers)
        own = self._own_bucket(method, caller, address)
        return Head(
            method=method,
            wire=wire,
            caller=caller,
            timeout_s=timeout_s,
            correlation=correlation_of(headers),
            source=source,
            cors=self.cors.headers(headers.get("Origin")),
            address=address,
            own=own,
            holder=network_of(source) if caller is None else caller.user_id,
        )

    def admit(self, source: str) -> Bucket:
        """Counts a request against its address; raises Failure RATE_LIMITED."""
        address = self._limiter.address(network_of(source))
        check(address, 1, "requests from your address")
        return address

    def source(self, headers: MultiMapping[str], peer: str) -> str:
        """The address limits count against, here and at log-in: the peer, or what the outermost trusted proxy saw."""
        if not self._proxies:
            return peer
        # All lines of it (RFC 9110, 5.3): some proxies add theirs as a line of its own behind the client's.
        lines = ",".join(headers.getall("X-Forwarded-For", ()))
        hops = [hop.strip() for hop in lines.split(",") if hop.strip()]
        seen = _without_port(hops[-self._proxies])[:_SOURCE_LENGTH_MAX] if len(hops) >= self._proxies else ""
        return seen if seen.isascii() and seen.isprintable() and seen else peer  # it goes on as a header of ours

    def _method(self, path: str) -> Method:
        method = self._methods.get(path)
        if method is None:
            message = "this path is no method of the platform: see / for the services there are"
            raise Failure(Code.UNIMPLEMENTED, "METHOD_UNKNOWN", message, http_status=404)
        return method

    def _timeout(self, method: Method, wire: Wire, headers: Mapping[str, str]) -> float:
        asked_s = wire.timeout_s(headers.get(wire.timeout_header))
        if asked_s is None:
            return float("inf") if method.streams else self._timeout_s
        return asked_s if method.streams else min(asked_s, self._timeout_max_s)

    async def _caller(self, method: Method, headers: Mapping[str, str]) -> Caller | None:
        if method.access is Access.OPEN:
            return None
        caller = await self._authenticator.caller(headers.get("Authorization"))
        if method.access is Access.OPERATOR and caller.role is not Role.OPERATOR:
            message = "this call is for operators: log in as one with betting.v1.UserService/OperatorLogin"
            raise permission_denied("ROLE_REQUIRED", message)
        return caller

    def _own_bucket(self, method: Method, caller: Caller | None, address: Bucket) -> Bucket:
        if caller is not None:
            return caller.money if method.rate_class is RateClass.MONEY else caller.reads
        if method.rate_class is RateClass.SIGN_IN:
            return self._limiter.sign_ins(address.key)
        return address


class Correlations:
    """Generates correlation ids: a random prefix of the process and a counter."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._counter = itertools.count(1)

    def new(self) -> str:
        """An id for a request without one."""
        return f"{self._prefix}-{next(self._counter):x}"


def correlation_of(headers: Mapping[str, str]) -> str:
    """The caller's own correlation id, if it is safe in logs and headers."""
    given = headers.get("x-correlation-id", "")
    return given if _CORRELATION.fullmatch(given) else ""


def failure_of(error: ServiceError) -> Failure:
    """The error of a service as a Failure."""
    return Failure(Code(error.code.value[0]), error.reason, error.message)


def _without_port(hop: str) -> str:
    """The address of a hop: some proxies write a port behind it, others brackets around one of IPv6."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _wire(verb: str, method: Method, headers: Mapping[str, str]) -> Wire:
    if verb != "POST":
        message = f"{method.path} is called with POST"
        raise Failure(Code.UNIMPLEMENTED, "VERB", message, http_status=405, headers=(("Allow", "POST, OPTIONS"),))
    given = headers.get("Content-Type", "")
    wire = wire_of(given)
    if wire is None or not isinstance(wire, StreamWire if method.streams else UnaryWire):
        raise _foreign_type(method, given)
    if wire.timeout_header == "connect-timeout-ms":
        check_version(headers.get("Connect-Protocol-Version"))
    for name in ("Content-Encoding", "grpc-encoding", "Connect-Content-Encoding"):
        if headers.get(name, "").strip().lower() not in _IDENTITY:
            raise Failure(
                Code.UNIMPLEMENTED,
                "COMPRESSION_UNSUPPORTED",
                f"{name} is not taken here: send the body uncompressed (identity)",
            )
    return wire


def _foreign_type(method: Method, given: str) -> Failure:
    accepted = ", ".join(accepted_types(streams=method.streams))
    gives = "gives a stream of replies" if method.streams else "gives one reply"
    shown = f"Content-Type {given[:80]!r} is" if given else "no Content-Type is"
    message = f"{shown} no type that {method.path} takes, which {gives}: use one of {accepted}"
    if is_plain_grpc(given):
        message = PLAIN_GRPC
    return Failure(Code.UNIMPLEMENTED, "CONTENT_TYPE", message, http_status=415, headers=(("Accept-Post", accepted),))
