"""A refusal as a status, for calls whose reply has no place for one."""

from __future__ import annotations

import grpc

from betting.engine.refusals import Refusal, is_final
from betting.runtime.errors import ServiceError
from betting.v1 import common_pb2


def error_of(refusal: common_pb2.Refusal) -> ServiceError:
    """Its reason is the refusal's name."""
    known = Refusal(refusal.code)
    return ServiceError(_status_code(known), known.name, refusal.message)


def is_transient(refusal: common_pb2.Refusal) -> bool:
    """Whether the same request, with the same key, may get another answer later."""
    return _status_code(Refusal(refusal.code)) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


def _status_code(refusal: Refusal) -> grpc.StatusCode:
    if refusal in (Refusal.OVERLOADED, Refusal.RATE_LIMITED):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if refusal in (Refusal.KEY_EXPIRED, Refusal.KEY_IN_FUTURE, Refusal.KEY_REUSED):
        return grpc.StatusCode.FAILED_PRECONDITION
    return grpc.StatusCode.FAILED_PRECONDITION if is_final(refusal) else grpc.StatusCode.UNAVAILABLE
