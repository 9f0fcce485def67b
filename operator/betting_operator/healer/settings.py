"""Settings of the healer (BETTING_*)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from betting.runtime.settings import ServiceSettings, split_address
from betting_operator.healing.policy import Policy


class HealerSettings(ServiceSettings):
    """supervisor: address of the supervisor whose processes are healed.

    heal_budget: how many repeated kills of a service five minutes may hold (see healing.policy, which refuses what
    cannot work).
    """

    supervisor: str
    flight_folder: Path
    tick: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(seconds=1))

    heal_budget: int = Policy().disruptions_per_window

    @field_validator("supervisor")
    @classmethod
    def _supervisor_has_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value
