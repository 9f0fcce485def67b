"""`python -m betting.feeds.the_odds_api`"""

from betting.feeds.the_odds_api.main import compose
from betting.feeds.the_odds_api.settings import OddsApiSettings
from betting.runtime.service import run_service

run_service("the-odds-api", compose, OddsApiSettings)
