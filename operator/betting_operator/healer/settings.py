"""Settings of the healer (BETTING_*)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from betting.runtime.settings import ServiceSettings, split_address
from betting_operator.healing.policy import Policy


class HealerSettings(ServiceSettings):
    """supervisor: its address; probed: every instance, as "wallet-service=127.0.0.1:7005,…"; redis_nodes: likewise.

    heal_budget: how many kills five minutes may hold (see healing.policy, which refuses what cannot work).
    """

    supervisor: str
    probed: str
    redis_nodes: str
    flight_folder: Path
    tick: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(seconds=1))

    heal_budget: int = Policy().dear_per_window

    @field_validator("supervisor")
    @classmethod
    def _supervisor_has_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("probed", "redis_nodes")
    @classmethod
    def _names_instances(cls, value: str) -> str:
        for pair in filter(None, value.split(",")):
            instance, _, address = pair.partition("=")
            if not instance:
                raise ValueError('write it as "instance=host:port,instance=host:port"')
            split_address(address)
        return value

    def addresses(self) -> dict[str, str]:
        """Where to ask, by instance."""
        return _by_name(self.probed)

    def redis_urls(self) -> dict[str, str]:
        """Every Redis node by its name; the password is that of `redis_url`."""
        credentials, at, _hosts = urlsplit(self.redis_url).netloc.rpartition("@")
        return {name: f"redis://{credentials}{at}{address}/0" for name, address in _by_name(self.redis_nodes).items()}


def _by_name(pairs: str) -> dict[str, str]:
    return {name: address for name, _, address in (pair.partition("=") for pair in pairs.split(",") if pair)}
