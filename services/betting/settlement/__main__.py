"""`python -m betting.settlement`"""

from betting.runtime.service import run_service
from betting.settlement.main import compose

run_service("settlement-service", compose)
