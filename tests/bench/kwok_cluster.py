"""A large cluster on one machine: a real API server, etcd, controller manager and scheduler, and nodes that kwok plays.

Nodes and pods are objects whose status kwok writes (`kwok-stages.yaml`); no container runs.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kube_api import KubeApi, built, running_kube_api

from betting.supervision.server import Server
from betting.supervision.spawning import Command
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.reconciler import PLATFORMS

NAMESPACE = "betting"
PLATFORM = "demo"
ZONES = 3
REQUEST_TIMEOUT_S = 60.0
STAGES = Path(__file__).with_name("kwok-stages.yaml")
NODES = Resource("v1", "Node", "nodes")
SECRETS = Resource("v1", "Secret", "secrets")
# Those that a platform needs: none that judges nodes, whose leases kwok does not renew here.
CONTROLLERS = (
    "deployment-controller,replicaset-controller,job-controller,endpointslice-controller,disruption-controller"
)


class _Program(Server):
    """A client of the API server, which is ready as soon as it runs."""

    def __init__(self, name: str, folder: Path, argv: tuple[str, ...]) -> None:
        super().__init__(name, log_path=folder / f"{name}.log", stop_signal=signal.SIGTERM)
        self._folder = folder
        self._argv = argv

    def command(self) -> Command:
        return Command(self._argv, self._folder)

    def is_ready(self) -> bool:
        return True


@contextmanager
def cluster(folder: Path) -> Iterator[KubeApi]:
    """API server, controllers, scheduler and kwok."""
    programs = built(["kube-controller-manager", "kube-scheduler", "kwok"])
    with running_kube_api(folder) as api, ExitStack() as stack:
        access = str(api.kubeconfig())
        scheduler = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": access, "qps": 500, "burst": 1000},
            "leaderElection": {"leaderElect": False},
        }
        (folder / "scheduler.json").write_text(json.dumps(scheduler))
        for name, *arguments in (
            (
                "kube-controller-manager",
                *("--kubeconfig", access, "--leader-elect=false", "--secure-port=0"),
                *("--controllers", CONTROLLERS, "--kube-api-qps=500", "--kube-api-burst=1000"),
            ),
            ("kube-scheduler", "--config", str(folder / "scheduler.json"), "--secure-port=0"),
            ("kwok", "--kubeconfig", access, "--manage-all-nodes", "--config", str(STAGES)),
        ):
            program = _Program(name, folder, (str(programs[name]), *arguments))
            program.start()
            stack.callback(program.kill)
        api.create_namespace(NAMESPACE)
        yield api


def client_of(kubeconfig: Path) -> Client:
    """For what is played: it waits longer than what is measured, on a busy machine."""
    return Client(configuration(kubeconfig), timeout_s=REQUEST_TIMEOUT_S)


async def prepare(kubeconfig: Path, nodes: int, bet_services: int) -> None:
    """The nodes, and the platform's resource."""
    async with client_of(kubeconfig) as client:
        await _make_nodes(client, nodes)
        await _make_platform(client, bet_services)


async def _make_nodes(client: Client, count: int) -> None:
    """Nodes of 16 processors in three zones."""
    size = {"cpu": "16", "memory": "64Gi", "pods": "110"}

    async def one(number: int) -> None:
        name = f"node-{number}"
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % ZONES}"}
        status = {"capacity": size, "allocatable": size}
        await client.create(NODES, None, {"metadata": {"name": name, "labels": labels}, "status": status})
        await client.patch(NODES, None, name, {"spec": {"taints": None}})  # of a node that has not been ready yet

    for first in range(0, count, 100):
        await asyncio.gather(*(one(number) for number in range(first, min(first + 100, count))))


async def _make_platform(client: Client, bet_services: int) -> None:
    """Both databases are somebody else's, and nobody's."""
    for name, key, address in (
        ("database", "dsn", "postgresql://u:p@127.0.0.1:1/d"),
        ("redis", "url", "redis://127.0.0.1:1"),
    ):
        await client.create(SECRETS, NAMESPACE, {"metadata": {"name": name}, "stringData": {key: address}})
    spec = {
        "database": {"external": {"dsnSecret": {"name": "database"}}},
        "redis": {"external": {"urlSecret": {"name": "redis"}}},
        "services": {"betService": {"replicas": bet_services}},
    }
    await client.apply(PLATFORMS, NAMESPACE, {"metadata": {"name": PLATFORM}, "spec": spec})
