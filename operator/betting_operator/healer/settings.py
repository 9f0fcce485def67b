"""Settings of the healer (BETTING_*)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from betting.runtime.settings import ServiceSettings, split_address
from betting_operator.healing.policy import Policy


class HealerSettings(ServiceSettings):
    """The settings of the healer. `healing.policy` refuses a budget that cannot work."""

    # Address of the supervisor, host:port.
    supervisor: str
    # Folder of the flight record.
    flight_folder: Path
    # Interval of the healing loop while something is wrong; otherwise twice as long.
    tick: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(seconds=1))

    # Repeated kills of one service that are allowed within five minutes.
    heal_budget: int = Field(default=Policy().disruptions_per_window, ge=1, le=10_000)

    @field_validator("supervisor")
    @classmethod
    def _supervisor_has_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value
