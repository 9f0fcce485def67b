"""Settings: what the environment may say, and that a mistake is named with what is right."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import get_args

import pytest

import betting
import betting_operator
from betting.bets.settings import BetSettings
from betting.runtime import settings
from betting.runtime.errors import ConfigurationError
from betting.runtime.settings import ServiceSettings
from betting.users.settings import UserSettings

_GOOD = {
    "BETTING_INSTANCE": "wallet-service-1",
    "BETTING_GRPC_ADDRESS": "127.0.0.1:7101",
    "BETTING_INTERNAL_SECRET": "ab" * 32,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A good environment, to be spoilt."""
    for name, value in _GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def _complaint() -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(ServiceSettings)
    return str(caught.value)


def test_the_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    """Durations are given in seconds; what is not given has its default."""
    environment.setenv("BETTING_DRAIN_TIMEOUT", "7.5")
    environment.setenv("BETTING_WALLET_SERVICE", "127.0.0.1:7102")
    found = settings.load(ServiceSettings)
    assert found.drain_timeout == timedelta(seconds=7.5)
    assert found.wallet_service == "127.0.0.1:7102"
    assert (found.shard_count, found.max_message_bytes, found.metrics_address) == (16, 4 * 1024 * 1024, None)
    assert found.internal_secret_bytes == b"\xab" * 32


def test_currencies_are_a_list_of_known_codes(environment: pytest.MonkeyPatch) -> None:
    """Each once; pounds, euros and dollars where nothing is said; what ISO 4217 does not know is refused by name."""
    assert settings.load(ServiceSettings).currency_codes == ("GBP", "EUR", "USD")
    environment.setenv("BETTING_CURRENCIES", " JPY, GBP,JPY ")
    assert settings.load(ServiceSettings).currency_codes == ("JPY", "GBP")
    for wrong, named in (("GBP,GBQ,usd", "'GBQ', 'usd' is no currency"), ("XXX", "'XXX'"), (" , ", "at least one")):
        environment.setenv("BETTING_CURRENCIES", wrong)
        complaint = _complaint()
        assert complaint.startswith("BETTING_CURRENCIES is wrong: ")
        assert named in complaint


@pytest.mark.parametrize("name", list(_GOOD))
def test_a_missing_variable_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    """The line says which variable to set."""
    environment.delenv(name)
    assert _complaint() == f"{name} is not set"


def test_every_missing_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to fix them one start at a time."""
    for name in _GOOD:
        monkeypatch.delenv(name, raising=False)
    complaint = _complaint()
    assert all(name in complaint for name in _GOOD)
    assert "\n" not in complaint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BETTING_INTERNAL_SECRET", "not-hex-" * 10),
        ("BETTING_INTERNAL_SECRET", "ab" * 31),
        ("BETTING_INSTANCE", "two words"),
        ("BETTING_INSTANCE", "x" * 64),
        ("BETTING_INSTANCE", ""),
        ("BETTING_GRPC_ADDRESS", "7101secret"),
        ("BETTING_GRPC_ADDRESS", "127.0.0.1:70000"),
        ("BETTING_METRICS_ADDRESS", "localhost"),
        ("BETTING_ADVERTISED_ADDRESS", "0.0.0.0:7101"),
        ("BETTING_ADVERTISED_ADDRESS", "10.0.0.7:0"),
        ("BETTING_DRAIN_TIMEOUT", "soonsecret"),
        ("BETTING_DRAIN_DELAY", "-1"),
        ("BETTING_SHARD_COUNT", "0"),
        ("BETTING_MAX_MESSAGE_BYTES", "1"),
        ("BETTING_LOG_LEVEL", "loudsecret"),
        ("BETTING_LOG_FORMAT", "xmlsecret"),
        ("BETTING_DEFAULT_DEADLINE", "0"),
        ("BETTING_DRAIN_TIMEOUT", "9" * 30),
        ("BETTING_DRAIN_TIMEOUT", "9" * 400),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_right(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """One line: the variable, the rule, and the value, at most 60 characters of it; never that of a secret."""
    environment.setenv(name, value)
    complaint = _complaint()
    assert complaint.startswith(f"{name} is wrong: ")
    shown = complaint.endswith(f", not {value[:60]!r}")
    assert shown != (name == "BETTING_INTERNAL_SECRET")
    assert shown or value not in complaint


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("BETTING_GRPC_ADRESS", "BETTING_GRPC_ADDRESS"),
        ("BETTING_LOGLEVEL", "BETTING_LOG_LEVEL"),
        ("BETTING_HEALER_BUDGET", "BETTING_HEAL_BUDGET"),
        ("BETTING_ODDS_API_REGION", "BETTING_ODDS_API_REGIONS"),
        ("Betting_Season_File", "BETTING_SEASON"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    environment: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    """A misspelled setting would otherwise have its default, and nobody would know; its value is not shown."""
    environment.setenv(name, "hunter2")
    assert _complaint() == f"{name} is not a setting: did you mean {nearest}?"


def test_an_unknown_variable_and_the_missing_one_it_stood_for_are_named_together(
    environment: pytest.MonkeyPatch,
) -> None:
    """One line has everything that keeps the process from starting."""
    environment.delenv("BETTING_INSTANCE")
    environment.setenv("BETTING_INSTANCES", "x")
    environment.setenv("BETTING_XYZ", "x")
    assert _complaint() == (
        "BETTING_INSTANCES is not a setting: did you mean BETTING_INSTANCE?; "
        "BETTING_XYZ is not a setting: see docs/operating/settings.md; BETTING_INSTANCE is not set"
    )


def test_variables_of_other_services_and_of_kubernetes_are_let_be(environment: pytest.MonkeyPatch) -> None:
    """One environment may serve every service, and Kubernetes adds variables for a Service called betting-…."""
    environment.setenv("BETTING_HEAL_BUDGET", "5")
    environment.setenv("BETTING_HTTP_ADDRESS", "127.0.0.1:8080")
    for ending in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
        environment.setenv(f"BETTING_API_GATEWAY_{ending}", "x")
    settings.load(ServiceSettings)
    environment.setenv("BETTING_PORT_80_TCP", "x")  # no Service belongs to it
    assert "BETTING_PORT_80_TCP is not a setting" in _complaint()


def _classes() -> Iterator[type[ServiceSettings]]:
    for package in (betting, betting_operator):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith(".settings"):
                found = vars(importlib.import_module(module.name)).values()
                yield from (each for each in found if isinstance(each, type) and issubclass(each, ServiceSettings))


def _numbers() -> Iterator[tuple[type[ServiceSettings], str]]:
    for settings_type in set(_classes()):
        own = settings_type.model_fields.keys() - ServiceSettings.model_fields.keys()
        for field in own if settings_type is not ServiceSettings else ServiceSettings.model_fields:
            annotation = settings_type.model_fields[field].annotation
            if {int, float, Decimal, timedelta} & {annotation, *get_args(annotation)}:
                yield settings_type, field


@pytest.mark.parametrize("value", ["-1", "-PT1S", "9" * 30, "inf", "nan", "1e400", "", "many"])
@pytest.mark.parametrize(
    ("settings_type", "field"),
    sorted(_numbers(), key=lambda each: (each[0].__name__, each[1])),
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_no_number_is_taken_that_cannot_be_meant(
    environment: pytest.MonkeyPatch, settings_type: type[ServiceSettings], field: str, value: str
) -> None:
    """Every number and duration of every service has a smallest and a largest value, and is checked when it is read."""
    for name, good in (("SUPERVISOR", "127.0.0.1:1"), ("FLIGHT_FOLDER", "/f"), ("ODDS_API_KEY", "k")):
        environment.setenv(f"BETTING_{name}", good)
    environment.setenv(settings.variable(field), value)
    with pytest.raises(ConfigurationError) as caught:
        settings.load(settings_type)
    said = str(caught.value)
    assert said.startswith(f"{settings.variable(field)} is wrong: ")
    assert said.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("settings_type", "values", "said"),
    [
        (
            BetSettings,
            {"MIN_STAKE_MINOR": "5", "MAX_STAKE_MINOR": "4"},
            "BETTING_MIN_STAKE_MINOR is 5: give at most BETTING_MAX_STAKE_MINOR (4)",
        ),
        (
            BetSettings,
            {"MAX_PAYOUT_MINOR": "1000"},
            "BETTING_MAX_STAKE_MINOR is 10000000: give at most BETTING_MAX_PAYOUT_MINOR (1000): a void bet pays its "
            "stake back",
        ),
        (
            BetSettings,
            {"MAX_PAYOUT_MINOR": "1000000000000000", "MAX_OPEN_BETS": "100000"},
            "BETTING_MAX_PAYOUT_MINOR is 1000000000000000: times BETTING_MAX_OPEN_BETS (100000) it is more than an "
            "account can hold: give less",
        ),
        (
            UserSettings,
            {"ACCESS_LIFETIME": "P31D"},
            "BETTING_ACCESS_LIFETIME is 2678400 s: give at most BETTING_REFRESH_LIFETIME (2592000 s)",
        ),
        (
            UserSettings,
            {"KEY_ROTATION": "60"},
            "BETTING_KEY_PUBLISH_LEAD is 300 s: give less than BETTING_KEY_ROTATION (60 s)",
        ),
        (
            UserSettings,
            {"ARGON2_MEMORY_KIB": "16"},
            "BETTING_ARGON2_MEMORY_KIB is 16: BETTING_ARGON2_PARALLELISM needs at least 32 KiB",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    environment: pytest.MonkeyPatch, settings_type: type[ServiceSettings], values: dict[str, str], said: str
) -> None:
    """When they are read, not when they are first used."""
    for name, value in values.items():
        environment.setenv(f"BETTING_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        settings.load(settings_type)
    assert str(caught.value) == said


class _Extended(ServiceSettings):
    patience: timedelta = timedelta(minutes=1)
    impatience: timedelta | None = None


def test_plain_numbers_are_seconds_for_every_duration(environment: pytest.MonkeyPatch) -> None:
    """Also for those of a service's own, optional ones, and ISO 8601 as well."""
    environment.setenv("BETTING_PATIENCE", "1.5")
    environment.setenv("BETTING_IMPATIENCE", "90")
    environment.setenv("BETTING_DRAIN_DELAY", "PT2M")
    found = settings.load(_Extended)
    assert (found.patience, found.impatience) == (timedelta(seconds=1.5), timedelta(seconds=90))
    assert found.drain_delay == timedelta(minutes=2)


@pytest.mark.parametrize(
    ("listen", "advertised", "expected"),
    [
        ("127.0.0.1:7101", "", "127.0.0.1:7101"),
        ("0.0.0.0:7101", "10.0.0.7:7101", "10.0.0.7:7101"),
        ("[::]:7101", "bet-service-1.bets.svc:7101", "bet-service-1.bets.svc:7101"),
    ],
)
def test_the_address_for_others(environment: pytest.MonkeyPatch, listen: str, advertised: str, expected: str) -> None:
    """What is advertised, or where it listens."""
    environment.setenv("BETTING_GRPC_ADDRESS", listen)
    environment.setenv("BETTING_ADVERTISED_ADDRESS", advertised)
    assert settings.load(ServiceSettings).address_for_others == expected


def test_an_address_that_stands_for_every_interface_is_not_written_down(environment: pytest.MonkeyPatch) -> None:
    """Others would call themselves."""
    environment.setenv("BETTING_GRPC_ADDRESS", "0.0.0.0:7101")
    with pytest.raises(ConfigurationError, match="BETTING_ADVERTISED_ADDRESS is not set"):
        _ = settings.load(ServiceSettings).address_for_others


def test_secrets_do_not_show_when_settings_are_printed(environment: pytest.MonkeyPatch) -> None:
    """A settings object in a log line or a traceback gives nothing away."""
    environment.setenv("BETTING_POSTGRES_DSN", "postgresql://u:hunter2@db/x")
    environment.setenv("BETTING_REDIS_URL", "redis://:hunter2@cache/0")
    text = repr(settings.load(ServiceSettings))
    assert "hunter2" not in text
    assert "abab" not in text


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:7101", ("::1", 7101)),
        ("wallet-service.svc:65535", ("wallet-service.svc", 65535)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    """Names, v4 and bracketed v6."""
    assert settings.split_address(address) == expected
