"""Settings of the gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field, field_validator

from betting.runtime.settings import ServiceSettings, split_address

COUNT_MAX = 100_000_000
# The name of a header (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: tokens per second, and the burst."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError(f"a rate needs per_s above 0 and a burst of at least 1, not {self.per_s} and {self.burst}")


class GatewaySettings(ServiceSettings):
    """Rates are per second; a burst is how much may come at once. N gateways together keep roughly one limit."""

    # Address that serves HTTP.
    http_address: str = "127.0.0.1:8080"
    # Allowed origins of browsers (CORS): "*", or a comma-separated list. Credentials (cookies) are never used.
    cors_origins: str = "*"
    # Further request headers of browsers, besides those of the protocols and common tracers: comma-separated.
    cors_headers: str = ""
    # Number of proxies in front that append to X-Forwarded-For; 0: the peer's address is used.
    trusted_proxies: int = Field(default=0, ge=0, le=10)

    # Maximum size of a request body.
    request_bytes_max: int = Field(default=1 << 20, ge=1_024, le=16 << 20)
    # Maximum timeout of a request.
    request_timeout_max: timedelta = Field(default=timedelta(seconds=60), gt=timedelta(0), le=timedelta(hours=1))
    # Timeout of a request without a deadline.
    request_timeout: timedelta = Field(default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(hours=1))
    # Time to send a whole head, and then a whole body; also for the first request of a connection.
    receive_timeout: timedelta = Field(default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(hours=1))
    # How long a client may leave data unread while it blocks a reply or a stream.
    send_timeout: timedelta = Field(default=timedelta(seconds=30), gt=timedelta(0), le=timedelta(hours=1))
    # How long an idle connection is kept open.
    keepalive_timeout: timedelta = Field(default=timedelta(seconds=75), gt=timedelta(0), le=timedelta(hours=24))

    # Limits in all, for each address and for each user. Requests, streams and live connections of a signed-in user
    # count for the user, anonymous ones for the address (IPv6: the /64). Behind trusted proxies connections are not
    # limited by address, which is that of the proxy.
    connections_max: int = Field(default=10_000, ge=1, le=COUNT_MAX)
    connections_per_address_max: int = Field(default=2_000, ge=1, le=COUNT_MAX)
    requests_max: int = Field(default=5_000, ge=1, le=COUNT_MAX)
    requests_per_address_max: int = Field(default=500, ge=1, le=COUNT_MAX)
    requests_per_user_max: int = Field(default=500, ge=1, le=COUNT_MAX)
    streams_max: int = Field(default=1_000, ge=1, le=COUNT_MAX)
    streams_per_address_max: int = Field(default=100, ge=1, le=COUNT_MAX)
    streams_per_user_max: int = Field(default=100, ge=1, le=COUNT_MAX)
    live_connections_max: int = Field(default=8_000, ge=1, le=COUNT_MAX)
    # Live connections that are not signed in yet; they must sign in within `receive_timeout`.
    live_connections_per_address_max: int = Field(default=1_000, ge=1, le=COUNT_MAX)
    live_connections_per_user_max: int = Field(default=20, ge=1, le=COUNT_MAX)
    # Maximum number of callers that wait for one shard.
    held_per_shard_max: int = Field(default=2_000, ge=1, le=COUNT_MAX)
    # Maximum number of verified access tokens in the cache.
    tokens_cached_max: int = Field(default=100_000, ge=1, le=COUNT_MAX)

    # Bets, deposits and withdrawals per second; a request with 500 bets counts as 500.
    money_per_user_s: float = Field(default=100.0, gt=0, le=COUNT_MAX)
    money_per_user_burst: float = Field(default=1_000.0, ge=1, le=COUNT_MAX)
    # Other calls of one user.
    reads_per_user_s: float = Field(default=100.0, gt=0, le=COUNT_MAX)
    reads_per_user_burst: float = Field(default=500.0, ge=1, le=COUNT_MAX)
    # All requests of one remote address, signed in or not.
    requests_per_address_s: float = Field(default=5_000.0, gt=0, le=COUNT_MAX)
    requests_per_address_burst: float = Field(default=10_000.0, ge=1, le=COUNT_MAX)
    # Registrations, logins and refreshes of one remote address.
    sign_ins_per_address_s: float = Field(default=20.0, gt=0, le=COUNT_MAX)
    sign_ins_per_address_burst: float = Field(default=200.0, ge=1, le=COUNT_MAX)
    # How often the gateways synchronise rate limits through Redis.
    limits_sync_interval: timedelta = Field(
        default=timedelta(milliseconds=500), gt=timedelta(0), le=timedelta(minutes=1)
    )

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
        """The rate limit of bets, deposits and withdrawals of one user."""
        return Rate(self.money_per_user_s, self.money_per_user_burst)

    @property
    def read_rate(self) -> Rate:
        """The rate limit of all other calls of one user."""
        return Rate(self.reads_per_user_s, self.reads_per_user_burst)

    @property
    def address_rate(self) -> Rate:
        """The rate limit of all requests of one address."""
        return Rate(self.requests_per_address_s, self.requests_per_address_burst)

    @property
    def sign_in_rate(self) -> Rate:
        """The rate limit of registrations, logins and refreshes of one address."""
        return Rate(self.sign_ins_per_address_s, self.sign_ins_per_address_burst)
