"""What an upsert changes, given what is stored. Pure.

Names and times may be corrected while an event is scheduled; what bets hang on (an event's league, a market's event,
kind, line and selections) never changes. Statuses are not upserted: a repeated upsert must not undo a start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from betting.events import transitions, words
from betting.runtime.errors import ServiceError, failed_precondition
from betting.v1 import event_pb2

Row = Mapping[str, Any]


class EventRow(NamedTuple):
    """A row of events.events to write."""

    event_id: int
    league_id: str
    home: str
    away: str
    starts_at_us: int
    status: int
    search_text: str


class MarketRow(NamedTuple):
    """A row of events.markets to write."""

    market_id: int
    event_id: int
    kind: int
    line_quarters: int
    status: int
    closes_at_us: int
    selection_ids: list[int]
    selection_names: list[str]


def of_events(events: Iterable[event_pb2.Event], stored: Mapping[int, Row]) -> list[EventRow]:
    """The events that are new or differ. Raises FAILED_PRECONDITION."""
    rows = []
    for event in events:
        row, before = _event_row(event), stored.get(event.event_id)
        if before is None:
            rows.append(row)
            continue
        if before["league_id"] != row.league_id:
            raise _fixed(f"event {row.event_id}", "league_id", before["league_id"], row.league_id)
        if (before["home"], before["away"], before["starts_at_us"]) != (row.home, row.away, row.starts_at_us):
            if before["status"] != transitions.SCHEDULED:
                raise failed_precondition(
                    "EVENT_NOT_SCHEDULED",
                    f"event {row.event_id} has started: its teams and start are fixed",
                )
            rows.append(row._replace(status=before["status"]))
    return rows


def of_markets(
    events: Iterable[event_pb2.Event], stored: Mapping[int, Row], event_rows: Mapping[int, Row], now_us: int
) -> list[MarketRow]:
    """The markets that are new or differ; `event_rows` are the events as stored before. Raises FAILED_PRECONDITION."""
    rows = []
    for event in events:
        for market in event.markets:
            row, before = _market_row(event.event_id, market), stored.get(market.market_id)
            if before is None:
                _check_takes_markets(event_rows.get(event.event_id), row)
                rows.append(row)
            elif _differs(before, row, now_us):
                rows.append(row._replace(status=before["status"]))
    return rows


def _differs(before: Row, row: MarketRow, now_us: int) -> bool:
    what = f"market {row.market_id}"
    for field in ("event_id", "kind", "line_quarters"):
        if before[field] != getattr(row, field):
            raise _fixed(what, field, before[field], getattr(row, field))
    if sorted(before["selection_ids"]) != sorted(row.selection_ids):
        raise _fixed(what, "selections", before["selection_ids"], row.selection_ids)
    same = ("closes_at_us", "selection_ids", "selection_names")
    if all(before[field] == getattr(row, field) for field in same):
        return False
    if transitions.shown_market(before["status"], before["closes_at_us"], now_us) not in _LIVE:
        raise failed_precondition(
            "MARKET_NOT_OPEN", f"{what} is closed: its closing time and selections cannot change any more"
        )
    return True


_LIVE = frozenset({transitions.OPEN, transitions.SUSPENDED})


def _check_takes_markets(event: Row | None, row: MarketRow) -> None:
    if event is not None and event["status"] != transitions.SCHEDULED:
        raise failed_precondition(
            "EVENT_NOT_SCHEDULED", f"event {row.event_id} has started: market {row.market_id} cannot be added any more"
        )


def _event_row(event: event_pb2.Event) -> EventRow:
    search_text = words.folded(f"{event.home} {event.away}")
    return EventRow(
        event.event_id, event.league_id, event.home, event.away, event.starts_at_us, transitions.SCHEDULED, search_text
    )


def _market_row(event_id: int, market: event_pb2.Market) -> MarketRow:
    return MarketRow(
        market.market_id,
        event_id,
        market.kind,
        market.line_quarters,
        market.status or transitions.OPEN,
        market.closes_at_us,
        [selection.selection_id for selection in market.selections],
        [selection.name for selection in market.selections],
    )


def _fixed(what: str, field: str, before: object, after: object) -> ServiceError:
    return failed_precondition(
        "IMMUTABLE_FIELD", f"{what}: {field} is {before} and cannot become {after}; make it under a new id"
    )
