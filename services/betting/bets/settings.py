"""Settings of bet-service."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from betting.engine.prices import Limits
from betting.runtime.settings import Duration, ServiceSettings, disagreement

AMOUNT_MAX_MINOR = 1_000_000_000_000_000


class BetSettings(ServiceSettings):
    """Amounts in minor units of the account's currency."""

    # Minimum stake of a bet.
    min_stake_minor: int = Field(default=1, ge=1, le=AMOUNT_MAX_MINOR)
    # Maximum stake of a bet.
    max_stake_minor: int = Field(default=10_000_000, ge=1, le=AMOUNT_MAX_MINOR)
    # Maximum potential payout of a bet.
    max_payout_minor: int = Field(default=1_000_000_000, ge=1, le=AMOUNT_MAX_MINOR)
    # Maximum number of open bets of an account.
    max_open_bets: int = Field(default=1_000, ge=1, le=100_000)
    # Maximum age of the latest heartbeat of the price watch; above it bets are refused (BOOK_STALE).
    book_stale_after: Duration = Field(default=timedelta(seconds=3), gt=timedelta(0), le=timedelta(minutes=1))
    # An owner whose heartbeat is older than this, while no healer is alive, may lose its shards to any other instance.
    orphaned_after: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(hours=1))
    # Generation of the deployment that this instance is of; shards go to instances of the newest generation first.
    generation: int = Field(default=0, ge=0, le=2_147_483_647)
    # Entries of a shard after which a snapshot is written; more for a shard with many open bets.
    snapshot_every_entries: int = Field(default=10_000, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _limits_can_hold_together(self) -> BetSettings:
        if self.min_stake_minor > self.max_stake_minor:
            raise disagreement(
                self, "min_stake_minor", f"give at most BETTING_MAX_STAKE_MINOR ({self.max_stake_minor})"
            )
        if self.max_stake_minor > self.max_payout_minor:
            rule = f"give at most BETTING_MAX_PAYOUT_MINOR ({self.max_payout_minor}): a void bet pays its stake back"
            raise disagreement(self, "max_stake_minor", rule)
        try:
            self.limits()
        except ValueError:
            rule = f"times BETTING_MAX_OPEN_BETS ({self.max_open_bets}) it is more than an account can hold: give less"
            raise disagreement(self, "max_payout_minor", rule) from None
        return self

    def limits(self) -> Limits:
        """The limits of bets. Raises ValueError if they contradict each other."""
        return Limits(
            min_stake_minor=self.min_stake_minor,
            max_stake_minor=self.max_stake_minor,
            max_payout_minor=self.max_payout_minor,
            max_open_bets=self.max_open_bets,
        ).check()
