"""A real API server for tests of the operator: one per session, a namespace of its own per test.

`make test-kubernetes` runs them; `make test` does not, because they need programs that are built with Go first.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import in_process
import platforms
import pytest
import yaml
from kube_api import KubeApi, built, running_kube_api
from operator_rounds import PLATFORMS_PATH, Operator, operator_in
from plugin_runs import Run, installed, runner

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal.migrate import migrate

CHART = Path(__file__).resolve().parents[2] / "charts" / "betting-platform"
# What a namespace of a careful cluster says: only pods of the `restricted` level run in it.
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_kube_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApi]:
    """The session's API server; tests that pause or kill it leave it running again."""
    with running_kube_api(tmp_path_factory.mktemp("kube-api")) as api:
        yield api


@pytest.fixture
def kube_api(shared_kube_api: KubeApi) -> Iterator[KubeApi]:
    """The session's API server, ready, and ready again for the next test whatever this one did to it."""
    yield shared_kube_api
    shared_kube_api.recover()


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the four shards of a new installation."""
    with held_ports(1) as [port]:
        server = PostgresServer(tmp_path_factory.mktemp("postgres") / "pg", port, durable=False)
        server.start()
        try:
            found = server.spec.dsn("postgres")
            migrate(found)
            in_process.install(found, 4)
            yield found
        finally:
            server.stop()


@pytest.fixture(scope="session")
def helm() -> str:
    """The path of helm, which is built first if it is not there yet."""
    return str(built(["helm"])["helm"])


@pytest.fixture(scope="session")
def kubectl() -> str:
    """The path of kubectl, which is built first if it is not there yet."""
    return str(built(["kubectl"])["kubectl"])


@pytest.fixture(scope="session")
def chart(helm: str) -> Callable[..., list[dict[str, Any]]]:
    """What the chart makes in a namespace, with further arguments of `helm template`."""

    def rendered(namespace: str, *arguments: str) -> list[dict[str, Any]]:
        command = [helm, "template", "betting", str(CHART), "--namespace", namespace, *arguments]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [each for each in yaml.safe_load_all(text) if each]

    return rendered


@pytest.fixture
def restricted(kube_api: KubeApi) -> str:
    """A namespace in which only pods of the `restricted` level may run."""
    name = f"restricted-{next(_numbers)}"
    kube_api.create_namespace(name, RESTRICTED)
    return name


@pytest.fixture
def namespace(kube_api: KubeApi) -> str:
    """A new namespace, empty but for its ServiceAccount `default`."""
    name = f"test-{next(_numbers)}"
    kube_api.create_namespace(name)
    return name


@pytest.fixture
def operators_rights(kube_api: KubeApi, namespace: str, chart: Callable[..., list[dict[str, Any]]]) -> Path:
    """A kubeconfig of the ServiceAccount of the chart, with its Role."""
    for each in chart(namespace, "--set", "crds.install=false"):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            name, plural = each["metadata"]["name"], f"{each['kind'].lower()}s"
            root = f"/apis/{each['apiVersion']}" if "/" in each["apiVersion"] else "/api/v1"
            kube_api.apply(f"{root}/namespaces/{namespace}/{plural}/{name}", each)
    return kube_api.service_account_kubeconfig(namespace, "betting-operator")


@pytest.fixture
async def operator(operators_rights: Path, namespace: str) -> AsyncIterator[Operator]:
    async with operator_in(operators_rights, namespace) as found:
        yield found


@pytest.fixture
def demo(kube_api: KubeApi, namespace: str) -> str:
    """The path of the example platform, created."""
    example = platforms.example("platform.yaml", namespace)
    example["metadata"].pop("uid")
    example["spec"]["gateway"]["service"].pop("nodePort")  # there is one of each number in a cluster
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), example)
    return f"{PLATFORMS_PATH.format(namespace)}/demo"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with what the wheel installs."""
    return installed(tmp_path / "bin")


@pytest.fixture
def run(kube_api: KubeApi, kubectl: str, programs: Path, namespace: str) -> Run:
    """kubectl betting, as the admin or with another kubeconfig."""
    return runner(kubectl, programs, kube_api.kubeconfig(namespace=namespace))


@pytest.fixture
def person(kube_api: KubeApi, namespace: str, chart: Callable[..., list[dict[str, Any]]]) -> Callable[[str], Path]:
    """The kubeconfig of somebody with one of the chart's roles."""

    def kubeconfig(role: str) -> Path:
        roles = {each["metadata"]["name"]: each for each in chart(namespace) if each["kind"] == "Role"}
        return kube_api.service_account(namespace, f"a-{role}", roles[f"betting-{role}"]["rules"])

    return kubeconfig
