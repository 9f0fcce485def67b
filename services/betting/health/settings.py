"""Settings of health-monitor: what it watches besides the instances of bet-service, which it finds in Postgres."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from betting.health.observations import MonitoredInstance
from betting.runtime.settings import ServiceSettings, split_address

_PEERS = {
    "user-service": "user_service",
    "wallet-service": "wallet_service",
    "event-service": "event_service",
    "odds-service": "odds_service",
    "settlement-service": "settlement_service",
    "notification-service": "notification_service",
    "health-monitor": "health_monitor",
}


class HealthSettings(ServiceSettings):
    """The peers every service knows are asked anyway."""

    # Further instances to monitor, as "service=host:port,service=host:port": the gateway's gRPC address, second
    # instances, feeds, the healer (for its alerts). A host name with several addresses (a headless Service) means all
    # of them.
    monitored: str = ""
    # Interval of probes.
    poll_interval: timedelta = Field(default=timedelta(seconds=2), gt=timedelta(0), le=timedelta(minutes=10))
    # Timeout of a probe.
    probe_timeout: timedelta = Field(default=timedelta(milliseconds=800), gt=timedelta(0), le=timedelta(minutes=1))
    # How often all bets are counted.
    recount_interval: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0), le=timedelta(days=30))

    @field_validator("monitored")
    @classmethod
    def _monitored_names_services_and_addresses(cls, value: str) -> str:
        for service, address in _pairs(value):
            if not service:
                raise ValueError('write it as "service=host:port,service=host:port"')
            split_address(address)
        return value

    def watched(self) -> list[MonitoredInstance]:
        """Everything to ask that is configured, each once."""
        peers = [
            MonitoredInstance(service, getattr(self, field))
            for service, field in _PEERS.items()
            if getattr(self, field)
        ]
        more = [MonitoredInstance(service, address) for service, address in _pairs(self.monitored)]
        return list(dict.fromkeys([*peers, *more]))


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [(service.strip(), address.strip()) for service, _, address in (part.partition("=") for part in parts)]
