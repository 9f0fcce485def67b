"""Season files of football-data.co.uk: pure reading, exact prices, stable ids."""

from __future__ import annotations

from betting.odds.seasons.laps import lap
from betting.odds.seasons.model import Match, PricedSelection, Problem, Season, SeasonError, SeasonMarket
from betting.odds.seasons.reader import read_season
from betting.odds.seasons.shipped import DEFAULT_SEASON, load_season, shipped_seasons

__all__ = [
    "DEFAULT_SEASON",
    "Match",
    "PricedSelection",
    "Problem",
    "Season",
    "SeasonError",
    "SeasonMarket",
    "lap",
    "load_season",
    "read_season",
    "shipped_seasons",
]
