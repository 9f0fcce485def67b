"""Season files of football-data.co.uk: pure reading, exact prices, stable ids."""

from __future__ import annotations

from betting.feeds.seasons.laps import lap, lap_name, with_event_id
from betting.feeds.seasons.model import Match, PricedSelection, Problem, Season, SeasonError, SeasonMarket
from betting.feeds.seasons.reader import club_key, read_season
from betting.feeds.seasons.shipped import DEFAULT_SEASON, load_season, shipped_seasons

__all__ = [
    "DEFAULT_SEASON",
    "Match",
    "PricedSelection",
    "Problem",
    "Season",
    "SeasonError",
    "SeasonMarket",
    "club_key",
    "lap",
    "lap_name",
    "load_season",
    "read_season",
    "shipped_seasons",
    "with_event_id",
]
