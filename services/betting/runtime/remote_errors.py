"""From gRPC's errors to ours: the only place that reads an AioRpcError."""

from __future__ import annotations

import grpc

from betting import life
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
    reason = errors.decode_reason(_trailing(error, DETAILS_KEY))
    named = life.named(_trailing(error, life.METADATA_KEY))
    if reason is not None:
        return ServiceError(code, reason, error.details() or "", named)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
        return ServiceError(
            code, "MESSAGE_TOO_LARGE", f"the message to or from {target} is too large: send less at once"
        )
    return ServiceError(code, code.name, _SENTENCES.get(code, "{} failed: ask again").format(target), named)


def closed(target: str) -> ServiceError:
    """The channel was closed under the call: this process is stopping."""
    return errors.unavailable("CHANNEL_CLOSED", f"the connection to {target} is closed: this process is stopping")


def _trailing(error: grpc.aio.AioRpcError, key: str) -> bytes | str | None:
    return next((value for name, value in error.trailing_metadata() or () if name == key), None)
