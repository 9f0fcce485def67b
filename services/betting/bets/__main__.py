"""`python -m betting.bets`"""

from betting.bets.main import compose
from betting.bets.settings import BetSettings
from betting.runtime.service import run_service

run_service("bet-service", compose, BetSettings)
