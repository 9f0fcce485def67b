"""Parts of the cluster that must fit each other, and settings that must stay Kubernetes' own."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kind import engine as kind
from minicluster import build, control_plane, engine, images, node, programs, storage
from minicluster.host import ClusterError

HACK = Path(__file__).resolve().parents[3] / "hack"
ADDONS = [
    document
    for path in sorted((HACK / "minicluster" / "addons").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
NODES = [node.Node(number) for number in (1, 2, 3)]


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    specs = (d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment")
    return [container for spec in specs for container in spec["containers"]]


def test_the_add_ons_images_are_those_that_are_loaded() -> None:
    used = {container["image"] for container in containers(ADDONS)}
    assert used == {images.image_name(name) for name in ("coredns", "metrics-server")}


def test_pods_ask_the_address_that_dns_has() -> None:
    (service,) = (d for d in ADDONS if d["kind"] == "Service" and d["metadata"]["name"] == "kube-dns")
    assert service["spec"]["clusterIP"] == control_plane.DNS_ADDRESS
    assert ipaddress.ip_address(control_plane.DNS_ADDRESS) in ipaddress.ip_network(control_plane.SERVICE_RANGE)


def test_addresses_of_nodes_pods_and_services_do_not_overlap() -> None:
    ranges = [ipaddress.ip_network(r) for r in (node.NODE_RANGE, node.POD_RANGE, control_plane.SERVICE_RANGE)]
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)
    for one in NODES:
        assert ipaddress.ip_address(one.address) in ranges[0]
        assert ipaddress.ip_network(one.pod_range).subnet_of(ranges[1])  # type: ignore[arg-type]


def test_what_takes_time_is_left_to_kubernetes_defaults() -> None:
    """Tests on this cluster measure what production does: no shorter heartbeats, grace periods or tolerations."""
    source = "".join(path.read_text("utf-8") for path in sorted((HACK / "minicluster").glob("*.py")))
    for setting in (
        *("node-monitor", "toleration-seconds", "horizontal-pod-autoscaler", "nodeStatusUpdate", "nodeLease"),
        *("syncFrequency", "pod-eviction", "statusReport"),
    ):
        assert setting not in source, setting


def test_every_volume_is_bound_to_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "RUN", tmp_path)
    storage_class, *volumes = storage.manifests(NODES)["items"]
    assert storage_class["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage_class["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert len({volume["metadata"]["name"] for volume in volumes}) == 12
    for volume in volumes:
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        (name,) = term["matchExpressions"][0]["values"]
        assert volume["metadata"]["name"].startswith(name)
        assert (
            tmp_path / name / "kubelet" / Path(volume["spec"]["local"]["path"]).relative_to("/var/lib/kubelet")
        ).is_dir()


def test_kind_has_three_zones_and_leads_to_the_same_port() -> None:
    config = yaml.safe_load((HACK / "kind" / "cluster.yaml").read_text("utf-8"))
    workers = [one for one in config["nodes"] if one["role"] == "worker"]
    assert [worker["labels"]["topology.kubernetes.io/zone"] for worker in workers] == ["z1", "z2", "z3"]
    assert len(workers) == kind.NODES
    (mapping,) = (mapping for worker in workers for mapping in worker.get("extraPortMappings", []))
    assert mapping == {
        "containerPort": engine.GATEWAY_NODE_PORT,
        "hostPort": programs.DEFAULT_HTTP_PORT,
        "listenAddress": "127.0.0.1",
        "protocol": "TCP",
    }
    assert config["name"] == kind.NAME


def test_kind_takes_metrics_server_from_its_registry() -> None:
    documents = list(yaml.safe_load_all(kind.metrics_server()))
    (container,) = containers(documents)
    version = build.version("metrics-server")
    assert container["image"] == f"registry.k8s.io/metrics-server/metrics-server:v{version}"
    assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("name", sorted(build.PROGRAMS.keys() - {"pause", "forward", "probe"}))
def test_every_programs_version_is_known(name: str) -> None:
    """The module's own folders have none; of the others it is what go.mod requires."""
    major, minor, patch = build.version(name).split(".")
    assert (major + minor + patch).isdigit()


def test_waiting_ends_with_the_log_of_a_program_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LOGS", tmp_path)
    (tmp_path / "etcd.log").write_text("first\nthe disk is full\n", "utf-8")
    with subprocess.Popen(["false"]) as process:
        pass
    with pytest.raises(ClusterError, match=r"etcd ended with code 1\n.*etcd\.log:\n  first\n  the disk is full"):
        programs.wait_until("it is up", lambda: False, {"etcd": process}, timeout_s=60)


def test_waiting_too_long_says_for_what_and_what_is_known() -> None:
    def fails() -> bool:
        raise ClusterError("refused")

    with pytest.raises(ClusterError, match=r"DNS available: not so after 0 s;.*\nno pods"):
        programs.wait_until("DNS available", fails, {}, timeout_s=0, explain=lambda: "no pods")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--http-port", "0"], "0: from 1 to 65535"),
        (["up", "--http-port", "65536"], "65536: from 1 to 65535"),
        (["up", "--nodes", "many"], "invalid int value"),
        (["load", "/nowhere/image.tar"], "there is no image archive /nowhere/image.tar"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str) -> None:
    command = [sys.executable, str(HACK / "cluster.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr


def test_a_kubeconfig_needs_no_other_file_and_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("certificate", "utf-8")
    monkeypatch.setattr(control_plane, "CA", authority)
    path = tmp_path / "kubeconfig"
    control_plane.write_kubeconfig(path, "https://127.0.0.1:1", "token")
    config = json.loads(path.read_text("utf-8"))
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "Y2VydGlmaWNhdGU="
    assert path.stat().st_mode & 0o777 == 0o600
