"""The errors that cross a boundary, and how they look on the wire.

    Exception
    ├── ServiceError         an answer: a gRPC code, a stable reason for programs, a sentence for people
    └── ConfigurationError   the process cannot start as it is configured (exit code 2)

On the wire a ServiceError is a gRPC status whose details carry one google.rpc.ErrorInfo (reason, domain).
"""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from betting.life import Life

DOMAIN = "selfhealing.bet"
DETAILS_KEY = "grpc-status-details-bin"
MESSAGE_LENGTH_MAX = 1024

# An owner's answer to a read of something settled that the read models do not hold yet: the router asks again.
READ_MODEL_BEHIND = "READ_MODEL_BEHIND"

_SHOWN_CHARACTERS = 40

_CODE_BY_NUMBER = {int(code.value[0]): code for code in grpc.StatusCode}


class ServiceError(Exception):
    """An answer that is not the one asked for.

    `reason` is UPPER_CASE and stable: programs branch on it. `message` says what was wrong with which input and what to
    do; it may be shown to the caller, so it never carries another user's data or an inner error's text. `life`: which
    process answered so, if another one did and named itself; never sent on.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, life: Life | None = None) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message
        self.life = life

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason}: {self.message}"


class ConfigurationError(Exception):
    """The process cannot start: the message names the variable, never its value."""


def invalid_argument(reason: str, message: str) -> ServiceError:
    """The request is invalid, whatever the state of the system."""
    return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, reason, message)


def not_found(reason: str, message: str) -> ServiceError:
    """What was named does not exist, or not for this caller."""
    return ServiceError(grpc.StatusCode.NOT_FOUND, reason, message)


def already_exists(reason: str, message: str) -> ServiceError:
    """What was to be created exists."""
    return ServiceError(grpc.StatusCode.ALREADY_EXISTS, reason, message)


def unauthenticated(reason: str, message: str) -> ServiceError:
    """The caller has no valid credentials: log in again."""
    return ServiceError(grpc.StatusCode.UNAUTHENTICATED, reason, message)


def permission_denied(reason: str, message: str) -> ServiceError:
    """The caller is authenticated but not allowed: do not retry."""
    return ServiceError(grpc.StatusCode.PERMISSION_DENIED, reason, message)


def failed_precondition(reason: str, message: str) -> ServiceError:
    """The state of the system does not allow this now: something else must change first."""
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


def aborted(reason: str, message: str) -> ServiceError:
    """Lost to a concurrent change: read again, then retry."""
    return ServiceError(grpc.StatusCode.ABORTED, reason, message)


def resource_exhausted(reason: str, message: str) -> ServiceError:
    """Over a limit: slow down or send less."""
    return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message)


def unavailable(reason: str, message: str) -> ServiceError:
    """Not available now: an idempotent request may be sent again."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, reason, message)


def deadline_exceeded(reason: str, message: str) -> ServiceError:
    """The deadline passed. It is not known whether the request took effect."""
    return ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, reason, message)


def internal(reason: str, message: str) -> ServiceError:
    """A bug or failure of the platform. The message is shown to callers: it must not contain the text of the cause."""
    return ServiceError(grpc.StatusCode.INTERNAL, reason, message)


def shown(text: str) -> str:
    """A piece of the caller's own input for a message: quoted, printable ASCII, at most 40 characters of it."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…") if text else "missing"


def bounded_message(error: ServiceError) -> str:
    """The message, cut so that it fits into a header frame."""
    return error.message[:MESSAGE_LENGTH_MAX]


def encode_details(error: ServiceError) -> bytes:
    """A serialized google.rpc.Status with one ErrorInfo: what the trailing metadata `grpc-status-details-bin` holds."""
    status = status_pb2.Status(code=error.code.value[0], message=bounded_message(error))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    return bytes(status.SerializeToString())


def decode_reason(details: bytes | str | None) -> str | None:
    """The ErrorInfo's reason of our domain, or None when there is none to be read."""
    if not isinstance(details, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(details)
        infos = [_unpacked(entry) for entry in status.details if entry.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    except DecodeError:
        return None
    return next((info.reason for info in infos if info.domain == DOMAIN and info.reason), None)


def _unpacked(entry: object) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    entry.Unpack(info)  # type: ignore[attr-defined]
    return info


def code_from_number(number: int) -> grpc.StatusCode:
    """The status code of a google.rpc.Code number; UNKNOWN for a number nobody has defined."""
    return _CODE_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)
