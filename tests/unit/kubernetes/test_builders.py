"""What every manifest must hold, whatever the spec."""

from __future__ import annotations

import base64
import re
from typing import Any

import platforms
import pytest
import yaml

from betting.runtime.variables import VARIABLES
from betting_operator.healing.maintenance import DAYS, Window
from betting_operator.healing.policy import Policy, Rebalancing, ServiceLimits
from betting_operator.kubernetes import databases, network, services
from betting_operator.kubernetes.manifests import NAME_LABEL, Manifest
from betting_operator.kubernetes.reconcile import wanted
from betting_operator.kubernetes.schema import DECIDED_SETTINGS
from betting_operator.kubernetes.spec import Healing, parse
from betting_operator.kubernetes.workloads import MIGRATE, WORKLOADS


def _everything(file: str) -> list[Manifest]:
    platform = parse(platforms.example(file), platforms.OWN_IMAGE)
    return wanted(platform, existing={}, hashes={}, primary="demo-redis-0", new_password=lambda: "ab" * 32)


FILES = ["platform.yaml", "production.yaml"]


@pytest.mark.parametrize("file", FILES)
def test_the_settings_of_every_container_are_known_to_the_code(file: str) -> None:
    """A process refuses to start with an unknown one."""
    for name, container in _containers(file):
        unknown = {each["name"] for each in container.get("env", ()) if each["name"].startswith("BETTING_")} - VARIABLES
        assert not unknown, name


@pytest.mark.parametrize("file", FILES)
def test_what_the_operator_decides_cannot_be_set_in_the_spec(file: str) -> None:
    for name, container in _containers(file):
        if name in ("postgres", "redis", MIGRATE):
            continue
        found = [each["name"] for each in container["env"]]
        assert len(found) == len(set(found)), name
        decided = {each for each in found if each.startswith("BETTING_")}
        if WORKLOADS[name].field:  # feeds have no settings
            assert decided <= set(DECIDED_SETTINGS), name
        assert {"BETTING_INSTANCE", "BETTING_POSTGRES_DSN", "BETTING_INTERNAL_SECRET"} <= set(found) & set(
            DECIDED_SETTINGS
        )


def test_a_zone_whose_nodes_take_no_pods_does_not_keep_pods_out_of_the_others() -> None:
    """A zone that is lost has no pods, and with DoNotSchedule the others could get none beyond one more each."""
    spread = [each for pod in _pods("production.yaml") for each in pod.get("topologySpreadConstraints", ())]
    hard = [each for each in spread if each["whenUnsatisfiable"] == "DoNotSchedule"]
    assert hard
    assert {each.get("nodeTaintsPolicy") for each in hard} == {"Honor"}


@pytest.mark.parametrize("file", FILES)
def test_no_pod_has_a_token_a_right_or_a_writable_root(file: str) -> None:
    for pod in _pods(file):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize("file", FILES)
def test_no_pod_may_fill_the_disk_of_its_node(file: str) -> None:
    """Whoever fills /tmp is evicted alone; a replica of Redis has room for all the data that it is sent."""
    for pod in _pods(file):
        limits = {each["name"]: each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each}
        assert "tmp" in limits
        assert all(limits.values())
        if pod["containers"][0]["name"] == "redis":
            memory = next(
                each["value"] for each in pod["containers"][0]["env"] if each["name"] == "BETTING_REDIS_MAX_MEMORY_MIB"
            )
            assert int(limits["tmp"].removesuffix("Mi")) > int(memory)


@pytest.mark.parametrize("file", FILES)
def test_secrets_are_only_where_they_are_used(file: str) -> None:
    """Redis' password is for its clients, the operator's login for user-service, the key of a feed for that feed."""
    readers: dict[str, set[str]] = {}
    for name, container in _containers(file):
        for each in container.get("env", ()):
            if "secretKeyRef" in each.get("valueFrom", {}):
                readers.setdefault(each["name"], set()).add(name)
    assert readers["BETTING_OPERATOR_PASSWORD"] == {"user-service"}
    assert readers["BETTING_REDIS_URL"] == {name for name, each in WORKLOADS.items() if each.uses_redis}
    assert readers.get("BETTING_ODDS_API_KEY", {"the-odds-api"}) == {"the-odds-api"}
    assert MIGRATE not in readers["BETTING_INTERNAL_SECRET"]


@pytest.mark.parametrize("file", FILES)
def test_every_flow_is_allowed_on_both_sides(file: str) -> None:
    platform = parse(platforms.example(file), platforms.OWN_IMAGE)
    policies = {each["metadata"]["name"].removeprefix(f"{platform.name}-"): each for each in network.policies(platform)}
    running = policies.keys() - {"default-deny"}
    for name in running:
        for called in set(WORKLOADS[name].calls) & running:
            assert called in _peers(policies[name]["spec"].get("egress", []), "to"), (name, called)
            assert name in _peers(policies[called]["spec"].get("ingress", []), "from"), (name, called)
    assert policies["default-deny"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["default-deny"]["spec"]


@pytest.mark.parametrize("file", FILES)
def test_every_address_in_a_setting_is_that_of_a_service_of_the_platform(file: str) -> None:
    everything = _everything(file)
    services = {each["metadata"]["name"]: each["spec"] for each in everything if each["kind"] == "Service"}
    found = 0
    for name, container in _containers(file):
        for each in container.get("env", ()):
            for address in re.findall(r"([a-z][-a-z0-9]*):(\d+)", each.get("value", "")):
                host, port = address[0], int(address[1])
                assert port in {one["port"] for one in services[host]["ports"]}, (name, each)
                found += 1
    assert found > len(WORKLOADS)


@pytest.mark.parametrize("file", FILES)
def test_a_new_pod_is_known_by_name_before_one_of_before_stops(file: str) -> None:
    """Resolvers keep an answer: of odds-service the new pod may be the next active one, and bets need its prices."""
    deployments = {
        each["spec"]["template"]["spec"]["containers"][0]["name"]: each["spec"]
        for each in _everything(file)
        if each["kind"] == "Deployment"
    }
    called = {name for caller in ("bet-service", "api-gateway", "season-replay") for name in WORKLOADS[caller].calls}
    by_name = called & set(deployments) - {"bet-service", "health-monitor"}  # the directory finds the one
    assert "odds-service" in by_name
    for name in by_name:
        assert deployments[name]["minReadySeconds"] >= 10, name


def test_callers_of_an_elected_service_know_all_its_pods_from_the_start() -> None:
    """They ask each whether it serves; who was told of a standby alone does not look the name up again."""
    found = {
        each["metadata"]["labels"][NAME_LABEL]: each
        for each in _everything("platform.yaml")
        if each["kind"] == "Service" and each["spec"].get("clusterIP") == "None"
    }
    shown = {name for name, each in found.items() if each["spec"].get("publishNotReadyAddresses")}
    assert shown - {"postgres", "redis"} == {"odds-service", "season-replay"}


def _monitored(**spec: Any) -> str:
    everything = wanted(platforms.platform(**spec), existing={}, hashes={}, primary="", new_password=lambda: "ab" * 32)
    monitor = next(
        each
        for each in everything
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "demo-health-monitor"
    )
    environment = monitor["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(str(each["value"]) for each in environment if each["name"] == "BETTING_MONITORED")


def test_health_monitor_asks_the_healer_through_the_service_of_the_leader() -> None:
    """The operator's replica that stands by has no healer: a Service of both would show one that is not reached."""
    assert _monitored() == "api-gateway=demo-api-gateway:7100,healer=demo-healer:7100"
    service = next(
        each for each in services.network_services(platforms.platform()) if each["metadata"]["name"] == "demo-healer"
    )
    assert service["spec"]["selector"] == {
        "app.kubernetes.io/name": "betting-operator",
        "selfhealing.bet/leader": "true",
    }
    assert service["spec"]["type"] == "ClusterIP"
    operator = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "betting-operator"}}}
    callers = {
        each["metadata"]["name"]
        for each in network.policies(platforms.platform())
        for rule in each["spec"].get("egress", ())
        if operator in rule.get("to", ())
    }
    assert callers == {"demo-health-monitor"}


def test_without_healing_nobody_asks_for_the_healer() -> None:
    platform = platforms.platform(healing={"enabled": False})
    assert _monitored(healing={"enabled": False}) == "api-gateway=demo-api-gateway:7100"
    assert "demo-healer" not in {each["metadata"]["name"] for each in services.network_services(platform)}
    assert "betting-operator" not in str([each["spec"].get("egress") for each in network.policies(platform)])


def _admitted_to_metrics(**spec: Any) -> dict[str, list[Any]]:
    """Who may connect to port 7102 of each workload; at what has no rule for it, nobody."""
    return {
        each["metadata"]["name"].removeprefix("demo-"): rule["from"]
        for each in network.policies(platforms.platform(**spec))
        for rule in each["spec"].get("ingress", ())
        if {"protocol": "TCP", "port": 7102} in rule["ports"]
    }


def test_metrics_are_read_by_those_that_the_spec_names_and_by_nobody_else() -> None:
    feeds = {"seasonReplay": {}}
    assert _admitted_to_metrics(feeds=feeds) == {}
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    serving = {name for name, each in WORKLOADS.items() if each.module} - {"the-odds-api"}
    assert _admitted_to_metrics(feeds=feeds, metrics={"scrapeFrom": prometheus}) == dict.fromkeys(serving, prometheus)


def test_a_cache_of_dns_on_the_nodes_own_network_is_reached() -> None:
    """No selector of pods selects it: docs of NodeLocal DNSCache."""
    policies = {each["metadata"]["name"]: each for each in network.policies(platforms.platform())}
    rules = policies["demo-bet-service"]["spec"]["egress"]
    dns = next(rule for rule in rules if rule["ports"][0]["port"] == 53)
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in dns["to"]


@pytest.mark.parametrize("file", FILES)
def test_a_container_that_hangs_is_killed_at_once_also_while_it_starts(file: str) -> None:
    """A frozen one would live for the pod's whole grace period, after its probe has failed."""
    probes = [
        container[probe]
        for _name, container in _containers(file)
        for probe in ("startupProbe", "livenessProbe")
        if probe in container
    ]
    assert {each["terminationGracePeriodSeconds"] for each in probes} == {1}


def test_every_container_that_runs_for_good_is_restarted_when_it_hangs() -> None:
    """A TCP probe cannot tell: the kernel accepts connections for a process that is stopped."""
    for name, container in _containers("platform.yaml"):
        if name != MIGRATE:
            probe = container["livenessProbe"]
            assert probe.keys() & {"grpc", "exec"}, name
            assert 15 <= probe["periodSeconds"] * probe["failureThreshold"] <= 60, name
            assert "startupProbe" in container, name


def test_the_pods_of_another_platform_or_of_the_operator_are_not_denied_anything() -> None:
    platform = platforms.platform(name="betting")
    denied = network.policies(platform)[-1]["spec"]["podSelector"]["matchLabels"]
    operator = {"app.kubernetes.io/name": "betting-operator", "app.kubernetes.io/instance": "betting"}
    assert not denied.items() <= operator.items()


def test_of_what_runs_several_times_one_pod_at_a_time_may_be_evicted() -> None:
    """Of Redis nodes too: a drain of two nodes must not take the primary and its only replica."""

    def guarded(**spec: Any) -> set[str]:
        found = services.disruption_budgets(platforms.platform(**spec))
        return {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in found}

    assert guarded() == {name for name, each in WORKLOADS.items() if each.replicas > 1} | {"redis"}
    assert "redis" not in guarded(redis={"managed": {"replicas": 1}})
    assert "redis" not in guarded(redis={"external": {"urlSecret": {"name": "mine"}}})


def test_names_fit_even_for_the_longest_platform() -> None:
    """A pod of a Deployment is <name>-<10 characters>-<5>, and its name is the instance's, of at most 63."""
    platform = platforms.platform(name="p" * 20, feeds={"seasonReplay": {}, "theOddsApi": {"keySecret": {"name": "k"}}})
    everything = wanted(platform, existing={}, hashes={}, primary="", new_password=lambda: "ab" * 32)
    assert max(len(each["metadata"]["name"]) for each in everything if each["kind"] == "Deployment") + 17 <= 63


def test_the_example_of_a_route_leads_to_the_service_of_the_example_platform() -> None:
    [route] = yaml.safe_load_all((platforms.EXAMPLES / "httproute.yaml").read_text("utf-8"))
    [backend] = route["spec"]["rules"][0]["backendRefs"]
    service = next(each for each in _everything("production.yaml") if each["metadata"]["name"] == backend["name"])
    assert (service["kind"], service["spec"]["ports"][0]["port"]) == ("Service", backend["port"])
    assert route["metadata"].get("namespace") is None, "it is in the platform's"


def _pods(file: str) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in _everything(file) if "template" in each.get("spec", {})]


def _containers(file: str) -> list[tuple[str, dict[str, Any]]]:
    return [(container["name"], container) for pod in _pods(file) for container in pod["containers"]]


def _peers(rules: list[dict[str, Any]], direction: str) -> set[str]:
    return {
        name
        for rule in rules
        for peer in rule.get(direction, ())
        for expression in peer.get("podSelector", {}).get("matchExpressions", ())
        for name in expression["values"]
    }


def test_a_secret_that_a_person_made_may_have_bytes_in_it_that_are_no_text() -> None:
    """A truststore beside the address, say."""
    data = {"dsn": base64.b64encode(b"postgresql://x").decode(), "ca.p12": base64.b64encode(b"\xff\xfe").decode()}
    assert databases.decoded({"data": data})["dsn"] == "postgresql://x"


def test_the_policy_of_the_healer_is_what_the_resource_says() -> None:
    """In its own units and names. A service that this release does not know has limits in a newer one."""
    given = {
        "paused": "upgrade",
        "dryRun": True,
        "budget": 4,
        "coolDownSeconds": 30,
        "services": {
            "betService": {"minHealthyPercent": 50},
            "apiGateway": {"budget": 2},
            "cashierService": {"budget": 1},
        },
        "rebalancing": "Approve",
        "maintenanceWindows": [
            {"days": ["Sunday"], "start": "02:30", "durationMinutes": 90},
            {"start": "00:00", "durationMinutes": 15},
        ],
    }
    assert platforms.platform(healing=given).healing == Healing(
        True,
        Policy(
            paused="upgrade",
            dry_run=True,
            disruptions_per_window=4,
            cool_down_ms=30_000,
            services=(ServiceLimits("api-gateway", 2), ServiceLimits("bet-service", 4, 50)),
            rebalancing=Rebalancing.APPROVE,
            windows=(Window(("Sunday",), 150, 90), Window(DAYS, 0, 15)),
        ),
    )
    assert platforms.platform().healing == Healing(True, Policy())
    platforms.platform(healing=given).healing.policy.check()
