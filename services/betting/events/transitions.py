"""Which status may follow which. Pure; a step to the status something has already is no step and always allowed."""

from __future__ import annotations

from betting.runtime.errors import ServiceError, failed_precondition
from betting.v1 import event_pb2
from betting.v1.event_pb2 import EventStatus, MarketStatus

SCHEDULED = int(event_pb2.EVENT_STATUS_SCHEDULED)
STARTED = int(event_pb2.EVENT_STATUS_STARTED)
FINISHED = int(event_pb2.EVENT_STATUS_FINISHED)
ABANDONED = int(event_pb2.EVENT_STATUS_ABANDONED)

OPEN = int(event_pb2.MARKET_STATUS_OPEN)
SUSPENDED = int(event_pb2.MARKET_STATUS_SUSPENDED)
CLOSED = int(event_pb2.MARKET_STATUS_CLOSED)
RESULTED = int(event_pb2.MARKET_STATUS_RESULTED)
VOID = int(event_pb2.MARKET_STATUS_VOID)

# A finished event may get another score (a correction, which settles anew); nothing undoes a start or an end.
EVENT_STEPS: dict[int, frozenset[int]] = {
    SCHEDULED: frozenset({STARTED, ABANDONED}),
    STARTED: frozenset({FINISHED, ABANDONED}),
    FINISHED: frozenset({FINISHED}),
    ABANDONED: frozenset(),
}

# Closed is for good; a result needs a closed market; a correction may turn a result into a void and back.
MARKET_STEPS: dict[int, frozenset[int]] = {
    OPEN: frozenset({SUSPENDED, CLOSED, VOID}),
    SUSPENDED: frozenset({OPEN, CLOSED, VOID}),
    CLOSED: frozenset({RESULTED, VOID}),
    RESULTED: frozenset({VOID}),
    VOID: frozenset({RESULTED}),
}


def check_event(event_id: int, before: int, after: int) -> None:
    """Raises FAILED_PRECONDITION EVENT_TRANSITION unless an event may go from `before` to `after`."""
    if before != after and after not in EVENT_STEPS[before]:
        raise _refused("EVENT", f"event {event_id}", before, after, EVENT_STEPS, EventStatus)


def check_market(market_id: int, before: int, after: int) -> None:
    """Raises FAILED_PRECONDITION MARKET_TRANSITION unless a market may go from `before` to `after`."""
    if before != after and after not in MARKET_STEPS[before]:
        raise _refused("MARKET", f"market {market_id}", before, after, MARKET_STEPS, MarketStatus)


def shown_market(status: int, closes_at_us: int, now_us: int) -> int:
    """The status to show and to judge by: past its closing time a market is closed, whatever was stored."""
    return CLOSED if status in {OPEN, SUSPENDED} and closes_at_us <= now_us else status


def _refused(
    kind: str,
    what: str,
    before: int,
    after: int,
    steps: dict[int, frozenset[int]],
    names: type[EventStatus] | type[MarketStatus],
) -> ServiceError:
    now, wanted = _word(kind, names, before), _word(kind, names, after)
    allowed = ", ".join(_word(kind, names, status) for status in sorted(steps[before])) or "nothing else"
    return failed_precondition(
        f"{kind}_TRANSITION",
        f"{what} is {now} and cannot become {wanted}: it can become {allowed}",
    )


def _word(kind: str, names: type[EventStatus] | type[MarketStatus], status: int) -> str:
    return names.Name(status).removeprefix(f"{kind}_STATUS_").lower()
