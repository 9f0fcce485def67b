"""`python -m betting.events`"""

from betting.events.main import compose
from betting.runtime.service import run_service

run_service("event-service", compose)
