"""What a bet-service instance can be told."""

from __future__ import annotations

from datetime import timedelta

from betting.engine.prices import Limits
from betting.runtime.settings import Duration, ServiceSettings


class BetSettings(ServiceSettings):
    """Amounts in minor units of the account's currency."""

    min_stake_minor: int = 1
    max_stake_minor: int = 10_000_000
    max_payout_minor: int = 1_000_000_000
    max_open_bets: int = 1_000
    # Oldest beat of the price feed that bets are still taken on.
    book_stale_after: Duration = timedelta(seconds=3)
    # An owner whose beat is older than this, with no healer beating, has lost its shards to whoever claims them.
    orphaned_after: Duration = timedelta(seconds=10)
    snapshot_every_entries: int = 10_000

    def limits(self) -> Limits:
        """Raises ValueError if they cannot hold together."""
        return Limits(
            min_stake_minor=self.min_stake_minor,
            max_stake_minor=self.max_stake_minor,
            max_payout_minor=self.max_payout_minor,
            max_open_bets=self.max_open_bets,
        ).check()
