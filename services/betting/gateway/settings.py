"""What the gateway can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field, field_validator

from betting.runtime.settings import ServiceSettings, split_address

# The name of a header (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit: so many a second on average, so many at once."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError(f"a rate needs per_s above 0 and a burst of at least 1, not {self.per_s} and {self.burst}")


class GatewaySettings(ServiceSettings):
    """Rates are per second; a burst is how much may come at once. N gateways together keep roughly one limit."""

    http_address: str = "127.0.0.1:8080"
    # Origins browsers may call from: "*", or a comma-separated list. Credentials (cookies) are never used.
    cors_origins: str = "*"
    # Request headers that browsers may send besides those the protocols and the usual tracers need: comma-separated.
    cors_headers: str = ""
    # Proxies in front that append to X-Forwarded-For; 0: the peer's own address counts.
    trusted_proxies: int = Field(default=0, ge=0, le=10)

    request_bytes_max: int = Field(default=1 << 20, ge=1_024, le=16 << 20)
    # Longest a caller may make us wait, whatever deadline it asks for, and what it gets when it asks for none.
    request_timeout_max: timedelta = timedelta(seconds=60)
    request_timeout: timedelta = timedelta(seconds=10)
    # Time to send a whole head, and again a whole body, once it has begun; also for the first request of a connection.
    receive_timeout: timedelta = timedelta(seconds=10)
    # How long a client may leave what it was sent unread, when that holds up an answer or a stream.
    send_timeout: timedelta = timedelta(seconds=30)
    keepalive_timeout: timedelta = timedelta(seconds=75)

    # Places, shared out: nobody can use up everybody's. A signed-in user's requests, streams and live connections count
    # for the user, anonymous ones for the address (IPv6: the /64). An address's connections are not limited behind
    # trusted proxies: all have theirs.
    connections_max: int = Field(default=10_000, ge=1)
    connections_per_address_max: int = Field(default=2_000, ge=1)
    requests_max: int = Field(default=5_000, ge=1)
    requests_per_address_max: int = Field(default=500, ge=1)
    requests_per_user_max: int = Field(default=500, ge=1)
    streams_max: int = Field(default=1_000, ge=1)
    streams_per_address_max: int = Field(default=100, ge=1)
    streams_per_user_max: int = Field(default=100, ge=1)
    live_connections_max: int = Field(default=8_000, ge=1)
    # Those that are not signed in yet: they have `receive_timeout` for it.
    live_connections_per_address_max: int = Field(default=1_000, ge=1)
    live_connections_per_user_max: int = Field(default=20, ge=1)
    held_per_shard_max: int = Field(default=2_000, ge=1)
    tokens_cached_max: int = Field(default=100_000, ge=1)

    # A bet, deposit or withdrawal is one; a request with 500 bets is 500.
    money_per_user_s: float = Field(default=100.0, gt=0)
    money_per_user_burst: float = Field(default=1_000.0, ge=1)
    reads_per_user_s: float = Field(default=100.0, gt=0)
    reads_per_user_burst: float = Field(default=500.0, ge=1)
    # All requests of one remote address, signed in or not.
    requests_per_address_s: float = Field(default=5_000.0, gt=0)
    requests_per_address_burst: float = Field(default=10_000.0, ge=1)
    # Registering, logging in and refreshing, per remote address.
    sign_ins_per_address_s: float = Field(default=20.0, gt=0)
    sign_ins_per_address_burst: float = Field(default=200.0, ge=1)
    limits_sync_interval: timedelta = timedelta(milliseconds=500)

    @field_validator("http_address")
    @classmethod
    def _http_address_has_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        for origin in value.split(","):
            if origin.strip() != "*" and "://" not in origin:
                raise ValueError("give *, or origins like https://bets.example separated by commas")
        return value

    @field_validator("cors_headers")
    @classmethod
    def _headers_are_headers(cls, value: str) -> str:
        for name in filter(None, (each.strip() for each in value.split(","))):
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header: give names like x-request-id separated by commas")
        return value

    @property
    def money_rate(self) -> Rate:
        """Money moves of one user."""
        return Rate(self.money_per_user_s, self.money_per_user_burst)

    @property
    def read_rate(self) -> Rate:
        """Other calls of one user."""
        return Rate(self.reads_per_user_s, self.reads_per_user_burst)

    @property
    def address_rate(self) -> Rate:
        """All requests of one address."""
        return Rate(self.requests_per_address_s, self.requests_per_address_burst)

    @property
    def sign_in_rate(self) -> Rate:
        """Sign-ins of one address."""
        return Rate(self.sign_ins_per_address_s, self.sign_ins_per_address_burst)
