"""The pod of the operator that leads has the label that the healer's Service selects, and no other pod has it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubelet
import platforms
import pytest
from kube_api import KubeApi

from betting.embedded.ports import held_ports
from betting_operator.kubernetes import manifests, services
from betting_operator.kubernetes.client import Client, NotFoundError, configuration
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.main import LEASE, label_leader
from betting_operator.kubernetes.workloads import OPERATOR

ROOT = Path(__file__).resolve().parents[2]
MERGE = "application/merge-patch+json"
NAMES = ("operator-a", "operator-b")


@pytest.fixture
def kubeconfig(kube_api: KubeApi, namespace: str, operators_rights: Path) -> Path:
    """With the operator's rights, in a namespace with two pods of the operator and one of somebody else's."""
    for name in (*NAMES, "other"):
        pod = kubelet.pod(OPERATOR if name in NAMES else "other", name)
        kube_api.request("POST", PODS.path(namespace), pod)
    return operators_rights


def selected(kube_api: KubeApi, namespace: str) -> list[str]:
    """The pods behind the healer's Service, by the Service's own selector."""
    made = services.network_services(platforms.platform())
    selector = next(each["spec"]["selector"] for each in made if each["metadata"]["name"] == "demo-healer")
    query = ",".join(f"{name}%3D{value}" for name, value in selector.items())
    found = kube_api.request("GET", f"{PODS.path(namespace)}?labelSelector={query}")["items"]
    return [each["metadata"]["name"] for each in found]


async def until(condition: Callable[[], bool]) -> None:
    """Polls; the test's own timeout ends it."""
    while not condition():  # noqa: ASYNC110  (other processes make it true)
        await asyncio.sleep(0.05)


async def test_the_label_goes_from_one_leader_to_the_next(kube_api: KubeApi, namespace: str, kubeconfig: Path) -> None:
    """The pod of the one before may run on, and cannot be asked to remove it: its node may be cut off."""
    async with Client(configuration(kubeconfig)) as client:
        for leader in (*NAMES, NAMES[0]):
            await label_leader(client, namespace, leader)
            assert selected(kube_api, namespace) == [leader]


async def test_a_label_that_is_missing_wrong_or_on_another_pod_is_put_right(
    kube_api: KubeApi, namespace: str, kubeconfig: Path
) -> None:
    """A leader of before may have been stopped right before it set it. The pods of others are not touched."""
    label = manifests.LEADER_LABEL
    async with Client(configuration(kubeconfig)) as client:
        for own, other in ((None, "true"), ("no", "no"), ("true", "true")):
            for name, value in zip((*NAMES, "other"), (own, other, "true"), strict=True):
                kube_api.request("PATCH", PODS.path(namespace, name), {"metadata": {"labels": {label: value}}}, MERGE)
            await label_leader(client, namespace, NAMES[0])
            pods = kube_api.request("GET", PODS.path(namespace))["items"]
            labels = {each["metadata"]["name"]: each["metadata"]["labels"].get(label) for each in pods}
            assert labels == {NAMES[0]: "true", NAMES[1]: None, "other": "true"}
        before = kube_api.request("GET", PODS.path(namespace))["metadata"]["resourceVersion"]
        await label_leader(client, namespace, NAMES[0])
        pods = kube_api.request("GET", PODS.path(namespace))["items"]
        assert all(int(each["metadata"]["resourceVersion"]) <= int(before) for each in pods), "written for nothing"
        with pytest.raises(NotFoundError):
            await label_leader(client, namespace, "operator-c")


@contextmanager
def operator(kubeconfig: Path, namespace: str, pod: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The operator's own process, as in this pod."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("BETTING_", "OPERATOR_"))},
        "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'operator'}",
        "KUBECONFIG": str(kubeconfig),
        "OPERATOR_POD": pod,
        "OPERATOR_NAMESPACE": namespace,
        "OPERATOR_POD_IP": "127.0.0.1",
        "OPERATOR_IMAGE": "localhost/betting:1.0.0",
        "OPERATOR_HTTP_PORT": str(port),
    }
    command = [sys.executable, "-m", "betting.runtime.launch", "betting_operator.kubernetes"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_two_operators_move_the_label_with_the_lease(
    kube_api: KubeApi, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    """The leader is stopped past its Lease (as cut off from the API server), goes on, and the other one is killed."""
    lease_path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}}
    kube_api.request("POST", lease_path, lease)

    def leads(name: str) -> bool:
        holder = kube_api.request("GET", f"{lease_path}/{LEASE}")["spec"].get("holderIdentity", "")
        return str(holder).startswith(f"{name}@")

    one, two = NAMES
    with held_ports(2) as ports, operator(kubeconfig, namespace, one, ports[0], tmp_path / one) as first:
        await until(lambda: selected(kube_api, namespace) == [one])
        with operator(kubeconfig, namespace, two, ports[1], tmp_path / two) as second:
            await until(lambda: b"standing by" in (tmp_path / two).read_bytes())
            first.send_signal(signal.SIGSTOP)
            await until(lambda: selected(kube_api, namespace) == [two])
            first.send_signal(signal.SIGCONT)
            await until(lambda: b"leadership lost" in (tmp_path / one).read_bytes())
            await until(lambda: (tmp_path / one).read_bytes().count(b"operator started") == 2)
            assert leads(two)
            assert selected(kube_api, namespace) == [two]
            second.kill()
            await until(lambda: selected(kube_api, namespace) == [one])
            assert leads(one)
