"""`python -m betting.users`"""

from betting.runtime.service import run_service
from betting.users.main import compose
from betting.users.settings import UserSettings

run_service("user-service", compose, UserSettings)
