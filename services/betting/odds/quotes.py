"""The values of odds-service (quote, offer, publication, producer) and their wire form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from betting.v1 import event_pb2, odds_pb2

OPEN = int(event_pb2.MARKET_STATUS_OPEN)
SUSPENDED = int(event_pb2.MARKET_STATUS_SUSPENDED)
CLOSED = int(event_pb2.MARKET_STATUS_CLOSED)
RESULTED = int(event_pb2.MARKET_STATUS_RESULTED)
VOID = int(event_pb2.MARKET_STATUS_VOID)

# A market in play between feed and bettor; the others are over.
LIVE = frozenset({OPEN, SUSPENDED})
# Its bets are, or are being, paid: prices mean nothing any more.
FINAL = frozenset({RESULTED, VOID})


class SelectionPrice(NamedTuple):
    """One selection's price: profit per unit staked as a fraction."""

    selection_id: int
    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Quote:
    """One version of a market's prices. Times are microseconds since 1970."""

    market_id: int
    event_id: int
    status: int
    version: int
    closes_at_us: int
    prices: tuple[SelectionPrice, ...]
    changed_at_us: int
    producer_id: str
    stale: bool

    def to_proto(self) -> odds_pb2.MarketPrices:
        """The wire form."""
        message = odds_pb2.MarketPrices(
            market_id=self.market_id,
            event_id=self.event_id,
            status=self.status,  # type: ignore[arg-type]
            version=self.version,
            closes_at_us=self.closes_at_us,
            changed_at_us=self.changed_at_us,
            producer_id=self.producer_id,
            stale=self.stale,
        )
        for selection_id, numerator, denominator in self.prices:
            offered = message.prices.add(selection_id=selection_id)
            offered.price.numerator = numerator
            offered.price.denominator = denominator
        return message


@dataclass(frozen=True, slots=True)
class Offer:
    """One market from its producer; no prices means that they are unchanged."""

    market_id: int
    event_id: int
    status: int
    closes_at_us: int
    prices: tuple[SelectionPrice, ...]


@dataclass(frozen=True, slots=True)
class Publication:
    """The content of one call of a producer. `snapshot`: the offers are all it has; `term`: 0 when not elected."""

    producer_id: str
    producer_name: str
    offers: tuple[Offer, ...]
    snapshot: bool
    term: int = 0


ALIVE = int(odds_pb2.PRODUCER_STATUS_ALIVE)
SILENT = int(odds_pb2.PRODUCER_STATUS_SILENT)
RECOVERING = int(odds_pb2.PRODUCER_STATUS_RECOVERING)


@dataclass(frozen=True, slots=True)
class Producer:
    """A feed. `wants_snapshot`: what we know of it may have holes until its next snapshot. `term`: its highest."""

    producer_id: str
    name: str
    status: int
    last_alive_at_us: int
    wants_snapshot: bool
    term: int = 0

    def to_proto(self, markets: int) -> odds_pb2.Producer:
        """The wire form; `markets` is how many of its markets are open or suspended."""
        return odds_pb2.Producer(
            producer_id=self.producer_id,
            name=self.name,
            status=self.status,  # type: ignore[arg-type]
            last_alive_at_us=self.last_alive_at_us,
            markets=markets,
        )


def to_protos(quotes: Iterable[Quote]) -> list[odds_pb2.MarketPrices]:
    """The wire form of several."""
    return [quote.to_proto() for quote in quotes]
