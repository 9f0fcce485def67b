"""The requests of the feed to event-service and odds-service. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from betting.feeds import selections
from betting.feeds.the_odds_api.fixtures import Fixture, Listed
from betting.internal.v1 import feed_pb2
from betting.v1 import event_pb2, odds_pb2

# The source's sport keys begin with one of these; football shares its sport with other feeds.
_SPORTS = {
    "soccer": ("football", "Football"),
    "americanfootball": ("americanfootball", "American football"),
    "aussierules": ("aussierules", "Aussie rules"),
    "icehockey": ("icehockey", "Ice hockey"),
    "mma": ("mma", "Mixed martial arts"),
    "rugbyleague": ("rugbyleague", "Rugby league"),
    "rugbyunion": ("rugbyunion", "Rugby union"),
}


def catalogue(fixtures: Iterable[Fixture]) -> feed_pb2.UpsertCatalogueRequest:
    """The fixtures with their leagues and sports."""
    request = feed_pb2.UpsertCatalogueRequest()
    leagues: dict[str, event_pb2.League] = {}
    for fixture in fixtures:
        request.events.append(_event(fixture))
        sport_id, _ = _sport(fixture.sport_key)
        leagues[fixture.sport_key] = event_pb2.League(
            league_id=fixture.sport_key, sport_id=sport_id, name=fixture.league
        )
    sports = dict(_sport(key) for key in leagues)
    request.sports.extend(event_pb2.Sport(sport_id=id_, name=name) for id_, name in sports.items())
    request.leagues.extend(leagues.values())
    return request


def prices(fixtures: Iterable[Fixture], max_age_us: int, now_us: int) -> dict[int, odds_pb2.MarketPrices]:
    """The quotes of all markets that the catalogue has, by market id.

    Open: in the last answer and not older than `max_age_us`. Betting that has ended reads as closed.
    """
    quotes = {}
    for fixture in fixtures:
        for market_id, market in fixture.markets.items():
            if market_id not in fixture.listed:
                continue
            fresh = market_id in fixture.present and now_us - market.as_of_us <= max_age_us
            quote = _quote(fixture, market_id, event_pb2.MARKET_STATUS_OPEN)
            if fixture.is_over(now_us):
                quote.status = event_pb2.MARKET_STATUS_CLOSED
            elif not fresh:
                quote.status = event_pb2.MARKET_STATUS_SUSPENDED
            for selection_id, (numerator, denominator) in enumerate(market.prices, 1):
                added = quote.prices.add(selection_id=selection_id)
                added.price.numerator, added.price.denominator = numerator, denominator
            quotes[market_id] = quote
    return quotes


def results(fixture: Fixture) -> list[odds_pb2.MarketPrices]:
    """All its markets as resulted, at the prices they had."""
    return [_quote(fixture, market_id, event_pb2.MARKET_STATUS_RESULTED) for market_id in fixture.listed]


def _quote(fixture: Fixture, market_id: int, status: event_pb2.MarketStatus) -> odds_pb2.MarketPrices:
    return odds_pb2.MarketPrices(
        market_id=market_id, event_id=fixture.event_id, status=status, closes_at_us=fixture.starts_at_us
    )


def _event(fixture: Fixture) -> event_pb2.Event:
    return event_pb2.Event(
        event_id=fixture.event_id,
        league_id=fixture.sport_key,
        home=fixture.home,
        away=fixture.away,
        starts_at_us=fixture.starts_at_us,
        markets=[_market(fixture, market_id, market) for market_id, market in fixture.to_list().items()],
    )


def _market(fixture: Fixture, market_id: int, market: Listed) -> event_pb2.Market:
    names = selections.names(fixture.home, fixture.away, market.kind, market.line_quarters)
    return event_pb2.Market(
        market_id=market_id,
        event_id=fixture.event_id,
        kind=market.kind,  # type: ignore[arg-type]
        line_quarters=market.line_quarters,
        closes_at_us=market.closes_at_us,
        selections=[event_pb2.Selection(selection_id=id_, name=name) for id_, name in enumerate(names, 1)],
    )


def _sport(sport_key: str) -> tuple[str, str]:
    prefix = sport_key.partition("_")[0]
    return _SPORTS.get(prefix, (prefix, prefix.capitalize()))
