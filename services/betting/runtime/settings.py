"""What a service process is told by its environment (variables BETTING_*)."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from betting.runtime import currencies
from betting.runtime.errors import ConfigurationError
from betting.runtime.variables import VARIABLES

ENVIRONMENT_PREFIX = "BETTING_"
# What Kubernetes allows a pod's host name (RFC 1123).
INSTANCE_LENGTH_MAX = 63
SECRET_LENGTH_MIN = 32

_INSTANCE = re.compile(rf"[a-zA-Z0-9]([a-zA-Z0-9.-]{{0,{INSTANCE_LENGTH_MAX - 1}}})")
_KUBERNETES = re.compile(
    r"(BETTING_[A-Z0-9_]+?)_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::", "0", "*"})  # noqa: S104
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(\d{1,5})")


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound="ServiceSettings")


# "2.5" (seconds) or ISO 8601 ("PT2.5S"), as for every timedelta of settings.
Duration = timedelta


class ServiceSettings(BaseSettings):
    """Settings of every service; a service with more of its own extends this class.

    The comment above a setting describes it in docs/operating/settings.md.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Name of this process, such as its pod's: 1 to 63 letters, digits, dots and dashes.
    instance: str
    # Where gRPC is served. Port 0 is any free one.
    grpc_address: str
    # Where other services reach this instance, written down for them; unset: grpc_address.
    advertised_address: str = ""
    # Where Prometheus metrics are served over HTTP; unset: nowhere.
    metrics_address: str | None = None
    # Health and diagnostics on threads of their own (host:port): they answer also while the main loop does not.
    health_address: str | None = None
    # The database: postgresql://user:password@host:5432/betting.
    postgres_dsn: str = Field(default="", repr=False)
    # Redis: redis://:password@host:6379/0; several nodes of which one is primary: host1:6379,host2:6379.
    redis_url: str = Field(default="", repr=False)
    # At least 32 random bytes as hexadecimal digits, the same for every service: what they sign their calls with.
    internal_secret: SecretStr

    # Where user-service serves gRPC, host:port; like the others below, unset where it is not part of the installation.
    user_service: str = ""
    wallet_service: str = ""
    event_service: str = ""
    odds_service: str = ""
    settlement_service: str = ""
    notification_service: str = ""
    health_monitor: str = ""

    # After SIGTERM: between saying "not serving" and finishing, so that whoever balances load looks elsewhere first.
    drain_delay: Duration = Field(default=timedelta(0), ge=timedelta(0), le=timedelta(minutes=10))
    # After that: how long calls in flight and what is handed over may take.
    drain_timeout: Duration = timedelta(seconds=20)
    # Of a call that comes without a deadline.
    default_deadline: Duration = timedelta(seconds=5)
    # Longest gRPC message that is taken or sent.
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    # Calls of one class of methods (see runtime.method) answered side by side; others wait for a place.
    server_in_flight: int = Field(default=10, ge=1, le=10_000)
    # Calls that wait for a place; more are refused.
    server_queued: int = Field(default=100, ge=0, le=100_000)
    # Number of shards the platform was installed with; it cannot change.
    shard_count: int = Field(default=16, ge=1, le=65_536)
    # ISO 4217 codes that accounts may be in. Keep a code for as long as anybody has an account in it.
    currencies: str = "GBP,EUR,USD"
    # Least level that is logged.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # One JSON object a line, or lines for people.
    log_format: Literal["json", "console"] = "json"
    # Faults on request: SIGUSR2 steps the wall clock, SIGUSR1 silences a feed. Otherwise both are logged and ignored.
    fault_hooks: bool = False

    @field_validator("instance")
    @classmethod
    def _instance_is_a_name(cls, value: str) -> str:
        if not _INSTANCE.fullmatch(value):
            raise ValueError(f"use 1 to {INSTANCE_LENGTH_MAX} letters, digits, dots and dashes")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _plain_numbers_are_seconds(cls, value: object, info: ValidationInfo) -> object:
        """For every duration, of this class and of those that extend it."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if timedelta in (annotation, *get_args(annotation)) and isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
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

    @field_validator("advertised_address")
    @classmethod
    def _advertised_address_leads_here(cls, value: str) -> str:
        if value and (split_address(value)[0] in _EVERY_INTERFACE or split_address(value)[1] == 0):
            raise ValueError("give the host and the port by which other services reach this instance")
        return value

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
    def address_for_others(self) -> str:
        """What is written down for other services: host:port. Raises ConfigurationError if it would lead nowhere."""
        if not self.advertised_address and split_address(self.grpc_address)[0] in _EVERY_INTERFACE:
            raise ConfigurationError(
                f"BETTING_ADVERTISED_ADDRESS is not set, and nobody else reaches {self.grpc_address}, which stands for "
                "every interface here: set it to this instance's own host:port"
            )
        return self.advertised_address or self.grpc_address

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
    """Reads the environment. Raises ConfigurationError that names each variable missing, wrong or unknown.

    Never with its value, which may be a secret.
    """
    complaints = unknown_variables(os.environ, map(variable, settings_type.model_fields))
    try:
        found = settings_type()  # type: ignore[call-arg]  # the environment gives them
    except ValidationError as error:
        complaints += [_complaint(item) for item in error.errors(include_input=False)]
        found = None
    if found is None or complaints:
        raise ConfigurationError("; ".join(complaints))
    return found


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + field.upper()


def unknown_variables(environment: Mapping[str, str], more: Iterable[str] = ()) -> list[str]:
    """One sentence for each variable BETTING_* that no part of the platform reads, with the nearest one that is read.

    A variable of another service is none of them: one environment may serve all. Nor are those that Kubernetes puts
    into every container for a Service whose name begins with "betting".
    """
    known = {*VARIABLES, *more}
    found = [name for name in sorted(environment) if name.upper().startswith(ENVIRONMENT_PREFIX)]
    return [
        _unknown(name, known)
        for name in found
        if name.upper() not in known and not _of_a_kubernetes_service(name, environment)
    ]


def _unknown(name: str, known: Iterable[str]) -> str:
    begin = len(ENVIRONMENT_PREFIX)
    near = difflib.get_close_matches(name.upper()[begin:], [each[begin:] for each in known], n=1)
    hint = f"did you mean {ENVIRONMENT_PREFIX}{near[0]}?" if near else "see docs/operating/settings.md"
    return f"{name} is not a setting: {hint}"


def _of_a_kubernetes_service(name: str, environment: Mapping[str, str]) -> bool:
    """{NAME}_SERVICE_HOST, {NAME}_SERVICE_PORT…, {NAME}_PORT… (kubernetes.io/docs/concepts/services-networking)."""
    match = _KUBERNETES.fullmatch(name)
    return match is not None and f"{match[1]}_SERVICE_HOST" in environment


def _complaint(item: ErrorDetails) -> str:
    name = variable(str(item["loc"][0])) if item["loc"] else "the environment"
    if item["type"] == "missing":
        return f"{name} is not set"
    return f"{name} is wrong: {item['msg'].removeprefix('Value error, ')}"
