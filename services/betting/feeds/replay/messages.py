"""The requests of a replay to event-service and odds-service. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from betting.feeds import selections
from betting.feeds.replay.schedule import Slot
from betting.feeds.seasons import Match, Season, SeasonMarket
from betting.internal.v1 import feed_pb2
from betting.v1 import event_pb2, odds_pb2

SPORT = event_pb2.Sport(sport_id="football", name="Football")

# football-data.co.uk's division codes.
_LEAGUES = {
    "E0": ("Premier League", "England"),
    "E1": ("Championship", "England"),
    "E2": ("League One", "England"),
    "E3": ("League Two", "England"),
    "EC": ("National League", "England"),
    "SC0": ("Premiership", "Scotland"),
    "SC1": ("Championship", "Scotland"),
    "SC2": ("League One", "Scotland"),
    "SC3": ("League Two", "Scotland"),
    "D1": ("Bundesliga", "Germany"),
    "D2": ("2. Bundesliga", "Germany"),
    "I1": ("Serie A", "Italy"),
    "I2": ("Serie B", "Italy"),
    "SP1": ("La Liga", "Spain"),
    "SP2": ("Segunda División", "Spain"),
    "F1": ("Ligue 1", "France"),
    "F2": ("Ligue 2", "France"),
    "N1": ("Eredivisie", "Netherlands"),
    "B1": ("Pro League", "Belgium"),
    "P1": ("Primeira Liga", "Portugal"),
    "T1": ("Süper Lig", "Türkiye"),
    "G1": ("Super League", "Greece"),
}


def catalogue(season: Season, slots: Iterable[Slot]) -> feed_pb2.UpsertCatalogueRequest:
    """The season's league and these matches."""
    name, country = _LEAGUES.get(season.division, (season.division, ""))
    league = event_pb2.League(league_id=season.division, sport_id=SPORT.sport_id, name=name, country=country)
    events = [_event(season, slot) for slot in slots]
    return feed_pb2.UpsertCatalogueRequest(sports=[SPORT], leagues=[league], events=events)


def prices(slot: Slot, season_us: int) -> list[odds_pb2.MarketPrices]:
    """The quotes of a match's markets at a moment of season time."""
    return [
        _quote(slot, market, event_pb2.MARKET_STATUS_OPEN, slot.prices(market, season_us))
        for market in slot.match.markets
    ]


def results(slot: Slot) -> list[odds_pb2.MarketPrices]:
    """The same markets as resulted, with the prices they closed at."""
    return [
        _quote(slot, market, event_pb2.MARKET_STATUS_RESULTED, [each.closing for each in market.selections])
        for market in slot.match.markets
    ]


def selection_names(match: Match, market: SeasonMarket) -> list[str]:
    """What a market's selections are called, in the order of their ids."""
    return selections.names(match.home, match.away, market.kind, market.line_quarters)


def _quote(
    slot: Slot, market: SeasonMarket, status: event_pb2.MarketStatus, offered: Iterable[tuple[int, int]]
) -> odds_pb2.MarketPrices:
    quote = odds_pb2.MarketPrices(
        market_id=market.market_id,
        event_id=slot.match.event_id,
        status=status,
        closes_at_us=slot.closes_at_wall_us,
    )
    for selection, (numerator, denominator) in zip(market.selections, offered, strict=True):
        added = quote.prices.add(selection_id=selection.selection_id)
        added.price.numerator, added.price.denominator = numerator, denominator
    return quote


def _event(season: Season, slot: Slot) -> event_pb2.Event:
    match = slot.match
    return event_pb2.Event(
        event_id=match.event_id,
        league_id=season.division,
        home=match.home,
        away=match.away,
        starts_at_us=slot.closes_at_wall_us,
        markets=[_market(slot, market) for market in match.markets],
    )


def _market(slot: Slot, market: SeasonMarket) -> event_pb2.Market:
    names = selection_names(slot.match, market)
    return event_pb2.Market(
        market_id=market.market_id,
        event_id=slot.match.event_id,
        kind=market.kind,  # type: ignore[arg-type]
        line_quarters=market.line_quarters,
        closes_at_us=slot.closes_at_wall_us,
        selections=[
            event_pb2.Selection(selection_id=selection.selection_id, name=name)
            for selection, name in zip(market.selections, names, strict=True)
        ],
    )
