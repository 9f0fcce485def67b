"""From gRPC's errors to ours: the only place that reads an AioRpcError."""

from __future__ import annotations

import grpc

from betting.runtime import errors
from betting.runtime.errors import DETAILS_KEY, ServiceError

_SENTENCES = {
    grpc.StatusCode.UNAVAILABLE: "{} cannot be reached: try again later",
    grpc.StatusCode.DEADLINE_EXCEEDED: "{} did not answer in time, whether it did anything is not known: ask again",
    grpc.StatusCode.UNIMPLEMENTED: "{} does not know this method: it may be of an older release",
    grpc.StatusCode.CANCELLED: "{} ended the call: ask again",
}


def translated(error: grpc.aio.AioRpcError, target: str) -> ServiceError:
    """The remote's own code, reason and message if it sent a reason of ours; otherwise the code and a sentence of ours.

    Texts of gRPC's core name addresses and sockets, so they are not handed on.
    """
    code = error.code()
    reason = errors.decode_reason(_details(error))
    if reason is not None:
        return ServiceError(code, reason, error.details() or "")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
        return ServiceError(
            code, "MESSAGE_TOO_LARGE", f"the message to or from {target} is too large: send less at once"
        )
    return ServiceError(code, code.name, _SENTENCES.get(code, "{} failed: ask again").format(target))


def closed(target: str) -> ServiceError:
    """The channel was closed under the call: this process is stopping."""
    return errors.unavailable("CHANNEL_CLOSED", f"the connection to {target} is closed: this process is stopping")


def _details(error: grpc.aio.AioRpcError) -> bytes | str | None:
    return next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
