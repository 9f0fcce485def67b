"""`python -m betting.notifications`"""

from betting.notifications.main import compose
from betting.runtime.service import ServiceSettings, run_service

run_service("notification-service", compose, ServiceSettings)
