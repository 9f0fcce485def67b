"""Rows of the catalogue as messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from betting.events import transitions
from betting.v1 import event_pb2

Row = Mapping[str, Any]


def market(row: Row, now_us: int) -> event_pb2.Market:
    """A market as it is to be shown now."""
    return event_pb2.Market(
        market_id=row["market_id"],
        event_id=row["event_id"],
        kind=row["kind"],
        line_quarters=row["line_quarters"],
        status=transitions.shown_market(row["status"], row["closes_at_us"], now_us),  # type: ignore[arg-type]
        selections=[
            event_pb2.Selection(selection_id=id_, name=name)
            for id_, name in zip(row["selection_ids"], row["selection_names"], strict=True)
        ],
        closes_at_us=row["closes_at_us"],
    )


def event(row: Row, markets: Iterable[event_pb2.Market]) -> event_pb2.Event:
    """An event with its markets."""
    return event_pb2.Event(
        event_id=row["event_id"],
        league_id=row["league_id"],
        home=row["home"],
        away=row["away"],
        starts_at_us=row["starts_at_us"],
        status=row["status"],
        home_goals=row["home_goals"],
        away_goals=row["away_goals"],
        markets=markets,
    )
