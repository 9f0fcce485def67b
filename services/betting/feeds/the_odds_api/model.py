"""What the source says, once read: sports, events with markets, scores, credits, and what had to be skipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from betting.feeds.decimals import Odds
from betting.v1 import event_pb2

_RESULT = int(event_pb2.MARKET_KIND_MATCH_RESULT)
_HANDICAP = int(event_pb2.MARKET_KIND_ASIAN_HANDICAP)


class Skip(NamedTuple):
    """A part of an answer that was left out, and why, as text for people."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class SourceMarket:
    """One bookmaker's complete offer. Prices are in the order of selection ids; `as_of_us` is when they were seen."""

    kind: int
    line_quarters: int
    bookmaker: str
    as_of_us: int
    prices: tuple[Odds, ...]


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event with the markets that can be offered."""

    source_id: str
    sport_key: str
    league: str
    home: str
    away: str
    starts_at_us: int
    markets: tuple[SourceMarket, ...]


@dataclass(frozen=True, slots=True)
class SourceScore:
    """How an event ended, and when it began according to the same answer (microseconds since 1970)."""

    source_id: str
    home: str
    away: str
    starts_at_us: int
    home_goals: int
    away_goals: int


def turned(event: SourceEvent) -> SourceEvent:
    """The same event with the sides in the other order: selections keep the meaning of their bets."""
    markets = tuple(_turned(market) for market in event.markets)
    return replace(event, home=event.away, away=event.home, markets=markets)


def _turned(market: SourceMarket) -> SourceMarket:
    if market.kind == _RESULT:
        return replace(market, prices=market.prices[::-1])
    if market.kind == _HANDICAP:
        return replace(market, prices=market.prices[::-1], line_quarters=-market.line_quarters)
    return market
