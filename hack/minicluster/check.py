"""The minicluster's own check: up, what it should do, down, and nothing left; also where `up` is killed on its way."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from minicluster import build, engine, faults, host, storage
from minicluster.host import ClusterError
from minicluster.images import archive
from minicluster.leftovers import snapshot
from minicluster.programs import LOGS, Say, kubectl

_COMMAND = [sys.executable, str(Path(__file__).parents[1] / "cluster.py")]
_MANIFESTS = (Path(__file__).parent / "check.yaml").read_text("utf-8")
_HTTP_PORT = 18079
_LONGEST_UP_S = 60.0
_SPACE = "--namespace=cluster-check"
_PROBE = "probe"


def check(rounds: int, say: Say) -> None:
    """Raise ClusterError at the first thing that is not as it should be. No cluster is left, whatever happens."""
    engine.require_machine()
    if engine.is_up():
        raise ClusterError("a cluster is up: make cluster-down first")
    build.build([*engine.PROGRAMS, _PROBE])  # no part of the time that `up` may take
    engine.down(say)
    try:
        _rounds(rounds, say)
    except BaseException:  # an interruption, too
        say(f"failed: taking the cluster down; what its programs printed stays in {LOGS}")
        engine.down(say)
        raise


def _rounds(rounds: int, say: Say) -> None:
    before = snapshot()
    for number in range(1, rounds + 1):
        began = time.monotonic()
        engine.up(3, _HTTP_PORT, lambda _: None)
        took_s = time.monotonic() - began
        say(f"round {number}: up after {took_s:.1f} s")
        if took_s > _LONGEST_UP_S:
            raise ClusterError(f"up took {took_s:.1f} s; {_LONGEST_UP_S:.0f} s are allowed")
        _check_cluster(say, with_faults=number == 1)
        engine.down(say)
        _check_nothing_left(before)
        engine.down(lambda _: None)  # twice does no harm
        _killed_on_its_way(number, say)
        _check_nothing_left(before)
    say(f"{rounds} rounds, nothing left behind")


def _killed_on_its_way(number: int, say: Say) -> None:
    """Kill `up` at some moment; odd rounds: at once and then `down`; even ones: as CI ends a job or a user
    presses Ctrl-C, by SIGTERM, after which it cleans up itself (a shell has jobs in the background ignore SIGINT).
    """
    after_s = random.uniform(0.2, 20)
    process = subprocess.Popen(
        [*_COMMAND, "up", "--engine=minicluster", f"--http-port={_HTTP_PORT}"], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(after_s)
    finally:  # before anybody takes the cluster down
        process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        process.wait()
    if number % 2:
        engine.down(lambda _: None)
    say(f"up ended by {'SIGKILL' if number % 2 else 'SIGTERM'} after {after_s:.1f} s")


def _check_nothing_left(before: set[str]) -> None:
    deadline = time.monotonic() + 5  # the kernel takes namespaces apart after their last process has gone
    while left := snapshot() - before:
        if time.monotonic() > deadline:
            raise ClusterError("\n  ".join(["left behind:", *sorted(left)]))
        time.sleep(0.2)


def _check_cluster(say: Say, *, with_faults: bool) -> None:
    engine.load(archive(build.build([_PROBE])[_PROBE]), say)
    nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    zones = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes}
    _expect("three nodes in three zones", len(nodes) == len(zones) == 3)
    weights = [host.cpu_weight(f"n1-{name}") for name in ("pods", "containerd", "kubelet")]
    _expect("pods have the CPU weight of a node of their own", weights == [host.PODS_CPU_WEIGHT, 1, 1])
    kubectl("apply", "--filename=-", sent=_MANIFESTS)
    for workload in ("deployment/server", "deployment/friend", "deployment/stranger"):
        kubectl("rollout", "status", workload, _SPACE, "--timeout=60s")
    address = kubectl("get", "service/server", _SPACE, "--output=jsonpath={.spec.clusterIP}")
    _expect("a pod resolves a Service's name", _probe("friend", "lookup", "server").split() == [address])
    _expect("a Service's pods answer", _probe("stranger", "dial", "server:80").startswith("server-"))
    _expect("the NodePort is reached from the host", _from_host().startswith("server-"))
    _expect("a claim has a volume", _claim_phase() == "Bound")
    _probe("friend", "write", "/data/file", "text")
    _expect(
        "restricted pods are enforced", _fails(lambda: kubectl("run", "bad", _SPACE, "--image=localhost/probe:local"))
    )
    _check_policies()
    _eventually("metrics of pods", lambda: "server-" in kubectl("top", "pods", _SPACE), 90)
    say("nodes, DNS, Services, NodePort, volumes, Pod Security, NetworkPolicies, metrics: good")
    if with_faults:
        _check_faults(say)
    kubectl("delete", "namespace/cluster-check", "--timeout=60s")
    storage.clean(engine.nodes_up(), lambda _: None)
    volumes = json.loads(kubectl("get", "persistentvolumes", "--output=json"))["items"]
    _expect("all volumes are offered again", all(v["status"]["phase"] == "Available" for v in volumes))


def _check_policies() -> None:
    policy: dict[str, object] = {"podSelector": {}, "policyTypes": ["Ingress"]}
    _apply_policy("nobody", policy)
    _eventually("default deny shuts everybody out", lambda: _shut_out("friend") and _shut_out("stranger"), 15)
    friends = [{"podSelector": {"matchLabels": {"app": "friend"}}}]
    _apply_policy(
        "friends", {**policy, "podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": friends}]}
    )
    _eventually("the allow rule lets the friend in", lambda: not _shut_out("friend"), 15)
    _expect("and nobody else", _shut_out("stranger"))


def _apply_policy(name: str, spec: dict[str, object]) -> None:
    metadata = {"name": name, "namespace": "cluster-check"}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    kubectl("apply", "--filename=-", sent=json.dumps(policy))


def _check_faults(say: Say) -> None:
    faults.kill("apiserver", say)
    _expect("the API server is gone", _fails(lambda: kubectl("get", "nodes", "--request-timeout=2s")))
    faults.start_again("apiserver", say)
    _eventually("the API server answers again", lambda: bool(kubectl("get", "nodes", "--request-timeout=5s")), 60)
    faults.kill("n3", say)
    _eventually("Kubernetes sees that the node is gone", lambda: _node_ready("n3") == "Unknown", 90)
    faults.start_again("n3", say)
    _eventually("the node is back", lambda: _node_ready("n3") == "True", 60)
    kubectl("rollout", "status", "deployment/server", _SPACE, "--timeout=60s")
    say("API server and node killed and started again: good")


def _node_ready(name: str) -> str:
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    return kubectl("get", f"node/{name}", f"--output=jsonpath={ready}")


def _claim_phase() -> str:
    return kubectl("get", "persistentvolumeclaim/data", _SPACE, "--output=jsonpath={.status.phase}")


def _shut_out(workload: str) -> bool:
    return _fails(lambda: _probe(workload, "dial", "server:80"))


def _probe(workload: str, *arguments: str) -> str:
    return kubectl("exec", f"deployment/{workload}", _SPACE, "--", "/probe", *arguments)


def _from_host() -> str:
    with socket.create_connection(("127.0.0.1", _HTTP_PORT), timeout=5) as connection:
        return connection.recv(100).decode()


def _fails(action: Callable[[], object]) -> bool:
    try:
        action()
    except ClusterError:
        return True
    return False


def _expect(what: str, holds: bool) -> None:
    if not holds:
        raise ClusterError(f"not so: {what}")


def _eventually(what: str, holds: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if holds():
                return
            reason = ""
        except ClusterError as error:
            reason = f": {error}"
        if time.monotonic() > deadline:
            raise ClusterError(f"not so after {timeout_s:.0f} s: {what}{reason}")
        time.sleep(0.5)
