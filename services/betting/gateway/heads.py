"""What a request says before its body: which method in which protocol, who asks, until when. Checked in this order."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from betting.gateway.authentication import Authenticator
from betting.gateway.callers import Caller
from betting.gateway.cors import Cors, Headers
from betting.gateway.limiter import Limiter, check
from betting.gateway.limits import Bucket
from betting.gateway.methods import Access, Lane, Method
from betting.gateway.protocols import connect
from betting.gateway.protocols.codes import Code
from betting.gateway.protocols.failures import Failure
from betting.gateway.protocols.wires import ACCEPT_POST, StreamWire, UnaryWire, Wire, wire_of
from betting.gateway.settings import GatewaySettings
from betting.runtime.errors import ServiceError, permission_denied
from betting.runtime.principal import Role

_CORRELATION: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SOURCE_LENGTH_MAX: Final = 64
_IDENTITY: Final = frozenset({"", "identity"})


@dataclass(slots=True)
class Head:
    """A request that may go on. `correlation` is the caller's own id, or empty; `source` the address it came from."""

    method: Method
    wire: Wire
    caller: Caller | None
    timeout_s: float
    correlation: str
    source: str
    cors: Headers
    address: Bucket
    own: Bucket  # the caller's bucket for this kind of call

    @property
    def traced(self) -> bool:
        """Whether the caller named a correlation id: it may look for the request in the logs."""
        return bool(self.correlation)


class HeadReader:
    """Checks heads. Everything it refuses, it refuses with a Failure."""

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

    async def read(self, verb: str, path: str, headers: Mapping[str, str], peer: str) -> Head:
        """The head of a request; raises Failure or ServiceError."""
        source = self._source(headers, peer)
        address = self._limiter.address(source)
        check(address, 1, "requests from your address")
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
        )

    def _source(self, headers: Mapping[str, str], peer: str) -> str:
        """The address limits count against, here and at log-in: the peer, or what the outermost trusted proxy saw."""
        if not self._proxies:
            return peer
        hops = [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
        seen = hops[-self._proxies][:_SOURCE_LENGTH_MAX] if len(hops) >= self._proxies else ""
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
            raise permission_denied("ROLE_REQUIRED", "this call is for operators: log in as one")
        return caller

    def _own_bucket(self, method: Method, caller: Caller | None, address: Bucket) -> Bucket:
        if caller is not None:
            return caller.money if method.lane is Lane.MONEY else caller.reads
        if method.lane is Lane.SIGN_IN:
            return self._limiter.sign_ins(address.key)
        return address


class Correlations:
    """New correlation ids: unique by the process's random prefix, cheap by counting."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._counter = itertools.count(1)

    def new(self) -> str:
        """An id for a request that brought none."""
        return f"{self._prefix}-{next(self._counter):x}"


def correlation_of(headers: Mapping[str, str]) -> str:
    """The caller's own correlation id, if it is one that can go into logs and headers as it is."""
    given = headers.get("x-correlation-id", "")
    return given if _CORRELATION.fullmatch(given) else ""


def failure_of(error: ServiceError) -> Failure:
    """A service's answer as the protocols carry it."""
    return Failure(Code(error.code.value[0]), error.reason, error.message)


def _wire(verb: str, method: Method, headers: Mapping[str, str]) -> Wire:
    if verb != "POST":
        message = f"{method.path} is called with POST"
        raise Failure(Code.UNIMPLEMENTED, "VERB", message, http_status=405, headers=(("Allow", "POST, OPTIONS"),))
    wire = wire_of(headers.get("Content-Type"))
    if wire is None or not isinstance(wire, StreamWire if method.streams else UnaryWire):
        kind = "a stream" if method.streams else "one reply"
        message = f"Content-Type does not name a protocol of this method, which gives {kind}: use one of {ACCEPT_POST}"
        accept = (("Accept-Post", ACCEPT_POST),)
        raise Failure(Code.UNIMPLEMENTED, "CONTENT_TYPE", message, http_status=415, headers=accept)
    if wire.timeout_header == "connect-timeout-ms":
        connect.check_version(headers.get("Connect-Protocol-Version"))
    for name in ("Content-Encoding", "grpc-encoding", "Connect-Content-Encoding"):
        if headers.get(name, "").strip().lower() not in _IDENTITY:
            raise Failure(
                Code.UNIMPLEMENTED,
                "COMPRESSION_UNSUPPORTED",
                f"{name} is not taken here: send the body uncompressed (identity)",
            )
    return wire
