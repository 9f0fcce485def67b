"""The compose file and the Dockerfile fit each other, the programs there are, and the settings that these read.

No container engine is needed: what a real one does with them is not tested here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from betting.bets.settings import BetSettings
from betting.cli.main import COMMANDS
from betting.containers.settings import PostgresSettings, RedisSettings
from betting.embedded.topology import HEALER, SERVICES
from betting.feeds.replay.settings import ReplaySettings
from betting.gateway.settings import GatewaySettings
from betting.health.settings import HealthSettings
from betting.odds.settings import OddsSettings
from betting.runtime.settings import ServiceSettings, load, unknown_variables
from betting.users.settings import UserSettings
from betting.wallet.settings import WalletSettings

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "infrastructure" / "docker"
DATABASES = {"postgres": PostgresSettings, "redis": RedisSettings}
SETTINGS = {
    "api-gateway": GatewaySettings,
    "bet-service": BetSettings,
    "health-monitor": HealthSettings,
    "odds-service": OddsSettings,
    "season-replay": ReplaySettings,
    "user-service": UserSettings,
    "wallet-service": WalletSettings,
}
PEERS = ("USER_SERVICE", "WALLET_SERVICE", "EVENT_SERVICE", "ODDS_SERVICE", "SETTLEMENT_SERVICE", "HEALTH_MONITOR")
_VARIABLE = re.compile(r"\$\{(\w+)(:[?-])([^}]*)\}")


def made_secrets(folder: Path) -> dict[str, str]:
    """What the documented command writes."""
    script = folder / "secrets.sh"
    script.write_bytes((FOLDER / "secrets.sh").read_bytes())
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text("ascii").splitlines())


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """As compose does it: ${NAME:?message} must be there, ${NAME:-default} has a default."""
    if isinstance(value, dict):
        return {name: interpolated(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda m: variables[m[1]] if m[2] == ":?" else variables.get(m[1], m[3]), value)


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    """The services of the compose file with the secrets that were made for it."""
    document = yaml.safe_load((FOLDER / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, Any] = interpolated(document, made_secrets(tmp_path))["services"]
    return found


def commands() -> dict[str, list[str]]:
    """The command of each program's target in the Dockerfile."""
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    found = re.findall(r"^FROM platform AS (\S+)\n(?:STOPSIGNAL \w+\n)?CMD (\[.+\])$", text, re.MULTILINE)
    return {name: json.loads(command) for name, command in found}


def test_every_program_has_a_target_that_runs_its_module() -> None:
    """The names of the targets are those of the services, and what they start exists."""
    found = commands()
    for service in SERVICES:
        if service.name != HEALER:
            assert found.pop(service.name) == ["python", "-m", "betting.runtime.launch", service.module]
            assert importlib.util.find_spec(f"{service.module}.__main__"), service.name
    assert found.pop("migrate") == ["betting", "migrate"]
    assert "migrate" in COMMANDS
    assert found.pop("operator")[:3] == ["python", "-m", "betting.runtime.launch"]
    for name in DATABASES:
        assert found.pop(name) == ["python", "-m", f"betting.containers.{name}"]
        assert importlib.util.find_spec(f"betting.containers.{name}")
    assert not found


def test_the_compose_file_runs_every_program_from_its_target(services: dict[str, Any]) -> None:
    """All but the operator, which is for Kubernetes; of bet-service there are two."""
    targets = [each["build"]["target"] for each in services.values()]
    assert sorted({*commands()} - {"operator"}) == sorted({*targets})
    assert targets.count("bet-service") == 2
    for name, each in services.items():
        assert name.startswith(each["build"]["target"])
        assert each["image"] == f"localhost/betting-{each['build']['target']}:compose"
        assert (FOLDER / each["build"]["context"] / each["build"]["dockerfile"]).resolve() == FOLDER / "Dockerfile"


def test_every_environment_is_one_that_the_program_starts_with(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable that nobody reads, none missing, no value refused; peers are reached by their names."""
    for name, each in services.items():
        environment = each["environment"]
        assert all(isinstance(value, str) for value in environment.values()), name
        assert unknown_variables(environment) == []
        with monkeypatch.context() as patched:
            for variable, value in environment.items():
                patched.setenv(variable, value)
            if name in DATABASES:
                load(DATABASES[name])
            elif name != "migrate":
                settings = load(SETTINGS.get(each["build"]["target"], ServiceSettings))
                assert settings.instance == name
                for peer in PEERS:
                    address = environment[f"BETTING_{peer}"]
                    assert address == f"{peer.lower().replace('_', '-')}:7100"
                    assert address.partition(":")[0] in services
                if each["build"]["target"] == "bet-service":
                    assert settings.address_for_others == f"{name}:7100"


def test_the_databases_have_the_passwords_that_the_services_use(services: dict[str, Any]) -> None:
    """And the services know the databases by the names they have here."""
    gateway = services["api-gateway"]["environment"]
    password = services["postgres"]["environment"]["BETTING_POSTGRES_PASSWORD"]
    assert gateway["BETTING_POSTGRES_DSN"] == f"postgresql://betting:{password}@postgres:5432/betting"
    password = services["redis"]["environment"]["BETTING_REDIS_PASSWORD"]
    assert gateway["BETTING_REDIS_URL"] == f"redis://:{password}@redis:6379/0"
    assert services["migrate"]["environment"]["BETTING_POSTGRES_DSN"] == gateway["BETTING_POSTGRES_DSN"]
    assert services["migrate"]["environment"]["BETTING_SHARD_COUNT"] == gateway["BETTING_SHARD_COUNT"]


def test_every_container_may_do_little(services: dict[str, Any]) -> None:
    """Read-only, without capabilities or new privileges; only the gateway has a port, and only on this machine."""
    for name, each in services.items():
        assert each["read_only"] is True, name
        assert each["tmpfs"] == ["/tmp"]
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert ("ports" in each) == (name == "api-gateway")
    assert services["api-gateway"]["ports"] == ["127.0.0.1:8080:8080"]
    assert re.search(r"^USER 10001:10001$", (FOLDER / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_services_wait_for_the_schema_and_tell_their_health(services: dict[str, Any]) -> None:
    """And Postgres is stopped by the signal that does not wait for clients."""
    for name, each in services.items():
        if name not in (*DATABASES, "migrate"):
            assert each["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
            assert each["healthcheck"]["test"] == ["CMD", "python", "-m", "betting.containers.probe", "grpc"]
            assert each["environment"]["BETTING_HEALTH_ADDRESS"].startswith("127.0.0.1:")
            assert each["restart"] == "unless-stopped"
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["postgres"]["stop_signal"] == "SIGINT"


def test_no_secret_has_a_default_and_made_ones_stay(tmp_path: Path) -> None:
    """Compose refuses to start without them; each is 32 random bytes, for its owner alone, and made once."""
    text = (FOLDER / "docker-compose.yml").read_text("utf-8")
    variables = {(name, kind) for name, kind, _ in _VARIABLE.findall(text)}
    made = made_secrets(tmp_path)
    assert {name for name, kind in variables if kind == ":?"} == made.keys()
    assert {name for name, kind in variables if kind == ":-"} == {"BETTING_SPEED"}
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in made.values())
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert made_secrets(tmp_path) == made
