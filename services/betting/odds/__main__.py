"""`python -m betting.odds`"""

from betting.odds.main import compose
from betting.odds.settings import OddsSettings
from betting.runtime.service import run_service

run_service("odds-service", compose, OddsSettings)
