"""bet-service with everything it needs."""

from platform_fixtures import bet_service, odds, owners

__all__ = ["bet_service", "odds", "owners"]
