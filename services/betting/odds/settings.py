"""Settings of odds-service."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from betting.odds import hub
from betting.runtime.settings import Duration, ServiceSettings


class OddsSettings(ServiceSettings):
    """The environment of odds-service (BETTING_*)."""

    # A producer owes a sign of life every 10 s; after this long without one its markets are suspended.
    producer_silence: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0))
    # How often closings and silences are looked for.
    tick: Duration = Field(default=timedelta(milliseconds=200), gt=timedelta(0))
    # How often watchers get a sign of life; bet-services call their book stale after three without.
    beat: Duration = Field(default=timedelta(seconds=1), gt=timedelta(0))
    # Another odds-service's beat older than this is that of a dead one.
    takeover_after: Duration = Field(default=timedelta(seconds=5), gt=timedelta(0))
    watcher_queue: int = Field(default=hub.QUEUED_MESSAGES_MAX, ge=1, le=100_000)
    watchers: int = Field(default=hub.WATCHERS_MAX, ge=1, le=1_000_000)
    # Older versions of prices are deleted; 0 keeps them for ever.
    history_days: int = Field(default=400, ge=0)
