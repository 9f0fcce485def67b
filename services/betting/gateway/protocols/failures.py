"""What goes back to a caller instead of a message, whatever the protocol: status codes and failures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from google.rpc import error_details_pb2


class Code(IntEnum):
    """gRPC status codes (grpc/doc/statuscodes.md); Connect shares them under lower-case names."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# connectrpc.com/docs/protocol, "Error codes".
CONNECT_HTTP_STATUS: dict[Code, int] = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def connect_name(code: Code) -> str:
    """The code as Connect writes it; only "canceled" is spelt its own way."""
    return "canceled" if code is Code.CANCELLED else code.name.lower()


DOMAIN = "selfhealing.bet"
ERROR_INFO = "google.rpc.ErrorInfo"


@dataclass(frozen=True, slots=True)
class Detail:
    """One packed error detail: the full name of its message and its serialized form."""

    type_name: str
    value: bytes


class Failure(Exception):
    """A status for the caller.

    code: what kind; message: one sentence for a person; reason: stable, upper case, sent as google.rpc.ErrorInfo;
    details: packed details that came from a service and are handed on untouched;
    http_status: overrides the status a Connect unary call answers with (404, 405, 413, 415).
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        message: str,
        *,
        details: tuple[Detail, ...] = (),
        http_status: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or _error_info(reason)
        self.http_status = http_status
        self.headers = headers
        self.logged = False  # each failure is logged once, wherever it is seen first

    def __repr__(self) -> str:
        return f"Failure({self.code.name}, {self.reason!r}, {self.message!r})"


def malformed(reason: str, message: str) -> Failure:
    """A request that cannot be read: INVALID_ARGUMENT."""
    return Failure(Code.INVALID_ARGUMENT, reason, message)


def _error_info(reason: str) -> tuple[Detail, ...]:
    if not reason:
        return ()
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    return (Detail(ERROR_INFO, info.SerializeToString()),)
