"""Settings of the season replay."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from pydantic import Field

from betting.feeds.seasons import DEFAULT_SEASON
from betting.runtime.settings import Duration, ServiceSettings

# At speed 1 the first kick-off is this far ahead; faster seasons start sooner, but leave time to sign up and bet.
LEAD_IN_MAX = timedelta(minutes=5)
LEAD_IN_MIN = timedelta(seconds=20)


class ReplaySettings(ServiceSettings):
    """The environment of the season replay (BETTING_*); `--season` and `--speed` set the first two."""

    # A shipped season's name, or the path of a season file.
    season: str = DEFAULT_SEASON
    # Whether goals count where other cells of their line contradict them; such a match has no bets otherwise.
    trust_goals: bool = False
    # Season seconds per wall second: 1 is life's pace, 60480 a season week in ten seconds. Counts when a replay begins;
    # afterwards the stored timetable does.
    speed: Decimal = Field(
        default=Decimal(1), ge=Decimal("0.001"), le=Decimal(1_000_000), max_digits=10, decimal_places=3
    )
    # Wall time to the first kick-off; unset: five minutes divided by the speed, at least 20 seconds.
    lead_in: Duration | None = Field(default=None, gt=timedelta(0))
    # How long before kick-off a match opens: days of the season ...
    open_days: int = Field(default=14, ge=1, le=365)
    # ... but at least this much wall time.
    open_at_least: Duration = Field(default=timedelta(seconds=20), gt=timedelta(0))
    # Whether a season that has ended begins anew, as other events.
    repeat: bool = True
    # How often the replay looks what is due.
    tick: Duration = Field(default=timedelta(milliseconds=250), gt=timedelta(0))
    # A sign of life at least this often; odds-service expects one every 10 s.
    alive: Duration = Field(default=timedelta(seconds=4), gt=timedelta(0), le=timedelta(seconds=5))
    # What waits for a person is said again this often.
    remind: Duration = Field(default=timedelta(hours=1), gt=timedelta(0))
    # A match that a service refuses for good is tried again this often.
    retry_refused: Duration = Field(default=timedelta(seconds=30), gt=timedelta(0))

    def speed_thousandths(self) -> int:
        """The speed as the timetable keeps it."""
        return int(self.speed * 1000)

    def lead_in_us(self) -> int:
        """Wall time to the first kick-off in microseconds."""
        chosen = self.lead_in or max(LEAD_IN_MIN, min(LEAD_IN_MAX, LEAD_IN_MAX / float(self.speed)))
        return chosen // timedelta(microseconds=1)
