"""Settings of the season replay."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from pydantic import Field

from betting.feeds.seasons import DEFAULT_SEASON
from betting.runtime.settings import Duration, ServiceSettings

# At speed 1 the first kick-off is this far ahead; faster seasons start sooner, but leave time to sign up and bet.
LEAD_IN_MAX = timedelta(minutes=5)
LEAD_IN_MIN = timedelta(seconds=30)


class ReplaySettings(ServiceSettings):
    """The environment of the season replay (BETTING_*); `--season` and `--speed` set the first two."""

    # Name of a shipped season, or path of a season file.
    season: str = DEFAULT_SEASON
    # Use the goals of a match even if other cells of its line contradict them. If false, such a match has no bets.
    trust_goals: bool = False
    # Seconds of the season per real second: 60480 plays a week of the season in ten seconds. Used when a replay begins;
    # afterwards the stored timetable is used.
    speed: Decimal = Field(
        default=Decimal(1), ge=Decimal("0.001"), le=Decimal(1_000_000), max_digits=10, decimal_places=3
    )
    # Real time to the first kick-off; unset: five minutes divided by the speed, at least 30 seconds.
    lead_in: Duration | None = Field(default=None, gt=timedelta(0), le=timedelta(days=365))
    # How long before kick-off a match opens, in days of the season ...
    open_days: int = Field(default=14, ge=1, le=365)
    # ... but at least this much real time.
    open_at_least: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0), le=timedelta(days=365))
    # Whether a season that has ended starts again, with new events.
    repeat: bool = True
    # Interval of the replay's loops.
    tick: Duration = Field(default=timedelta(milliseconds=250), gt=timedelta(0), le=timedelta(seconds=5))
    # Maximum interval of heartbeats; odds-service expects one every 10 s.
    alive: Duration = Field(default=timedelta(seconds=4), gt=timedelta(0), le=timedelta(seconds=5))
    # How often matches that wait for an operator are logged again.
    remind: Duration = Field(default=timedelta(hours=1), gt=timedelta(0), le=timedelta(days=365))
    # How often a match that a service has refused is tried again.
    retry_refused: Duration = Field(default=timedelta(seconds=30), gt=timedelta(0), le=timedelta(days=1))

    def speed_thousandths(self) -> int:
        """The speed as the timetable keeps it."""
        return int(self.speed * 1000)

    def lead_in_us(self) -> int:
        """Wall time to the first kick-off in microseconds."""
        chosen = self.lead_in or max(LEAD_IN_MIN, min(LEAD_IN_MAX, LEAD_IN_MAX / float(self.speed)))
        return chosen // timedelta(microseconds=1)
