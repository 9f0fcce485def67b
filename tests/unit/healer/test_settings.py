"""The healer works on one platform: it is told which, or refuses to start."""

from __future__ import annotations

import pytest

from betting.runtime.errors import ConfigurationError
from betting.runtime.settings import load
from betting_operator.healer.settings import HealerSettings

SUPERVISOR = {"BETTING_SUPERVISOR": "127.0.0.1:7001"}
NAMESPACE, PLATFORM = {"BETTING_KUBERNETES_NAMESPACE": "bets"}, {"BETTING_KUBERNETES_PLATFORM": "demo"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every healer has."""
    monkeypatch.setenv("BETTING_INSTANCE", "healer")
    monkeypatch.setenv("BETTING_GRPC_ADDRESS", "127.0.0.1:7100")
    monkeypatch.setenv("BETTING_INTERNAL_SECRET", "5e" * 32)
    monkeypatch.setenv("BETTING_FLIGHT_FOLDER", "/var/lib/betting/flight")
    for name in (*SUPERVISOR, *NAMESPACE, *PLATFORM):
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> HealerSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load(HealerSettings)


@pytest.mark.parametrize("variables", [SUPERVISOR, NAMESPACE | PLATFORM])
def test_one_platform_is_enough(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Processes under a supervisor, or pods."""
    configured = given(monkeypatch, variables)
    assert bool(configured.supervisor) is not bool(configured.kubernetes_platform)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {},
            "BETTING_SUPERVISOR (on one machine), or BETTING_KUBERNETES_NAMESPACE and BETTING_KUBERNETES_PLATFORM "
            "(on Kubernetes) must be set",
        ),
        (NAMESPACE, "BETTING_KUBERNETES_PLATFORM must be set"),
        (PLATFORM, "BETTING_KUBERNETES_NAMESPACE must be set"),
        (
            SUPERVISOR | PLATFORM,
            "BETTING_SUPERVISOR and BETTING_KUBERNETES_PLATFORM are set: the healer works on one machine or on "
            "Kubernetes, remove the one that it does not run on",
        ),
        (SUPERVISOR | NAMESPACE | PLATFORM, "BETTING_SUPERVISOR and BETTING_KUBERNETES_NAMESPACE and"),
        ({"BETTING_SUPERVISOR": "nowhere"}, "BETTING_SUPERVISOR is wrong: give host:port"),
        (
            {"BETTING_KUBERNETES_NAMESPACE": "Bets", **PLATFORM},
            "BETTING_KUBERNETES_NAMESPACE is wrong: use 1 to 63 small letters, digits and dashes, with a letter or "
            "digit at both ends, not 'Bets'",
        ),
    ],
)
def test_anything_else_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """Never a guess: on the wrong platform nothing would be healed."""
    with pytest.raises(ConfigurationError) as refused:
        given(monkeypatch, variables)
    assert str(refused.value).startswith(message)
