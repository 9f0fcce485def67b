"""What a service process is told by its environment (variables BETTING_*)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from betting.runtime import currencies
from betting.runtime.errors import ConfigurationError

ENVIRONMENT_PREFIX = "BETTING_"
# Instance and boot id together are Postgres' application_name, of which it keeps 63 bytes.
INSTANCE_LENGTH_MAX = 46
SECRET_LENGTH_MIN = 32

_INSTANCE = re.compile(rf"[a-zA-Z0-9]([a-zA-Z0-9.-]{{0,{INSTANCE_LENGTH_MAX - 1}}})")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(\d{1,5})")


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound="ServiceSettings")


def _plain_numbers_are_seconds(value: object) -> object:
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) else value


# "2.5" (seconds) or ISO 8601 ("PT2.5S").
Duration = Annotated[timedelta, BeforeValidator(_plain_numbers_are_seconds)]


class ServiceSettings(BaseSettings):
    """Settings of every service; a service with more of its own extends this class."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    instance: str
    grpc_address: str
    metrics_address: str | None = None
    # Health and diagnostics on threads of their own: they answer also while the main loop does not.
    health_address: str | None = None
    postgres_dsn: str = Field(default="", repr=False)
    redis_url: str = Field(default="", repr=False)
    internal_secret: SecretStr

    user_service: str = ""
    wallet_service: str = ""
    event_service: str = ""
    odds_service: str = ""
    settlement_service: str = ""
    notification_service: str = ""
    health_monitor: str = ""

    drain_timeout: Duration = timedelta(seconds=20)
    default_deadline: Duration = timedelta(seconds=5)
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    # Places and queue of each class of methods (see runtime.method).
    server_in_flight: int = Field(default=10, ge=1, le=10_000)
    server_queued: int = Field(default=100, ge=0, le=100_000)
    shard_count: int = Field(default=16, ge=1, le=65_536)
    # ISO 4217 codes that accounts may be in. Keep a code for as long as anybody has an account in it.
    currencies: str = "GBP,EUR,USD"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("instance")
    @classmethod
    def _instance_is_a_name(cls, value: str) -> str:
        if not _INSTANCE.fullmatch(value):
            raise ValueError(f"use 1 to {INSTANCE_LENGTH_MAX} letters, digits, dots and dashes")
        return value

    @field_validator("grpc_address", "metrics_address", "health_address")
    @classmethod
    def _address_has_host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("currencies")
    @classmethod
    def _currencies_are_known(cls, value: str) -> str:
        return ",".join(currencies.parsed(value))

    @field_validator("internal_secret")
    @classmethod
    def _secret_is_long_hex(cls, value: SecretStr) -> SecretStr:
        try:
            length = len(bytes.fromhex(value.get_secret_value()))
        except ValueError:
            length = 0
        if length < SECRET_LENGTH_MIN:
            raise ValueError(f"give at least {SECRET_LENGTH_MIN} random bytes as hexadecimal digits")
        return value

    @property
    def currency_codes(self) -> tuple[str, ...]:
        """The currencies that accounts may be in."""
        return currencies.parsed(self.currencies)

    @property
    def internal_secret_bytes(self) -> bytes:
        """The key that principals are signed with."""
        return bytes.fromhex(self.internal_secret.get_secret_value())


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ValueError."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise ValueError("give host:port, for example 127.0.0.1:7101")
    return match[1].strip("[]"), int(match[2])


def load(settings_type: type[S]) -> S:
    """Reads the environment. Raises ConfigurationError that names each variable missing or wrong, never its value."""
    try:
        return settings_type()  # type: ignore[call-arg]  # the environment gives them
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaint(item) for item in error.errors(include_input=False))) from None


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + field.upper()


def _complaint(item: ErrorDetails) -> str:
    name = variable(str(item["loc"][0])) if item["loc"] else "the environment"
    if item["type"] == "missing":
        return f"{name} is not set"
    return f"{name} is wrong: {item['msg'].removeprefix('Value error, ')}"
