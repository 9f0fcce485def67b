"""`python -m betting.health`"""

from betting.health.main import compose
from betting.health.settings import HealthSettings
from betting.runtime.service import run_service

run_service("health-monitor", compose, HealthSettings)
