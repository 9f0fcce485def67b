"""Settings of odds-service."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from betting.odds import hub
from betting.runtime import election
from betting.runtime.settings import Duration, ServiceSettings, variable


class OddsSettings(ServiceSettings):
    """The environment of odds-service (BETTING_*)."""

    # A producer owes a sign of life every 10 s; after this long without one its markets are suspended.
    producer_silence: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0))
    # How often closings and silences are looked for, and, by a standby, whether the active one still beats.
    tick: Duration = Field(default=timedelta(milliseconds=200), gt=timedelta(0), le=timedelta(milliseconds=500))
    # How often watchers get a sign of life; bet-services call their book stale after three without.
    beat: Duration = Field(default=timedelta(seconds=1), gt=timedelta(0))
    # A standby takes over from an active odds-service whose beat it has not seen for so long.
    takeover_after: Duration = Field(default=timedelta(seconds=election.SILENT_AFTER_S), gt=timedelta(0))
    watcher_queue: int = Field(default=hub.QUEUED_MESSAGES_MAX, ge=1, le=100_000)
    watchers: int = Field(default=hub.WATCHERS_MAX, ge=1, le=1_000_000)
    # Older versions of prices are deleted; 0 keeps them for ever.
    history_days: int = Field(default=400, ge=0)

    @model_validator(mode="after")
    def _the_active_one_beats_in_time(self) -> OddsSettings:
        if self.takeover_after < 2 * self.beat:
            raise ValueError(
                f"{variable('takeover_after')} is {self.takeover_after.total_seconds():g} s: give at least twice"
                f" {variable('beat')} ({self.beat.total_seconds():g} s), or a standby takes over between two beats"
            )
        return self
