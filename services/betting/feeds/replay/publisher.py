"""Keeps odds-service up to date with the prices of the replay: changes, snapshots, heartbeats."""

from __future__ import annotations

from betting.feeds.peers import Peers
from betting.feeds.replay import messages
from betting.feeds.replay.progress import Progress
from betting.runtime.clock import Clock
from betting.v1.odds_pb2 import MarketPrices


class Publisher:
    """One replay's side of PriceFeedService. Prices follow from the time, so nothing is lost when a call fails."""

    def __init__(self, progress: Progress, peers: Peers, clock: Clock, alive_s: float) -> None:
        self._progress = progress
        self._peers = peers
        self._clock = clock
        self._alive_s = alive_s
        # What odds-service has confirmed, by market; None: a snapshot is due.
        self._confirmed: dict[int, bytes] | None = None
        self._heard_at_s = 0.0

    async def publish(self) -> int:
        """Publishes what is due; returns the number of markets sent.

        Raises ServiceError; the next call sends it again.
        """
        sent = await self._say(self._now_offered())
        if self._confirmed is None:
            sent += await self._say(self._now_offered())
        return sent

    def _now_offered(self) -> dict[int, MarketPrices]:
        now_us = self._clock.now_us()
        season_us = self._progress.season_us(now_us)
        quotes = [quote for slot in self._progress.on_offer(now_us) for quote in messages.prices(slot, season_us)]
        return {quote.market_id: quote for quote in quotes}

    async def _say(self, offered: dict[int, MarketPrices]) -> int:
        encoded = {market_id: quote.SerializeToString(deterministic=True) for market_id, quote in offered.items()}
        snapshot, known = self._confirmed is None, self._confirmed or {}
        changes = [quote for market_id, quote in offered.items() if known.get(market_id) != encoded[market_id]]
        if not changes and not snapshot and self._clock.monotonic_s() - self._heard_at_s < self._alive_s:
            self._confirmed = encoded
            return 0
        response = await self._peers.publish(changes, snapshot=snapshot)
        self._heard_at_s = self._clock.monotonic_s()
        self._confirmed = None if response.wants_snapshot else encoded
        return len(changes)
