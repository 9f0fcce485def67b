"""Whom faults hit: pods, their processes on this machine, nodes; and how the platform gets there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil
from platform_under_test import Installed
from scenarios_outages import all_ready
from tools import CHECKOUT, Failed, expect, got, items, kubectl, processes, python, run, say, wait_for

BET_SERVICE = "bet-service"
READY_S = 180.0
# A node that was lost takes no new pods of the platform for a minute, and the scheduler prefers others after that.
SPREAD_S = 150.0


class Injected(NamedTuple):
    """A fault that has just been injected. at_s: when, by the monotonic clock; what: to whom. said_s: how long it took
    until it was said, where that was waited for: it is undone by at_s."""

    at_s: float
    what: str
    said_s: float | None = None


def some_pod(platform: Installed, workload: str) -> str:
    """The youngest pod of a workload: the others have waited for nothing."""
    return _by_age(platform, workload)[-1]


def used_pod(platform: Installed, workload: str) -> str:
    """The oldest pod of a workload: whoever is connected to the workload is connected to it."""
    return _by_age(platform, workload)[0]


def _by_age(platform: Installed, workload: str) -> list[str]:
    found = platform.pods(workload)
    expect(len(found) > 1, f"{len(found)} pods of {workload}: there must be another one")
    return [_name(each) for each in sorted(found, key=lambda each: each["status"].get("startTime", ""))]


def odds_pods(platform: Installed) -> tuple[str, str]:
    """The odds-service that writes, and its standby."""
    names = [str(each["metadata"]["name"]) for each in platform.pods("odds-service")]
    ready = platform.shown_ready() & set(names)
    expect(len(ready) == 1 and len(names) == 2, f"odds-service: {names}, of these ready: {ready}")
    [writer] = ready
    [standby] = set(names) - ready
    return writer, standby


def redis_primary(platform: Installed) -> str:
    """The pod of the Redis primary."""
    found = str((platform.status().get("redis") or {}).get("primary", ""))
    expect(found, "there is no Redis primary")
    return found


def redis_node(platform: Installed) -> str:
    """The node of the Redis primary, which is made to be another one than Postgres' and the leading operator's, without
    all pods of any service, and without another Redis: with two of three gone there is no fence, and no failover."""
    until_s = time.monotonic() + SPREAD_S
    while time.monotonic() < until_s:
        database = platform.node_of(f"{platform.name}-postgres-0")
        pod = redis_primary(platform)
        node = platform.node_of(pod)
        if node == database:
            make_another_primary(platform, pod)
        elif node == platform.node_of(leader := platform.leader()):
            make_another_lead(platform, leader)
        elif beside := [each for each in pods_on(platform, node, ("redis",)) if each != pod]:
            kubectl("delete", "pod", *beside, f"--namespace={platform.namespace}")
            wait_for("Redis is whole", lambda: _is_whole(platform, "redis"), READY_S, platform.why)
        elif not _spread(platform, node):
            return node
    raise Failed("the Redis primary is always on the node of Postgres or of the leading operator")


def _is_whole(platform: Installed, workload: str) -> bool:
    """Whether a StatefulSet has all its pods, and each is Ready."""
    wanted = got("statefulset", f"{platform.name}-{workload}", f"--namespace={platform.namespace}")["spec"]["replicas"]
    return [_is_ready(each) for each in platform.pods(workload)] == [True] * wanted


def pods_on(platform: Installed, node: str, services: Sequence[str]) -> list[str]:
    """The pods of these services on a node."""
    return [
        str(each["metadata"]["name"])
        for workload in services
        for each in platform.pods(workload)
        if each["spec"].get("nodeName") == node
    ]


def make_another_primary(platform: Installed, pod: str) -> None:
    """Kills the Redis primary, and waits until another node is primary and everything is ready."""
    killed(pod)
    wait_for("another Redis is primary", lambda: redis_primary(platform) != pod, READY_S)
    wait_for("Redis is ready", lambda: platform.is_true("RedisReady"), READY_S)


def spare_node(platform: Installed) -> str:
    """A node with a bet-service, without Postgres and the leading operator, and without all pods of any service.

    Kubernetes moves nothing back to a node that was lost, and the healer keeps new pods off it for a minute: where
    there is no such node, the other operator is made to lead, and else pods that share a node are replaced.
    """
    database = platform.node_of(f"{platform.name}-postgres-0")
    until_s = time.monotonic() + SPREAD_S
    while time.monotonic() < until_s:
        leading = platform.leader()
        operators = {_name(each): _node(each) for each in platform.pods(operator=True)}
        pods = {_name(each): _node(each) for each in platform.pods(BET_SERVICE)}
        nodes = set(pods.values()) - {database}
        if spare := nodes - {operators.get(leading, "")}:
            if not _spread(platform, node := min(spare)):
                return node
            continue
        if nodes - {node for name, node in operators.items() if name != leading}:
            make_another_lead(platform, leading)
        else:
            _replace_one_of_two(platform, pods)
    raise Failed(f"bet-services stay on the nodes of Postgres ({database}) and of the leading operator")


def _replace_one_of_two(platform: Installed, nodes: dict[str, str]) -> None:
    """Deletes a bet-service that shares its node with another, and waits until its successor is Ready somewhere.

    nodes: the node of each of them, by pod.
    """
    shared = [name for name, node in nodes.items() if list(nodes.values()).count(node) > 1]
    expect(shared, f"no bet-service shares its node: {nodes}")
    kubectl("delete", "pod", shared[0], f"--namespace={platform.namespace}")
    wait_for("everything is Ready", lambda: all_ready(platform), READY_S, platform.why)


def node_with_services(platform: Installed, count: int) -> tuple[str, list[str]]:
    """The node, not that of Postgres, with most services that are elsewhere too; and so many of these, at least two.

    Where there is none, a pod of each service that has all of them on one node is replaced: see `spare_node`.
    """
    database = platform.node_of(f"{platform.name}-postgres-0")
    until_s = time.monotonic() + SPREAD_S
    while time.monotonic() < until_s:
        services = _nodes_of_services(platform)
        found = {
            node: sorted(name for name, nodes in services.items() if node in nodes and len(set(nodes)) > 1)[:count]
            for node in sorted(set().union(*services.values()) - {database})
        }
        node = max(found, key=lambda each: len(found[each]), default="")
        if node and len(found[node]) > 1:
            return node, found[node]
        _replace_one_of_each(platform, together(services))
    raise Failed(f"no node has several services that are elsewhere too: {services}")


def together(services: Mapping[str, Sequence[str]], node: str = "") -> list[str]:
    """The services that have several pods, and all of them on one node ("": on any). services: the nodes of each."""
    return [name for name, on in services.items() if len(on) > 1 and set(on) == {node or on[0]}]


def _spread(platform: Installed, node: str) -> bool:
    """Replaces a pod of each service that has all of its pods on this node, as a descheduler would do. Returns whether
    there was any.
    """
    found = together(_nodes_of_services(platform), node)
    _replace_one_of_each(platform, found)
    return bool(found)


def _replace_one_of_each(platform: Installed, services: Sequence[str]) -> None:
    """Deletes a pod of each of these services, and waits until everything is Ready."""
    if services:
        pods = [some_pod(platform, name) for name in services]
        kubectl("delete", "pod", *pods, f"--namespace={platform.namespace}")
    wait_for("everything is Ready", lambda: all_ready(platform), READY_S, platform.why)


def _nodes_of_services(platform: Installed) -> dict[str, list[str]]:
    """The node of each pod, by service."""
    nodes: dict[str, list[str]] = {}
    for each in platform.pods():
        if each["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet":
            nodes.setdefault(each["metadata"]["labels"]["app.kubernetes.io/name"], []).append(_node(each))
    return nodes


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _node(pod: dict[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", ""))


def leaders_node(platform: Installed) -> str:
    """The node of the leading operator, which is made to be another one than that of Postgres, with a bet-service, and
    without all pods of any service."""
    database = platform.node_of(f"{platform.name}-postgres-0")
    until_s = time.monotonic() + SPREAD_S
    while time.monotonic() < until_s:
        leader = platform.leader()
        pods = {_name(each): _node(each) for each in platform.pods(BET_SERVICE)}
        if (node := platform.node_of(leader)) == database:
            make_another_lead(platform, leader)
        elif node not in pods.values():
            _replace_one_of_two(platform, pods)
        elif not _spread(platform, node):
            return node
    raise Failed(f"the leading operator is always on the node of Postgres ({database}) or without bet-services")


def make_another_lead(platform: Installed, leader: str) -> None:
    """Deletes the pod of the operator that leads, and waits until the healer of another one runs."""
    kubectl("delete", "pod", leader, f"--namespace={platform.namespace}")
    wait_for("another one leads", lambda: platform.leader() not in ("", leader), READY_S)
    wait_for("its healer runs", lambda: platform.leader() in platform.shown_ready(), READY_S)


def main_process(pod: str) -> int:
    """The process of a pod's container on this machine: the oldest that has the pod's name."""
    return min(pod_processes(pod))


def pod_processes(pod: str) -> list[int]:
    """The processes of a pod's container on this machine."""
    names = ("BETTING_INSTANCE", "HOSTNAME")
    found = processes(lambda _command, environment: pod in [environment.get(name) for name in names])
    expect(found, f"no process of {pod} is on this machine")
    children = []
    for pid in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # the command of a probe that has just ended
            children += [each.pid for each in psutil.Process(pid).children(recursive=True)]
    return sorted({*found, *children})


def killed(pod: str) -> Injected:
    """Kills a pod's process."""
    pid = main_process(pod)
    at_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return Injected(at_s, pod)


@contextmanager
def frozen_pod(pod: str) -> Iterator[Injected]:
    """The processes of a pod stopped, and continued if they are still there."""
    pids = pod_processes(pod)
    at_s = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield Injected(at_s, pod)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def cut_off(pod: str, address: str) -> Iterator[float]:
    """A pod from an address, in its own network: what it sends there is dropped. The moment when that began."""
    pid = main_process(pod)
    network = ("nsenter", f"--net=/proc/{pid}/ns/net", "iptables", "--wait")
    rule = ("OUTPUT", "--destination", address, "--jump", "DROP")
    at_s = time.monotonic()
    run(*network, "--insert", *rule)
    try:
        yield at_s
    finally:
        with contextlib.suppress(Failed):  # it is gone with its pod
            run(*network, "--delete", *rule)


@contextmanager
def dropped(node: str, *rules: Sequence[str]) -> Iterator[None]:
    """Drops what a node forwards and one of the rules matches (each the words of an iptables match).

    Not in the filter table: kube-router writes that one back as it has read it a moment before, so that a rule that
    was inserted meanwhile is gone, and one that was deleted is back
    (https://github.com/cloudnativelabs/kube-router/issues/1248).
    """

    def change(option: str) -> None:
        for rule in rules:
            cluster("exec", node, "iptables", "--wait", "--table", "mangle", option, "FORWARD", *rule, "--jump", "DROP")

    change("--insert")
    try:
        yield
    finally:
        change("--delete")


def replace(platform: Installed, *pods: str) -> None:
    """Deletes pods whose containers ended: the next ones have no past that their kubelets would hold against them."""
    with contextlib.suppress(Failed):
        kubectl("delete", "pod", *pods, f"--namespace={platform.namespace}", "--wait=false")


def owns_shards(platform: Installed, pod: str) -> bool:
    """Whether shards are this pod's."""
    return pod in platform.shown_owners().values()


def takes_connections(platform: Installed, pod: str) -> bool:
    """Whether Postgres answers in its pod."""
    kubectl("exec", pod, f"--namespace={platform.namespace}", "--", "true")

    async def ask(connection: object) -> int:
        return int(await connection.fetchval("SELECT 1"))  # type: ignore[attr-defined]

    return platform.ask(ask) == 1


def wait_ready(node: str) -> None:
    """Until a node that was lost is Ready again."""

    def is_ready() -> bool:
        return _is_ready(next(each for each in items("nodes") if each["metadata"]["name"] == node))

    wait_for(f"{node} is Ready again", is_ready, READY_S)


def _is_ready(found: dict[str, Any]) -> bool:
    """A pod or a node."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", ()))


def cluster(*words: str) -> None:
    """hack/cluster.py. Raises Failed."""
    run(python(), CHECKOUT / "hack" / "cluster.py", *words)
    say(" ".join(words))


def untouched_pod(platform: Installed) -> str:
    """A pod that uses Redis and that no fault of Redis or of its node touches: it is on the node of Postgres."""
    database = platform.node_of(f"{platform.name}-postgres-0")
    for workload in ("user-service", "bet-service", "notification-service", "api-gateway"):
        for each in platform.pods(workload):
            environment = {name["name"] for name in each["spec"]["containers"][0].get("env", ())}
            if each["spec"]["nodeName"] == database and "BETTING_REDIS_URL" in environment:
                return str(each["metadata"]["name"])
    raise Failed(f"no pod that uses Redis is on {database}")
