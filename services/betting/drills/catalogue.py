"""The open markets and their prices, as a bettor's app keeps them."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from betting.drills.connect import CallFailed, ConnectClient

REFRESH_S = 1.0
TIMEOUT_S = 3.0
EVENTS_MAX = 40


@dataclass(frozen=True)
class Leg:
    """A selection at the price seen. closes_at_us: when its market takes no more bets, at the kick-off."""

    market_id: int
    selection_id: int
    numerator: int
    denominator: int
    closes_at_us: int

    def as_json(self) -> dict[str, Any]:
        """A betting.v1.Leg."""
        price = {"numerator": self.numerator, "denominator": self.denominator}
        return {"marketId": str(self.market_id), "selectionId": self.selection_id, "price": price}


class Catalogue:
    """Refreshes itself every second while it can; while it cannot, bets go on at the prices last seen."""

    def __init__(self, client: ConnectClient) -> None:
        self._client = client
        self._legs: dict[int, list[Leg]] = {}

    @property
    def events(self) -> int:
        """Events with something to bet on."""
        return len(self._legs)

    def pick(self, draw: random.Random, legs: int) -> list[Leg]:
        """Selections of so many different events, or of as many as there are."""
        events = draw.sample(sorted(self._legs), min(legs, len(self._legs)))
        return [draw.choice(self._legs[event]) for event in events]

    async def keep_fresh(self) -> None:
        """Runs until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Asks once; what was known stays when there is no answer."""
        try:
            markets = await self._open_markets()
            self._legs = await self._prices(markets) if markets else {}
        except CallFailed:
            return

    async def _open_markets(self) -> list[str]:
        request = {"status": "EVENT_STATUS_SCHEDULED", "pageSize": EVENTS_MAX}
        reply = await self._client.call("betting.v1.EventService/ListEvents", request, timeout_s=TIMEOUT_S)
        markets = [market for event in reply.get("events", []) for market in event.get("markets", [])]
        return [each["marketId"] for each in markets if each.get("status") == "MARKET_STATUS_OPEN"]

    async def _prices(self, markets: list[str]) -> dict[int, list[Leg]]:
        request = {"marketIds": markets[:500]}
        reply = await self._client.call("betting.v1.OddsService/BulkGetPrices", request, timeout_s=TIMEOUT_S)
        legs: dict[int, list[Leg]] = defaultdict(list)
        for market in reply.get("prices", []):
            if market.get("status") == "MARKET_STATUS_OPEN" and not market.get("stale"):
                legs[int(market["eventId"])] += _legs(market)
        return dict(legs)


def _legs(market: dict[str, Any]) -> list[Leg]:
    market_id, closes_at_us = int(market["marketId"]), int(market["closesAtUs"])
    return [
        Leg(market_id, each["selectionId"], each["price"]["numerator"], each["price"]["denominator"], closes_at_us)
        for each in market.get("prices", [])
    ]
