"""The settings of a service process: environment variables BETTING_*."""

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
# The exit code of a process that refuses its settings.
EXIT_CONFIGURATION = 2

VALUE_SHOWN_MAX = 60

_INSTANCE = re.compile(rf"[a-zA-Z0-9]([a-zA-Z0-9.-]{{0,{INSTANCE_LENGTH_MAX - 1}}})")
_KUBERNETES = re.compile(
    r"(BETTING_[A-Z0-9_]+?)_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::", "0", "*"})  # noqa: S104
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(\d{1,5})")


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseSettings)


# "2.5" (seconds) or ISO 8601 ("PT2.5S"), as for every timedelta of settings.
Duration = timedelta


class ServiceSettings(BaseSettings):
    """Settings of every service; a service with more of its own extends this class.

    The comment above a setting describes it in docs/operating/settings.md.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Name of this instance, such as its pod's name: 1 to 63 letters, digits, dots and dashes.
    instance: str
    # Address that serves gRPC. Port 0 is any free one.
    grpc_address: str
    # Address under which other services reach this instance; unset: grpc_address.
    advertised_address: str = ""
    # Address that serves Prometheus metrics over HTTP; unset: none.
    metrics_address: str | None = None
    # Address of the health server, which has threads of its own and answers also while the main loop is blocked.
    health_address: str | None = None
    # The database: postgresql://user:password@host:5432/betting.
    postgres_dsn: str = Field(default="", repr=False)
    # Redis: redis://:password@host:6379/0; several nodes of which one is primary: host1:6379,host2:6379;
    # one name for all nodes, each address of it one: redis+dns://:password@host:6379/0.
    redis_url: str = Field(default="", repr=False)
    # At least 32 random bytes as hexadecimal digits, the same for every service. It signs the calls between them.
    internal_secret: SecretStr

    # Address of user-service, host:port. This and the addresses below are unset if the service is not installed.
    user_service: str = ""
    wallet_service: str = ""
    event_service: str = ""
    odds_service: str = ""
    settlement_service: str = ""
    notification_service: str = ""
    health_monitor: str = ""

    # After SIGTERM: the time between NOT_SERVING and draining, so that load balancers stop sending calls first.
    drain_delay: Duration = Field(default=timedelta(0), ge=timedelta(0), le=timedelta(minutes=10))
    # After the drain delay: how long calls in flight and hand-overs may take.
    drain_timeout: Duration = Field(default=timedelta(seconds=20), ge=timedelta(0), le=timedelta(hours=1))
    # Deadline of calls without one.
    default_deadline: Duration = Field(default=timedelta(seconds=5), gt=timedelta(0), le=timedelta(hours=1))
    # Largest gRPC message that is accepted or sent.
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    # Calls of one class of methods (see runtime.method) in flight; further calls are queued.
    server_in_flight: int = Field(default=10, ge=1, le=10_000)
    # Queued calls of one class of methods; further calls are refused.
    server_queued: int = Field(default=100, ge=0, le=100_000)
    # Number of shards the platform was installed with; it cannot change.
    shard_count: int = Field(default=16, ge=1, le=65_536)
    # ISO 4217 codes that accounts may be in. Keep a code while any account uses it.
    currencies: str = "GBP,EUR,USD"
    # Lowest level that is logged.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # One JSON object per line, or text for people.
    log_format: Literal["json", "console"] = "json"
    # Fault injection: SIGUSR2 steps the wall clock, SIGUSR1 silences a feed. If false, both are logged and ignored.
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
        """The address under which other services reach this one: host:port.

        Raises ConfigurationError for one that leads nowhere.
        """
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

    A wrong value is shown, unless the variable is one of those that hold a secret; that of an unknown one never is.
    """
    complaints = unknown_variables(os.environ, map(variable, settings_type.model_fields))
    try:
        found = settings_type()
    except ValidationError as error:
        complaints += [_complaint(item, settings_type) for item in error.errors(include_input=False)]
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


def _complaint(item: ErrorDetails, settings_type: type[BaseSettings]) -> str:
    message = item["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    if not item["loc"]:  # of several settings together: it names them
        return message
    field = str(item["loc"][0]).lower()
    if item["type"] == "missing":
        return f"{variable(field)} is not set"
    return f"{variable(field)} is wrong: {message}{_shown(field, settings_type)}"


def _shown(field: str, settings_type: type[BaseSettings]) -> str:
    """The value of a variable, as the end of a sentence; nothing for a secret."""
    info = settings_type.model_fields[field]
    found = [value for name, value in os.environ.items() if name.upper() == variable(field)]
    if not found or not info.repr or info.annotation is SecretStr:
        return ""
    return f", not {found[0][:VALUE_SHOWN_MAX]!a}"


def disagreement(settings: ServiceSettings, field: str, rule: str) -> ValueError:
    """The error of a setting that does not go with others; `rule` says what is right ("give at least …")."""
    value = getattr(settings, field)
    shown = f"{value.total_seconds():.15g} s" if isinstance(value, timedelta) else value
    return ValueError(f"{variable(field)} is {shown}: {rule}")
