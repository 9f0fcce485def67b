"""Requests of odds-service, checked: what cannot be meant is INVALID_ARGUMENT and names the place."""

from __future__ import annotations

import re
from collections.abc import Iterable

from betting.engine import prices
from betting.internal.v1 import feed_pb2
from betting.odds.quotes import CLOSED, LIVE, OPEN, RESULTED, SUSPENDED, VOID, Offer, Publication, SelectionPrice
from betting.runtime.errors import ServiceError, invalid_argument, shown
from betting.v1 import odds_pb2

TERM_MAX = 2**63 - 1
OFFERS_MAX = 20_000
SELECTIONS_MAX = 100
SELECTION_ID_MAX = 32_767
BULK_MAX = 500
WATCHED_EVENTS_MAX = 500
PRODUCER_NAME_CHARACTERS_MAX = 100
# The year 9999; a closing time beyond it is a unit mistaken.
TIME_US_MAX = 253_402_300_800_000_000

_PRODUCER_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STATUSES = frozenset({OPEN, SUSPENDED, CLOSED, RESULTED, VOID})


def publication(request: feed_pb2.PublishPricesRequest) -> Publication:
    """A publication, whole or not at all. Raises INVALID_ARGUMENT."""
    if not _PRODUCER_ID.fullmatch(request.producer_id):
        raise invalid_argument(
            "PRODUCER_ID_INVALID",
            f"producer_id is {shown(request.producer_id)}: give 1 to 64 of a-z, 0-9, dot, dash, underscore",
        )
    name = request.producer_name
    if not name or len(name) > PRODUCER_NAME_CHARACTERS_MAX or not name.isprintable():
        raise invalid_argument(
            "PRODUCER_NAME_INVALID",
            f"producer_name is {shown(name)}: give 1 to {PRODUCER_NAME_CHARACTERS_MAX} printable characters",
        )
    if request.term > TERM_MAX:
        raise invalid_argument("TERM_INVALID", f"term {request.term}: {TERM_MAX} is the most")
    if len(request.changes) > OFFERS_MAX:
        raise invalid_argument("TOO_MANY_CHANGES", f"{len(request.changes)} changes in one call: at most {OFFERS_MAX}")
    offers = tuple(_offer(index, change) for index, change in enumerate(request.changes))
    if len({offer.market_id for offer in offers}) < len(offers):
        raise invalid_argument(
            "MARKET_REPEATED", f"a market appears twice in changes (market {_repeated(offers)}): send it once"
        )
    return Publication(request.producer_id, name, offers, request.snapshot, request.term)


def market_id(value: int) -> int:
    """A market id. Raises INVALID_ARGUMENT MARKET_ID_INVALID."""
    if value <= 0:
        raise invalid_argument("MARKET_ID_INVALID", f"market_id is {value}: ids are positive")
    return value


def market_ids(values: Iterable[int]) -> list[int]:
    """1 to 500 market ids, each once, in their order. Raises INVALID_ARGUMENT."""
    ids = list(dict.fromkeys(market_id(value) for value in values))
    if not 1 <= len(ids) <= BULK_MAX:
        raise invalid_argument("MARKET_IDS_COUNT", f"{len(ids)} market_ids: give 1 to {BULK_MAX}")
    return ids


def watched_events(values: Iterable[int]) -> frozenset[int]:
    """The events to watch; none means all. Raises INVALID_ARGUMENT."""
    events = frozenset(values)
    if any(value <= 0 for value in events):
        raise invalid_argument("EVENT_ID_INVALID", f"event_ids contains {min(events)}: ids are positive")
    if len(events) > WATCHED_EVENTS_MAX:
        raise invalid_argument(
            "TOO_MANY_EVENTS", f"{len(events)} event_ids: give at most {WATCHED_EVENTS_MAX}, or none to watch all"
        )
    return events


def _offer(index: int, change: odds_pb2.MarketPrices) -> Offer:
    if change.market_id <= 0 or change.event_id <= 0:
        raise _bad(
            index,
            change,
            "ID_INVALID",
            f"market_id is {change.market_id} and event_id {change.event_id}: both must be positive",
        )
    if change.status not in _STATUSES:
        raise _bad(
            index,
            change,
            "STATUS_INVALID",
            f"{change.status} is no status of a market: give 1 to 5",
        )
    if not 0 < change.closes_at_us < TIME_US_MAX:
        raise _bad(
            index,
            change,
            "CLOSING_TIME_INVALID",
            f"closes_at_us is {change.closes_at_us}: give microseconds since 1970",
        )
    offered = tuple(_price(index, change, selection) for selection in change.prices)
    if len({price.selection_id for price in offered}) < len(offered):
        raise _bad(index, change, "SELECTION_REPEATED", "a selection_id has two prices: give each once")
    if len(offered) > SELECTIONS_MAX:
        raise _bad(index, change, "TOO_MANY_SELECTIONS", f"{len(offered)} selections: give at most {SELECTIONS_MAX}")
    if not offered and change.status in LIVE:
        raise _bad(index, change, "PRICES_MISSING", "an open or suspended market needs prices")
    return Offer(change.market_id, change.event_id, change.status, change.closes_at_us, offered)


def _price(index: int, change: odds_pb2.MarketPrices, offered: odds_pb2.SelectionPrice) -> SelectionPrice:
    if not 0 < offered.selection_id <= SELECTION_ID_MAX:
        raise _bad(
            index,
            change,
            "SELECTION_ID_INVALID",
            f"selection_id {offered.selection_id} is not from 1 to {SELECTION_ID_MAX}",
        )
    price = SelectionPrice(offered.selection_id, offered.price.numerator, offered.price.denominator)
    if not prices.is_price(price.numerator, price.denominator):
        raise _bad(
            index,
            change,
            "PRICE_INVALID",
            f"the price {price.numerator}/{price.denominator} of selection {price.selection_id} must have "
            f"parts from 1 to {prices.MAX_PRICE_PART}",
        )
    return price


def _bad(index: int, change: odds_pb2.MarketPrices, reason: str, what: str) -> ServiceError:
    return invalid_argument(reason, f"changes[{index}] (market {change.market_id}): {what}; nothing was published")


def _repeated(offers: tuple[Offer, ...]) -> int:
    seen: set[int] = set()
    return next(id_ for offer in offers if (id_ := offer.market_id) in seen or seen.add(id_))  # type: ignore[func-returns-value]
