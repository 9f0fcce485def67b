"""The prices of one event as its watchers see them: a snapshot, then deltas in sequence. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict

from betting.gateway.live import frames
from betting.gateway.live.frames import Outgoing
from betting.v1.odds_pb2 import MarketPrices

UPDATE = "odds:update"


class Room:
    """Counts its own updates. A snapshot carries where it stands; each delta is one more than what came before."""

    def __init__(self, event_id: int, markets: Iterable[MarketPrices], *, stale: bool) -> None:
        self.event_id = event_id
        self._markets = {each.market_id: each for each in markets}
        self._stale = stale
        self._sequence = 0
        self._snapshot: Outgoing | None = None

    def replace(self, markets: Iterable[MarketPrices]) -> Outgoing | None:
        """Everything anew, and fresh. What to tell; None: nothing has changed."""
        before, self._markets = self._markets, {each.market_id: each for each in markets}
        if before == self._markets and not self._stale:
            return None
        self._stale = False
        self._next()
        return self.snapshot()

    def change(self, markets: Iterable[MarketPrices]) -> Outgoing:
        """Some markets anew."""
        changed = list(markets)
        self._markets.update((each.market_id, each) for each in changed)
        self._next()
        return self._message("delta", changed)

    def grow_stale(self) -> Outgoing | None:
        """Nobody knows whether these are still the prices. None: that has been told."""
        if self._stale:
            return None
        self._stale = True
        self._next()
        return self._message("delta", ())

    def snapshot(self) -> Outgoing:
        """Everything; made once for all who ask before the next change."""
        if self._snapshot is None:
            self._snapshot = self._message("snapshot", self._markets.values())
        return self._snapshot

    def _next(self) -> None:
        self._sequence += 1
        self._snapshot = None

    def _message(self, kind: str, markets: Iterable[MarketPrices]) -> Outgoing:
        data = {
            "eventId": str(self.event_id),
            "kind": kind,
            "sequence": self._sequence,
            "stale": self._stale,
            "markets": [_market(each) for each in markets],
        }
        return frames.event(UPDATE, data)


def _market(prices: MarketPrices) -> dict[str, Any]:
    """As OddsService gives it in JSON."""
    return MessageToDict(prices)
