"""The operator with a large cluster: `make bench-operator`.

A real API server, etcd, controller manager and scheduler; 2,000 nodes and a platform with 200 bet-services that kwok
plays: nodes and pods are objects whose status it writes, no container runs. What is measured is the operator's
reconciliation, in a process of its own with the rights of an administrator: the time of a round, what it asks the API
server for, its memory. The platform's database is external and does not answer, so the time of asking it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform as machine
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import platforms
import psutil
from kube_api import ROOT, KubeApi, built, running_kube_api

from betting.supervision.server import Server
from betting.supervision.spawning import Command
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import PODS, Resource
from betting_operator.kubernetes.main import LOOK_S
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL
from betting_operator.kubernetes.reconcile import KINDS, Key
from betting_operator.kubernetes.reconciler import PLATFORMS, STATUS_EVERY_S, Reconciler
from betting_operator.kubernetes.watching import Watched, Watching
from betting_operator.kubernetes.workloads import OPERATOR

NAMESPACE = "betting"
ZONES = 3
STAGES = Path(__file__).with_name("kwok-stages.yaml")
ROUNDS_AT_REST = 30
NODES = Resource("v1", "Node", "nodes")
SECRETS = Resource("v1", "Secret", "secrets")
# Those that a platform needs: none that judges nodes, whose leases kwok does not renew here.
CONTROLLERS = (
    "deployment-controller,replicaset-controller,job-controller,endpointslice-controller,disruption-controller"
)
SETTLE_TIMEOUT_S = 600.0


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
        yield api


async def make_nodes(client: Client, count: int) -> None:
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


async def make_platform(client: Client, bet_services: int) -> None:
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
    await client.apply(PLATFORMS, NAMESPACE, {"metadata": {"name": "demo"}, "spec": spec})


def watching(client: Client, kubeconfig: Path) -> Watching:
    """As the operator does it."""
    selector = f"{MANAGED_BY_LABEL}={OPERATOR}"
    watched = [Watched(PLATFORMS)]
    watched += [Watched(each, selector, with_managers=each.kind == "Deployment") for each in (*KINDS.values(), PODS)]
    return Watching(client, lambda: configuration(kubeconfig), NAMESPACE, watched, lambda _key: None)


class Measured:
    """One operator's rounds, and what each of them took."""

    def __init__(self, client: Client, watched: Watching) -> None:
        self._watched = watched
        self.reconciler = Reconciler(client, NAMESPACE, platforms.OWN_IMAGE)
        self.rounds_s: list[float] = []
        self.reads = self.writes = 0
        read, write = client._read, client._write

        async def counted_read(*arguments: Any, **more: Any) -> Any:
            self.reads += 1
            return await read(*arguments, **more)

        async def counted_write(*arguments: Any, **more: Any) -> Any:
            self.writes += 1
            return await write(*arguments, **more)

        client._read, client._write = counted_read, counted_write  # type: ignore[method-assign]

    async def round(self) -> dict[str, Any]:
        """The platform's conditions after it, by type."""
        began_s = time.perf_counter()
        resources = list(self._watched.objects(PLATFORMS).values())
        objects = {
            Key(resource.kind, name): found
            for resource in (*KINDS.values(), PODS)
            for name, found in self._watched.objects(resource).items()
        }
        await self.reconciler.reconcile(resources, objects)
        self.rounds_s.append(time.perf_counter() - began_s)
        conditions = resources[0].get("status", {}).get("conditions", ())
        return {each["type"]: each for each in conditions}

    async def until(self, condition: str, generation: int = 1) -> float:
        """Rounds every LOOK_S until that condition of this generation is True; how many seconds it took."""
        began_s = time.perf_counter()
        while True:
            conditions = await self.round()
            found = conditions.get(condition, {})
            spent_s = time.perf_counter() - began_s
            if found.get("status") == "True" and found["observedGeneration"] >= generation:
                return spent_s
            if spent_s > SETTLE_TIMEOUT_S:
                raise SystemExit(f"not {condition} after {spent_s:.0f} s: {found.get('message')}")
            await asyncio.sleep(LOOK_S)

    def row(self) -> dict[str, float]:
        """Of the rounds since the last call: number, median, longest; requests a round."""
        rounds, self.rounds_s = self.rounds_s, []
        reads, writes, self.reads, self.writes = self.reads, self.writes, 0, 0
        return {
            "rounds": len(rounds),
            "median_ms": 1_000 * statistics.median(rounds),
            "longest_ms": 1_000 * max(rounds),
            "reads_per_round": reads / len(rounds),
            "writes": writes,
        }


async def measure(kubeconfig: Path) -> dict[str, Any]:
    """Makes the platform, looks at it at rest, rolls it."""
    process = psutil.Process()
    async with Client(configuration(kubeconfig)) as client:
        watched = watching(client, kubeconfig)
        operator = Measured(client, watched)
        before_mib = process.memory_info().rss / 2**20
        watch = asyncio.create_task(watched.run())
        await watched.listed()
        found: dict[str, Any] = {"settled_s": await operator.until("Available"), "make": operator.row()}
        await operator.until("RolledOut")
        await asyncio.sleep(2 * STATUS_EVERY_S)
        await operator.round()
        operator.row()
        began_s, used_s = time.perf_counter(), process.cpu_times()
        for _round in range(ROUNDS_AT_REST):
            await asyncio.sleep(LOOK_S)
            await operator.round()
        spent_s, after_s = time.perf_counter() - began_s, process.cpu_times()
        found["rest"] = operator.row()
        cpu_s = after_s.user + after_s.system - used_s.user - used_s.system
        found["rest"]["cpu_percent"] = 100 * cpu_s / spent_s
        settings = {"services": {"betService": {"settings": {"BETTING_LOG_LEVEL": "debug"}}}}
        changed = await client.patch(PLATFORMS, NAMESPACE, "demo", {"spec": settings})
        found["rolled_s"] = await operator.until("RolledOut", changed["metadata"]["generation"])
        found["roll"] = operator.row()
        found["pods"] = len((await client.list(PODS, NAMESPACE)).objects)
        found["memory_before_mib"] = before_mib
        found["memory_mib"] = process.memory_info().rss / 2**20
        watch.cancel()
        await asyncio.wait((watch,))
        return found


async def prepare(kubeconfig: Path, nodes: int, bet_services: int) -> None:
    async with Client(configuration(kubeconfig)) as client:
        await make_nodes(client, nodes)
        await make_platform(client, bet_services)


def shown(nodes: int, found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"{nodes} nodes, {found['pods']} pods, {machine.machine()}, {psutil.cpu_count()} processors",
        f"{'':<32}{'rounds':>8}{'median':>10}{'longest':>10}{'reads/round':>13}{'writes':>8}",
    ]
    for name, what in (("make", "from nothing to available"), ("rest", "at rest"), ("roll", "rolling bet-service")):
        row = found[name]
        lines.append(
            f"{what:<32}{row['rounds']:>8}{row['median_ms']:>7.0f} ms{row['longest_ms']:>7.0f} ms"
            f"{row['reads_per_round']:>13.1f}{row['writes']:>8}"
        )
    lines += [
        f"settled in {found['settled_s']:.0f} s, rolled in {found['rolled_s']:.0f} s (nobody drains anything here)",
        f"at rest {found['rest']['cpu_percent']:.1f} % of a processor, lists and watches included",
        f"memory {found['memory_mib']:.0f} MiB, {found['memory_before_mib']:.0f} MiB before the first round",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2_000)
    parser.add_argument("--bet-services", type=int, default=200)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(asyncio.run(measure(arguments.measure))))
        return
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as api:
        api.create_namespace(NAMESPACE)
        began_s = time.monotonic()
        asyncio.run(prepare(api.kubeconfig(), arguments.nodes, arguments.bet_services))
        print(f"{arguments.nodes} nodes made in {time.monotonic() - began_s:.0f} s", flush=True)
        command = [sys.executable, __file__, "--measure", str(api.kubeconfig())]
        measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(measured.splitlines()[-1])
    print(shown(arguments.nodes, found))
    results = ROOT / "bench-results" / "operator.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({"nodes": arguments.nodes, **found}, indent=2) + "\n")
    print(f"written to {results.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
