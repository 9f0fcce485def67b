"""Keeps odds-service up to date with the book: changes, snapshots, signs of life; but only while the source answers.

Whatever a producer publishes counts as its sign of life, so nothing is said unless the source has just answered: when
it falls silent, so does the feed, and odds-service suspends its markets. They reopen with a snapshot, and there is none
before every sport's prices are fresh again.
"""

from __future__ import annotations

from collections.abc import Iterable

from betting.feeds.peers import Peers
from betting.feeds.the_odds_api import messages
from betting.feeds.the_odds_api.book import Book
from betting.runtime.clock import US_PER_S, Clock
from betting.v1.odds_pb2 import MarketPrices

# How long after an answer there may still be something to say: a new event has to come into the catalogue first.
SAYABLE_US = 3 * US_PER_S
RESULTS_WAITING_MAX = 20_000


class Publisher:
    """The producer of this feed. Nothing is lost when a call fails: it is sent again."""

    def __init__(self, book: Book, peers: Peers, clock: Clock, max_age_us: int) -> None:
        self._book = book
        self._peers = peers
        self._clock = clock
        self._max_age_us = max_age_us
        # What odds-service has confirmed, by market; None: a snapshot is due.
        self._confirmed: dict[int, bytes] | None = None
        # A feed that has not said yet what it has is silent: what was offered before it began is not its word.
        self._introduced = False
        self._published_at_us = 0
        self._published_revision = 0
        self._results: dict[int, MarketPrices] = {}

    def result(self, quotes: Iterable[MarketPrices]) -> None:
        """Adds resulted markets to the next publication."""
        for quote in quotes:
            if len(self._results) < RESULTS_WAITING_MAX:
                self._results[quote.market_id] = quote

    async def publish(self) -> int:
        """Publishes what is due; returns the number of markets sent.

        Raises ServiceError; the next call sends it again.
        """
        answered_at_us, now_us = self._book.answered_at_us, self._clock.now_us()
        if not answered_at_us or now_us - answered_at_us > SAYABLE_US:
            return 0
        if self._confirmed is not None:
            return await self._say_changes(answered_at_us, self._confirmed)
        if self._book.is_whole(now_us):
            return await self._say(answered_at_us, known={}, snapshot=True)
        if self._introduced and self._published_at_us < answered_at_us:
            # Changes wait: without a snapshot they could not be offered anyway.
            await self._peers.publish((), snapshot=False)
            self._published_at_us = answered_at_us
        return 0

    async def _say_changes(self, answered_at_us: int, known: dict[int, bytes]) -> int:
        nothing_new = self._published_at_us >= answered_at_us and self._published_revision == self._book.revision
        if nothing_new and not self._results:
            return 0
        return await self._say(answered_at_us, known, snapshot=False)

    async def _say(self, answered_at_us: int, known: dict[int, bytes], *, snapshot: bool) -> int:
        """One sign of life per answer, and with it what is not known yet."""
        revision, results = self._book.revision, dict(self._results)
        fixtures, now_us = self._book.fixtures.values(), self._clock.now_us()
        offered = messages.prices(fixtures, self._max_age_us, now_us) | results
        encoded = {market_id: quote.SerializeToString(deterministic=True) for market_id, quote in offered.items()}
        changes = [quote for market_id, quote in offered.items() if known.get(market_id) != encoded[market_id]]
        if changes or snapshot or self._published_at_us < answered_at_us:
            response = await self._peers.publish(changes, snapshot=snapshot)
            self._confirmed = None if response.wants_snapshot else encoded
        self._published_at_us, self._published_revision, self._introduced = answered_at_us, revision, True
        for market_id in results:
            self._results.pop(market_id, None)
        return len(changes)
