"""What goes back to a caller instead of a message, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass

from google.rpc import error_details_pb2

from betting.gateway.protocols.codes import Code

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
