"""A platform as somebody on call finds it: every object that docs/runbooks name, at a real API server.

Its health monitor, its Postgres and its Redis are real; commands in its pods run as processes of this machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_process
import kubelet
import platforms
import psycopg
from exec_kubelet import ExecKubelet, exec_kubelet
from kube_api import Json, KubeApi, KubeError
from operator_rounds import MERGE
from redis import Redis
from servers import ValkeyServer

from betting.embedded import binaries
from betting.embedded.ports import held_ports
from betting.health.main import compose
from betting.health.settings import HealthSettings
from betting.supervision import files
from betting_operator.healing.diagnoses import Kind
from betting_operator.kubernetes import healing_actions, placeholders
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.reconcile import KINDS
from betting_operator.kubernetes.spec import parse
from betting_operator.kubernetes.status import CONDITIONS
from betting_operator.kubernetes.workloads import OPERATOR

# As docs/runbooks/README.md names them.
NODE = "node-7"  # of no other test: some pods of theirs make `kubectl describe node` (1.34) panic
POD = "demo-bet-service-6d8f9c7b5d-x2lqm"
OTHER_POD = "demo-bet-service-6d8f9c7b5d-7k4zt"
SHARD = 3
MONITOR = "demo-health-monitor-5c9f7d6b48-4h8bq"
LEADER = "betting-operator-5c9f7d6b48-9wvnd"
_PODS = {
    POD: "bet-service",
    OTHER_POD: "bet-service",
    MONITOR: "health-monitor",
    "demo-odds-service-7c4b9d5f6c-q8zvn": "odds-service",
    "demo-season-replay-66f7d8c9b4-m5t2x": "season-replay",
    "demo-redis-0": "redis",
    "demo-redis-1": "redis",
    "demo-postgres-0": "postgres",
}
SAID = '{"event": "shards not handed over", "problem": "the receiver does not answer"}\n'
# Of this test run alone, where every process of the machine may listen.
_ADDRESS = f"127.9.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"


@dataclass(frozen=True)
class OnCall:
    """The platform's namespace, and the kubelet of its node."""

    api: KubeApi
    namespace: str
    dsn: str
    kubelet: ExecKubelet

    def mend(self) -> None:
        """Makes again what commands have taken away: node, pods, a shard that has stopped."""
        self.kubelet.join()
        for name, workload in _PODS.items():
            self._pod(kubelet.pod(workload, name, nodeName=NODE))
        leader = kubelet.pod(OPERATOR, LEADER, platform="betting", nodeName=NODE)
        leader["metadata"]["labels"]["selfhealing.bet/leader"] = "true"
        leader["spec"]["containers"][0]["name"] = "operator"
        self._pod(leader)
        with psycopg.connect(self.dsn, autocommit=True) as database:
            stopped = (
                "UPDATE betting.shards SET state = 'quarantined', reason = 'its books', owner = NULL, address = NULL"
                " WHERE shard_id = %s"
            )
            database.execute(stopped, [SHARD])

    def fill(self, platform: Json) -> None:
        """Makes the rest. platform: the resource."""
        for each in platforms.settled(parse(platform, platforms.OWN_IMAGE)).values():
            if each["kind"] in ("Deployment", "HorizontalPodAutoscaler"):
                made = {name: value for name, value in each.items() if name != "status"}
                del made["metadata"]["generation"]
                self.api.apply(KINDS[each["kind"]].path(self.namespace, each["metadata"]["name"]), made)
        beside = kubelet.pod("bet-service", POD)
        placeholder = placeholders.placeholder("demo", platform["metadata"]["uid"], NODE, beside, lost=False)
        self._make("pods", placeholder)
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
        self._make("persistentvolumeclaims", _object("v1", "PersistentVolumeClaim", "data-demo-postgres-0", spec=claim))
        self._make("events", _event(self.namespace, "Pod", POD, self.namespace))
        self._make("events", _event(self.namespace, "Node", NODE, "default"), "default")
        for kind in Kind:
            self.api.request("POST", healing_actions.HEALING_ACTIONS.path(self.namespace), _action(platform, kind))
        rebalance = _object("selfhealing.bet/v1alpha1", "ShardRebalance", "evening", spec={"platform": "demo"})
        path = f"/apis/selfhealing.bet/v1alpha1/namespaces/{self.namespace}/shardrebalances"
        self.api.request("POST", path, rebalance)
        self.api.request("PATCH", f"{path}/evening/status", {"status": {"phase": "Done"}}, MERGE)

    def _make(self, plural: str, made: Json, namespace: str = "") -> None:
        self.api.request("POST", f"/api/v1/namespaces/{namespace or self.namespace}/{plural}", made)

    def _pod(self, pod: Json) -> None:
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m", "memory": "128Mi"}}
        try:
            self._make("pods", pod)
        except KubeError as error:
            if error.code != 409:
                raise
        name = pod["spec"]["containers"][0]["name"]
        self.kubelet.logs[name] = SAID
        container = kubelet.container(name, kubelet.running(), kubelet.terminated("boot-1"), restarts=1)
        path = PODS.path(self.namespace, pod["metadata"]["name"], "status")
        self.api.request("PATCH", path, {"status": kubelet.status(container)}, MERGE)


@asynccontextmanager
async def on_call(
    api: KubeApi, namespace: str, platform: str, dsn: str, programs: Path, folder: Path
) -> AsyncIterator[OnCall]:
    """The platform `demo`, Ready. platform: the path of its resource. programs: in every container's PATH."""
    api.request("PATCH", platform, {"spec": {"services": {"betService": {"autoscaling": {}}}}}, MERGE)
    api.request("PATCH", f"{platform}/status", {"status": _status()}, MERGE)
    _install(programs)
    (folder / "data").mkdir()
    files.write_secret(folder / "password", "secret-of-this-redis")
    with held_ports(1) as [port]:
        redis = ValkeyServer(folder / "redis", port, password_file=folder / "password")
        redis.start()
        with Redis.from_url(redis.spec.url()) as client:
            client.set("session", "of somebody")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BETTING_")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "POD_IP": _ADDRESS,
            "BETTING_INTERNAL_SECRET": in_process.SECRET,
            "BETTING_POSTGRES_DSN": dsn,
            "BETTING_REDIS_PORT": str(port),
            "BETTING_REDIS_PASSWORD": "secret-of-this-redis",
        }
        settings = in_process.settings(HealthSettings, grpc_address=f"{_ADDRESS}:7100", postgres_dsn=dsn)
        try:
            async with (
                in_process.running(compose, settings, service="health-monitor"),
                exec_kubelet(api, environment, {"/data": folder / "data"}, NODE) as node,
            ):
                found = OnCall(api, namespace, dsn, node)
                found.mend()
                found.fill(api.request("GET", platform))
                yield found
        finally:
            redis.stop()


def _install(programs: Path) -> None:
    """What the image has in its PATH besides."""
    server = binaries.postgres_programs()
    for name in ("psql", "pg_dump"):
        (programs / name).symlink_to(server / name)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)


def _status() -> Json:
    """Of a platform that takes bets, with something wrong."""
    now = kubelet.timestamp()
    common = {"status": "True", "reason": "Fine", "message": "as it should be", "lastTransitionTime": now}
    return {
        "observedGeneration": 1,
        "phase": "Ready",
        "conditions": [{"type": each, **common} for each in ("Ready", *CONDITIONS, "RolledOut", "Healing")],
        "shards": {"summary": "4/4", "owned": 4, "total": 4},
        "redis": {"primary": "demo-redis-0", "phase": "steady", "epoch": 2, "nodes": 2, "readyNodes": 2},
        "lastFailovers": [{"from": "demo-redis-1", "to": "demo-redis-0", "epoch": 2, "ended": now, "seconds": 1.9}],
        "activeDiagnoses": [
            {"kind": "process-hung", "target": POD, "certainty": "confirmed", "since": now, "message": "silent for 3 s"}
        ],
    }


def _action(platform: Json, kind: Kind) -> Json:
    """What was done about a diagnosis."""
    at_us = time.time_ns() // 1_000
    at = healing_actions.time_of(at_us)
    spec = {
        "term": 7,
        "diagnosis": kind.value,
        "certainty": "confirmed",
        "evidence": ("what was seen",),
        "target": {"name": POD},
        "decision": {"action": "Alert", "description": "a person is called"},
    }
    status = {"outcome": "Done", "began": at, "ended": at, "duration": "4ms"}
    return healing_actions.manifest(platform, healing_actions.name_of("demo", at_us, 0), spec, status)


def _object(api_version: str, kind: str, name: str, **rest: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def _event(name: str, kind: str, about: str, namespace: str) -> Json:
    involved = {"kind": kind, "name": about} | ({"namespace": namespace} if kind == "Pod" else {})
    now = kubelet.timestamp()
    times = {"firstTimestamp": now, "lastTimestamp": now, "count": 1}
    what = {"type": "Warning", "reason": "Failed", "message": "it failed"}
    return _object("v1", "Event", f"{name}.{kind.lower()}", involvedObject=involved, **what, **times)
