"""What belongs to the request being served, carried through awaits: correlation id, deadline, caller.

The server sets these for each request, which runs in a task of its own; the client reads them. A task started inside a
request inherits them: work that shall outlive the request starts inside `detached()`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

CORRELATION_KEY = "x-correlation-id"
CORRELATION_LENGTH_MAX = 64
SOURCE_KEY = "x-betting-source"

# Follows a request through every service's log; empty outside a request.
correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
# When the caller stops waiting, on the scale of time.monotonic(), in seconds; None: nobody waits.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
# The network address of the person behind a request, as the gateway saw it: set there, sent on with calls to services.
source: ContextVar[str] = ContextVar("source", default="")
# The signed principal that came with the request, as received and verified; see principal.py.
principal_token: ContextVar[bytes | None] = ContextVar("principal_token", default=None)


def remaining_s() -> float | None:
    """Seconds until the current request's deadline (zero or less once it has passed); None without a deadline."""
    end = deadline.get()
    return None if end is None else end - time.monotonic()


@contextlib.contextmanager
def bound(*, correlation: str | None = None, timeout_s: float | None = None) -> Iterator[None]:
    """Sets correlation id and deadline for a piece of work that did not come through the server."""
    tokens = [(correlation_id, correlation_id.set(correlation))] if correlation is not None else []
    end = deadline.set(time.monotonic() + timeout_s) if timeout_s is not None else None
    try:
        yield
    finally:
        if end is not None:
            deadline.reset(end)
        for variable, token in tokens:
            variable.reset(token)


@contextlib.contextmanager
def detached() -> Iterator[None]:
    """Drops the deadline and the caller, keeps the correlation id: for tasks that outlive the request they start in."""
    end = deadline.set(None)
    token = principal_token.set(None)
    try:
        yield
    finally:
        principal_token.reset(token)
        deadline.reset(end)
