"""Settings of bet-service."""

from __future__ import annotations

from datetime import timedelta

from betting.engine.prices import Limits
from betting.runtime.settings import Duration, ServiceSettings


class BetSettings(ServiceSettings):
    """Amounts in minor units of the account's currency."""

    # Minimum stake of a bet.
    min_stake_minor: int = 1
    # Maximum stake of a bet.
    max_stake_minor: int = 10_000_000
    # Maximum potential payout of a bet.
    max_payout_minor: int = 1_000_000_000
    # Maximum number of open bets of an account.
    max_open_bets: int = 1_000
    # Maximum age of the latest heartbeat of the price watch; above it bets are refused (BOOK_STALE).
    book_stale_after: Duration = timedelta(seconds=3)
    # An owner whose heartbeat is older than this, while no healer is alive, may lose its shards to any other instance.
    orphaned_after: Duration = timedelta(seconds=10)
    # Entries of a shard after which a snapshot is written; more for a shard with many open bets.
    snapshot_every_entries: int = 10_000

    def limits(self) -> Limits:
        """The limits of bets. Raises ValueError if they contradict each other."""
        return Limits(
            min_stake_minor=self.min_stake_minor,
            max_stake_minor=self.max_stake_minor,
            max_payout_minor=self.max_payout_minor,
            max_open_bets=self.max_open_bets,
        ).check()
