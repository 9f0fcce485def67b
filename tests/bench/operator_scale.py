"""The operator and its healer with a large cluster: `make bench-operator`.

A real API server, etcd, controller manager and scheduler; 2,000 nodes and a platform with 200 bet-services that kwok
plays: nodes and pods are objects whose status it writes, no container runs. What is measured is the operator's
reconciliation, in a process of its own with the rights of an administrator: the time of a round, what it asks the API
server for, its memory. The platform's database is external and does not answer, so the time of asking it is left out.
What the healer does there while 50 bet-services exit at once: `healer_storm`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform as machine
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import healer_storm
import platforms
import psutil
from kube_api import ROOT
from kwok_cluster import NAMESPACE, PLATFORM, cluster, prepare

from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.main import LOOK_S
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL
from betting_operator.kubernetes.reconcile import KINDS, Key
from betting_operator.kubernetes.reconciler import PLATFORMS, STATUS_EVERY_S, Reconciler
from betting_operator.kubernetes.watching import Watched, Watching
from betting_operator.kubernetes.workloads import OPERATOR

ROUNDS_AT_REST = 30
SETTLE_TIMEOUT_S = 600.0


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


async def make(kubeconfig: Path) -> dict[str, Any]:
    """Makes the platform."""
    async with Client(configuration(kubeconfig)) as client:
        watched = watching(client, kubeconfig)
        operator = Measured(client, watched)
        watch = asyncio.create_task(watched.run())
        await watched.listed()
        settled_s = await operator.until("Available")
        watch.cancel()
        await asyncio.wait((watch,))
        return {"settled_s": settled_s}


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
        changed = await client.patch(PLATFORMS, NAMESPACE, PLATFORM, {"spec": settings})
        found["rolled_s"] = await operator.until("RolledOut", changed["metadata"]["generation"])
        found["roll"] = operator.row()
        found["pods"] = len((await client.list(PODS, NAMESPACE)).objects)
        found["memory_before_mib"] = before_mib
        found["memory_mib"] = process.memory_info().rss / 2**20
        watch.cancel()
        await asyncio.wait((watch,))
        return found


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
    parser.add_argument("--exits", type=int, default=50, help="bet-services that exit at once")
    parser.add_argument("--only", choices=("reconciliation", "storm"), help="measure one of the two (default: both)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        of = make if arguments.only == "storm" else measure
        print(json.dumps(asyncio.run(of(arguments.measure))))
        return
    if arguments.only != "reconciliation" and not 0 < arguments.exits <= arguments.bet_services:
        parser.error(f"--exits is {arguments.exits}: it must be from 1 to --bet-services ({arguments.bet_services})")
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as api:
        began_s = time.monotonic()
        asyncio.run(prepare(api.kubeconfig(), arguments.nodes, arguments.bet_services))
        print(f"{arguments.nodes} nodes made in {time.monotonic() - began_s:.0f} s", flush=True)
        command = [sys.executable, __file__, "--measure", str(api.kubeconfig())]
        command += ["--only", arguments.only] if arguments.only else []
        measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = json.loads(measured.splitlines()[-1])
        if arguments.only != "storm":
            print(shown(arguments.nodes, found))
            _save("operator.json", {"nodes": arguments.nodes, **found})
        if arguments.only != "reconciliation":
            storm = healer_storm.measured(api, Path(folder), arguments.exits)
            healer_storm.show(arguments.nodes, storm)
            _save("healer-storm.json", {"nodes": arguments.nodes, **storm})
            sys.exit(1 if storm["broken"] else 0)


def _save(name: str, found: dict[str, Any]) -> None:
    results = ROOT / "bench-results" / name
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written to {results.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
