"""Every market's current quote and every producer's state: the rules, pure. Time is an argument.

A change is planned first (nothing is touched), stored by the caller, and only then committed: what watchers see is
always in the database. The rules:

- A market's version rises by one with each change of its prices, status, closing time or staleness, and never else.
- A producer silent for longer than `silence_us` takes its live markets, and only its, to SUSPENDED and stale.
- Heard again it is RECOVERING: its changes are taken, its markets stay suspended. Only its snapshot makes it ALIVE
  and reopens them; time alone never does. What a snapshot leaves out is closed.
- A live market whose closing time has come is CLOSED. A resulted or void one never lives again: offers that say
  otherwise are dropped, so that a feed that came back with old knowledge is not refused as a whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from betting.odds.quotes import (
    ALIVE,
    CLOSED,
    FINAL,
    LIVE,
    RECOVERING,
    SILENT,
    SUSPENDED,
    Offer,
    Producer,
    Publication,
    Quote,
)
from betting.runtime import errors

MARKETS_MAX = 200_000
PRODUCERS_MAX = 100
# How long markets that are over stay in memory (and in snapshots); afterwards they are read from the database.
KEEP_FINAL_US = 10 * 60 * 1_000_000
KEEP_CLOSED_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class BoardUpdate:
    """Changes to store and then commit. `dropped` counts offers for markets that are over for good."""

    quotes: tuple[Quote, ...] = ()
    producers: tuple[Producer, ...] = ()
    dropped: int = 0

    def __bool__(self) -> bool:
        return bool(self.quotes or self.producers)


class Board:
    """The state; see the module's text for its rules."""

    def __init__(self, silence_us: int) -> None:
        assert silence_us > 0
        self._silence_us = silence_us
        self._quotes: dict[int, Quote] = {}
        self._producers: dict[str, Producer] = {}
        self._live: dict[str, set[int]] = {}
        self._closings: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._quotes)

    def __contains__(self, market_id: int) -> bool:
        return market_id in self._quotes

    def quotes(self, now_us: int) -> Iterator[Quote]:
        """All quotes as they are to be shown now."""
        return (_shown(quote, now_us) for quote in self._quotes.values())

    def quote(self, market_id: int, now_us: int) -> Quote | None:
        """One quote as shown now: past its closing time it reads as the closing version it is about to get."""
        quote = self._quotes.get(market_id)
        return None if quote is None else _shown(quote, now_us)

    def producers(self) -> list[tuple[Producer, int]]:
        """Every producer with the number of its live markets, by id."""
        return [(self._producers[id_], len(self._live.get(id_, ()))) for id_ in sorted(self._producers)]

    def producer(self, producer_id: str) -> Producer | None:
        """One producer, or None."""
        return self._producers.get(producer_id)

    def heard(self, producer_id: str, now_us: int, term: int = 0) -> None:
        """Records a heartbeat of a known producer; it changes no market.

        Raises FAILED_PRECONDITION when it comes from a process that another one of the same producer has replaced.
        """
        producer = self._producers.get(producer_id)
        if producer is not None:
            _check_term(producer, term)
            self._producers[producer_id] = replace(producer, last_alive_at_us=now_us)

    def plan_time(self, now_us: int) -> BoardUpdate:
        """What the passing of time alone changes: markets close, silent producers' markets are suspended."""
        changed = {quote.market_id: _closed(quote) for quote in self._due(now_us)}
        producers = []
        for producer in self._producers.values():
            if producer.status == SILENT or now_us - producer.last_alive_at_us <= self._silence_us:
                continue
            producers.append(replace(producer, status=SILENT, wants_snapshot=True))
            for market_id in self._live.get(producer.producer_id, ()):
                if market_id not in changed and not self._quotes[market_id].stale:
                    changed[market_id] = _suspended(self._quotes[market_id], now_us)
        return BoardUpdate(tuple(changed.values()), tuple(producers))

    def plan_publication(self, publication: Publication, now_us: int) -> BoardUpdate:
        """What a publication changes. Commit `plan_time(now_us)` first.

        Raises FAILED_PRECONDITION (a market of another producer or event, a term that is over) and RESOURCE_EXHAUSTED
        (too many markets or producers); then nothing of the publication counts.
        """
        before = self._producers.get(publication.producer_id)
        if before is not None:
            _check_term(before, publication.term)
        after = self._producer_after(before, publication, now_us)
        reopening = after.status == ALIVE
        changed: dict[int, Quote] = {}
        dropped = 0
        for offer in publication.offers:
            existing = self._quotes.get(offer.market_id)
            _check_same(existing, offer, publication.producer_id)
            if existing is not None and existing.status in FINAL and offer.status not in FINAL:
                dropped += 1
                continue
            quote = _offered(existing, offer, publication.producer_id, reopening, now_us)
            if existing is None or not _says_the_same(existing, quote):
                changed[offer.market_id] = quote
        if publication.snapshot:
            changed.update(self._left_out(publication, now_us))
        self._check_room(changed, known_producer=before is not None)
        producers = () if before is not None and _is_as_before(before, after) else (after,)
        return BoardUpdate(tuple(changed.values()), producers, dropped)

    def commit(self, plan: BoardUpdate) -> None:
        """Applies a stored plan."""
        for producer in plan.producers:
            self._producers[producer.producer_id] = producer
        for quote in plan.quotes:
            existing = self._quotes.get(quote.market_id)
            assert existing is None or quote.version == existing.version + 1, "a version rises by one with each change"
            self._put(quote)

    def adopt(self, quotes: Iterable[Quote], producers: Iterable[Producer] = ()) -> list[Quote]:
        """Replaces the state by that of the database; returns the quotes that are new."""
        for producer in producers:
            known = self._producers.get(producer.producer_id)
            last_alive_at_us = max(producer.last_alive_at_us, known.last_alive_at_us if known else 0)
            self._producers[producer.producer_id] = replace(producer, last_alive_at_us=last_alive_at_us)
        news = [quote for quote in quotes if self._quotes.get(quote.market_id) != quote]
        for quote in news:
            self._put(quote)
        return news

    def clear(self) -> None:
        """Forgets everything: another process has gone on meanwhile."""
        self._quotes.clear()
        self._producers.clear()
        self._live.clear()
        self._closings.clear()

    def evict(self, now_us: int) -> int:
        """Removes markets that ended long ago (they stay in the database); returns how many."""
        old = [
            quote.market_id
            for quote in self._quotes.values()
            if quote.status not in LIVE
            and now_us - quote.changed_at_us > (KEEP_FINAL_US if quote.status in FINAL else KEEP_CLOSED_US)
        ]
        for market_id in old:
            del self._quotes[market_id]
        return len(old)

    def _due(self, now_us: int) -> list[Quote]:
        """Live markets whose closing time has come. Entries of the heap that no longer hold are dropped on the way."""
        due: dict[tuple[int, int], Quote] = {}
        while self._closings and self._closings[0][0] <= now_us:
            entry = heapq.heappop(self._closings)
            quote = self._quotes.get(entry[1])
            if quote is not None and quote.status in LIVE and quote.closes_at_us == entry[0]:
                due[entry] = quote
        for entry in due:  # planned only: they leave the heap once they are no longer live
            heapq.heappush(self._closings, entry)
        return list(due.values())

    def _producer_after(self, before: Producer | None, publication: Publication, now_us: int) -> Producer:
        """A new producer, like one that was silent, opens markets with its first snapshot."""
        status = ALIVE if publication.snapshot else RECOVERING
        if before is not None and before.status == ALIVE:
            status = ALIVE
        wants = not publication.snapshot and (before is None or before.wants_snapshot)
        term = max(publication.term, before.term if before is not None else 0)
        return Producer(publication.producer_id, publication.producer_name, status, now_us, wants, term)

    def _left_out(self, publication: Publication, now_us: int) -> dict[int, Quote]:
        kept = {offer.market_id for offer in publication.offers}
        gone = self._live.get(publication.producer_id, set()) - kept
        return {
            market_id: replace(quote, status=CLOSED, stale=False, version=quote.version + 1, changed_at_us=now_us)
            for market_id in gone
            if (quote := self._quotes[market_id])
        }

    def _check_room(self, changed: dict[int, Quote], *, known_producer: bool) -> None:
        added = sum(market_id not in self._quotes for market_id in changed)
        if len(self._quotes) + added > MARKETS_MAX:
            raise errors.resource_exhausted(
                "TOO_MANY_MARKETS",
                f"{MARKETS_MAX} markets at once are the most: publish fewer",
            )
        if not known_producer and len(self._producers) >= PRODUCERS_MAX:
            raise errors.resource_exhausted(
                "TOO_MANY_PRODUCERS", f"{PRODUCERS_MAX} producers are the most: use a known producer_id"
            )

    def _put(self, quote: Quote) -> None:
        before = self._quotes.get(quote.market_id)
        self._quotes[quote.market_id] = quote
        live = self._live.setdefault(quote.producer_id, set())
        if quote.status not in LIVE:
            live.discard(quote.market_id)
            return
        live.add(quote.market_id)
        if before is None or before.status not in LIVE or before.closes_at_us != quote.closes_at_us:
            heapq.heappush(self._closings, (quote.closes_at_us, quote.market_id))


def _shown(quote: Quote, now_us: int) -> Quote:
    return _closed(quote) if quote.status in LIVE and quote.closes_at_us <= now_us else quote


def _closed(quote: Quote) -> Quote:
    return replace(
        quote,
        status=CLOSED,
        stale=False,
        version=quote.version + 1,
        changed_at_us=max(quote.closes_at_us, quote.changed_at_us),
    )


def _suspended(quote: Quote, now_us: int) -> Quote:
    return replace(quote, status=SUSPENDED, stale=True, version=quote.version + 1, changed_at_us=now_us)


def _offered(existing: Quote | None, offer: Offer, producer_id: str, reopening: bool, now_us: int) -> Quote:
    status, stale = offer.status, False
    if status in LIVE and offer.closes_at_us <= now_us:
        status = CLOSED
    elif status in LIVE and not reopening:
        status, stale = SUSPENDED, True
    return Quote(
        market_id=offer.market_id,
        event_id=offer.event_id,
        status=status,
        version=existing.version + 1 if existing else 1,
        closes_at_us=offer.closes_at_us,
        prices=offer.prices or (existing.prices if existing else ()),
        changed_at_us=now_us,
        producer_id=producer_id,
        stale=stale,
    )


def _says_the_same(a: Quote, b: Quote) -> bool:
    return replace(a, version=0, changed_at_us=0) == replace(b, version=0, changed_at_us=0)


def _is_as_before(before: Producer, after: Producer) -> bool:
    return replace(before, last_alive_at_us=0) == replace(after, last_alive_at_us=0)


def _check_term(producer: Producer, term: int) -> None:
    if 0 < term < producer.term:
        raise errors.failed_precondition(
            "PRODUCER_REPLACED",
            f"producer {producer.producer_id} publishes at term {producer.term}, this is term {term}:"
            " another process is active, stand by",
        )


def _check_same(existing: Quote | None, offer: Offer, producer_id: str) -> None:
    if existing is None:
        return
    if existing.producer_id != producer_id:
        raise errors.failed_precondition(
            "MARKET_OF_OTHER_PRODUCER",
            f"market {offer.market_id} is priced by producer {existing.producer_id}: publish it under that producer_id",
        )
    if existing.event_id != offer.event_id:
        raise errors.failed_precondition(
            "MARKET_OF_OTHER_EVENT",
            f"market {offer.market_id} belongs to event {existing.event_id}, not {offer.event_id}: use another id",
        )
