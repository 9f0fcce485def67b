"""Settings of odds-service."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from betting.odds import hub
from betting.runtime import election
from betting.runtime.settings import Duration, ServiceSettings, disagreement, variable


class OddsSettings(ServiceSettings):
    """The environment of odds-service (BETTING_*)."""

    # A producer must send a heartbeat every 10 s; after this time without one its markets are suspended.
    producer_silence: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0), le=timedelta(days=1))
    # How often closing times and silent producers are checked, and by a standby the heartbeat of the active process.
    tick: Duration = Field(default=timedelta(milliseconds=200), gt=timedelta(0), le=timedelta(milliseconds=500))
    # How often watchers get a heartbeat; bet-services consider their price book stale after three missing ones.
    beat: Duration = Field(default=timedelta(seconds=1), gt=timedelta(0), le=timedelta(minutes=1))
    # A standby takes over when it has seen no heartbeat of the active process for this time.
    takeover_after: Duration = Field(
        default=timedelta(seconds=election.SILENT_AFTER_S), gt=timedelta(0), le=timedelta(hours=1)
    )
    # Messages queued for one watcher; the stream of a watcher that is further behind ends.
    watcher_queue: int = Field(default=hub.QUEUED_MESSAGES_MAX, ge=1, le=100_000)
    # Maximum number of price streams.
    watchers: int = Field(default=hub.WATCHERS_MAX, ge=1, le=1_000_000)
    # Older versions of prices are deleted; 0 keeps all.
    history_days: int = Field(default=400, ge=0, le=36_500)

    @model_validator(mode="after")
    def _the_active_one_beats_in_time(self) -> OddsSettings:
        if self.takeover_after < 2 * self.beat:
            rule = f"give at least twice {variable('beat')} ({self.beat.total_seconds():g} s), or a standby takes over "
            raise disagreement(self, "takeover_after", rule + "between two beats")
        return self
