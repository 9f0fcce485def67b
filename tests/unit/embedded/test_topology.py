"""What runs, on which ports, with which settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from betting.drills.faults import all_faults
from betting.embedded import ports_plan
from betting.embedded.folder import DataFolder
from betting.embedded.topology import BET_SERVICES, SERVICES, THE_ODDS_API, Topology, services_for
from betting.health.settings import HealthSettings
from betting.runtime.settings import ServiceSettings, load
from betting.wallet.settings import WalletSettings


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    """The whole platform on its fixed ports; nothing is started."""
    folder = DataFolder.at(tmp_path)
    folder.make_secrets()
    folder.postgres.mkdir()
    (folder.postgres / "password").write_text("secret\n")
    instances = [name for each in SERVICES for name in each.instance_names()]
    return Topology(folder, ports_plan.fixed(instances))


def test_every_process_has_ports_of_its_own(topology: Topology) -> None:
    """No two listen on one port, and the ones people remember stay what they are."""
    assert len(set(topology.ports.values())) == len(topology.ports)
    assert topology.ports["http"] == 8080
    assert topology.ports["postgres"] == 55432
    assert topology.ports["api-gateway.grpc"] - topology.ports["event-service.grpc"] == 9


def test_the_runtime_accepts_every_service_s_environment(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are those that runtime.settings reads: instance, addresses, databases, secret, peers."""
    for process in topology.service_processes():
        for name, value in process.command().environment.items():
            monkeypatch.setenv(name, value)
        settings = load(ServiceSettings)
        assert settings.instance == process.name
        assert settings.grpc_address == topology.address(process.name)
        assert settings.event_service == topology.address("event-service")
        assert settings.drain_timeout.total_seconds() == 5
        assert load(WalletSettings).sandbox_money
        assert settings.internal_secret.get_secret_value() == topology.folder.internal_secret()


def test_services_are_told_of_both_valkeys_and_each_boots_as_a_replica_of_the_other(topology: Topology) -> None:
    """Which of them is primary changes; none takes writes before it was made primary."""
    assert topology.redis_url().endswith("@127.0.0.1:56379,127.0.0.1:56380/0")
    assert [topology.valkey(name).replica_of_port for name in ports_plan.VALKEYS] == [56380, 56379]


def test_secrets_are_in_no_argument(topology: Topology) -> None:
    """Arguments are for everybody to see."""
    for process in topology.service_processes():
        assert "secret" not in " ".join(process.command().argv)
        assert topology.folder.internal_secret() not in " ".join(process.command().argv)


def test_only_user_service_is_told_the_operator_s_password(topology: Topology) -> None:
    """It is made once, only its owner may read it, and no other process has it in its environment."""
    file = topology.folder.operator_password_file
    password = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(password) >= 32
    holders = [
        process.name for process in topology.service_processes() if password in str(process.command().environment)
    ]
    assert holders == ["user-service"]
    topology.folder.make_secrets()
    assert topology.folder.operator_password() == password


def test_the_doors_are_watched_too(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    """health-monitor asks gateway, replay and healer, which no peer setting names."""
    for name, value in topology.environment("health-monitor").items():
        monkeypatch.setenv(name, value)
    watched = {each.workload: each.address for each in load(HealthSettings).watched()}
    assert watched["api-gateway"] == topology.address("api-gateway")
    assert watched["season-replay"] == topology.address("season-replay")
    assert watched["healer"] == topology.address("healer"), "its alerts are in the status of the platform"
    assert watched["user-service"] == topology.address("user-service")


def test_what_the_embedded_platform_overrides_is_known(topology: Topology) -> None:
    """What every process gets otherwise than the environment says; what is passed on as it is, is not named."""
    environment = {
        "BETTING_GRPC_ADDRESS": "10.0.0.1:1",
        "BETTING_POSTGRES_DSN": "postgresql://elsewhere/betting",
        "BETTING_LOG_LEVEL": "debug",
        "BETTING_SHARD_COUNT": "16",
        "HOME": "/root",
    }
    assert topology.overridden(environment) == ["BETTING_GRPC_ADDRESS", "BETTING_POSTGRES_DSN"]


def test_the_odds_api_runs_only_with_a_key() -> None:
    """Nothing asks a source that costs credits unless somebody has set the key; the others keep their ports."""
    assert services_for({}) == services_for({"BETTING_ODDS_API_KEY": " "}) == SERVICES
    with_key = services_for({"BETTING_ODDS_API_KEY": "abc"})
    assert with_key == (*SERVICES, THE_ODDS_API)
    instances = [name for each in with_key for name in each.instance_names()]
    assert ports_plan.fixed(instances).items() >= ports_plan.fixed(instances[:-1]).items()


def test_the_demo_breaks_every_bet_service_and_both_databases() -> None:
    """Each bet-service is killed and paused; wallet, gateway, databases, feed, a consumer and a shard are hit."""
    names = [fault.name for fault in all_faults(pauses=3)]
    for instance in BET_SERVICES:
        assert f"{instance} killed" in names
        assert f"{instance} paused" in names
    assert sum("mid-append" in name for name in names) == 3
    for hit in ("wallet-service", "api-gateway", "Postgres", "Valkey", "feed", "stuck", "poisoned"):
        assert any(hit in name for name in names)
