"""What must not alarm the healer: busy nodes, load peaks, packet loss, pauses, rolls, drains, a machine that slept.

Each lasts a minute. Afterwards the platform's HealingActions must have no disruptive one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import scenarios_outages
from heal_actions import ALWAYS, DISRUPTIVE
from heal_targets import BET_SERVICE, READY_S, cluster, dropped, pod_processes
from scene import Scene
from tools import CHECKOUT, frozen, items, kubectl, python, wait_for

LASTS_S = 60.0
HOGS_PER_NODE = 2
RUSH = 10.0
LOSS = 0.3
POSTGRES_STOPS_S = 5.0
OPERATOR_STOPS_S = 10.0
REACTS_S = 5.0  # what a disturbance led to is done by then


class Quiet(NamedTuple):
    """Something that must stay quiet. disturb: begins it on entering, ends it on leaving. ends_pods: by the way, in
    order. beside: the name of the one that it is tried together with, where both are chosen."""

    name: str
    disturb: Callable[[Scene], AbstractContextManager[None]]
    ends_pods: bool = False
    beside: str = ""

    @property
    def summary(self) -> str:
        """What it is, in one line."""
        return (self.disturb.__doc__ or "").splitlines()[0].rstrip(".")

    @property
    def never(self) -> frozenset[str]:
        """The actions that the healer must not take meanwhile."""
        return ALWAYS if self.ends_pods else DISRUPTIVE


def groups(chosen: Iterable[Quiet]) -> list[list[Quiet]]:
    """Those that are tried at once."""
    found: dict[str, list[Quiet]] = {}
    for each in chosen:
        found.setdefault(each.beside if each.beside in found else each.name, []).append(each)
    return list(found.values())


@contextmanager
def busy_nodes(scene: Scene) -> Iterator[None]:
    """Two programs on every node that use all processor time they get."""
    program = CHECKOUT / "hack" / "cluster.py"
    nodes = [each["metadata"]["name"] for each in items("nodes")]
    hog = (sys.executable, "-I", "-S", "-c", "while True: pass")
    command = [(python(), program, "exec", node, *hog) for node in nodes for _ in range(HOGS_PER_NODE)]
    hogs = [subprocess.Popen([str(word) for word in each], start_new_session=True) for each in command]
    try:
        yield
    finally:
        for each in hogs:
            os.killpg(each.pid, signal.SIGKILL)
            each.wait()


@contextmanager
def rush(scene: Scene) -> Iterator[None]:
    """Ten times the bets."""
    with scene.load.pace(RUSH):
        yield


@contextmanager
def lost_packets(scene: Scene) -> Iterator[None]:
    """30 % of the packets of the leading operator lost, in both directions."""
    leader = scene.platform.leader()
    pod = next(each for each in scene.platform.pods(operator=True) if each["metadata"]["name"] == leader)
    node, address = pod["spec"]["nodeName"], pod["status"]["podIP"]
    chance = ("--match", "statistic", "--mode", "random", "--probability", str(LOSS))
    with dropped(node, *((side, address, *chance) for side in ("--source", "--destination"))):
        yield


@contextmanager
def api_server_restarted(_: Scene) -> Iterator[None]:
    """The API server killed and started again."""
    cluster("kill", "apiserver")
    cluster("start", "apiserver")
    wait_for("the API server answers", lambda: items("nodes"), READY_S)
    yield


@contextmanager
def postgres_stopped(scene: Scene) -> Iterator[None]:
    """Postgres stopped for five seconds (SIGSTOP)."""
    with ExitStack() as stack:
        for pid in pod_processes(f"{scene.platform.name}-postgres-0"):
            stack.enter_context(frozen(pid))
        time.sleep(POSTGRES_STOPS_S)
    yield


@contextmanager
def operator_stopped(scene: Scene) -> Iterator[None]:
    """The leading operator with its healer stopped for ten seconds (SIGSTOP)."""
    with ExitStack() as stack:
        for pid in pod_processes(scene.platform.leader()):
            stack.enter_context(frozen(pid))
        time.sleep(OPERATOR_STOPS_S)
    yield


@contextmanager
def rolled(scene: Scene) -> Iterator[None]:
    """All Deployments rolled to another image."""
    platform, images = scene.platform, scene.images
    image = images.current if images.other in platform.images() else images.other
    platform.use_image("" if image == images.current else image)
    platform.wait_rolled_out(image)
    yield


@contextmanager
def drained(scene: Scene) -> Iterator[None]:
    """A node drained (kubectl drain), and back."""
    scenarios_outages.drain(scene)
    yield


@contextmanager
def scaled(scene: Scene) -> Iterator[None]:
    """bet-service from three pods to five and back."""
    platform = scene.platform
    before = len(platform.pods(BET_SERVICE))
    for replicas in (before + 2, before):
        _scale(scene, replicas)
    yield


def _scale(scene: Scene, replicas: int) -> None:
    platform = scene.platform
    kubectl("scale", f"bettingplatform/{platform.name}", f"--namespace={platform.namespace}", f"--replicas={replicas}")

    def is_scaled() -> bool:
        return len(platform.pods(BET_SERVICE)) == replicas and scenarios_outages.all_ready(platform)

    wait_for(f"{replicas} bet-services, all Ready", is_scaled, READY_S, platform.why)


@contextmanager
def asleep(scene: Scene) -> Iterator[None]:
    """The machine asleep for a minute: everything of the cluster stopped at once, and continued."""
    nodes = [each["metadata"]["name"] for each in items("nodes")]
    control_plane = ("etcd", "apiserver", "controller-manager", "scheduler")
    names = [*nodes, *control_plane]
    try:
        for name in names:
            cluster("suspend", name)
        time.sleep(LASTS_S)
    finally:
        for name in reversed(names):
            cluster("resume", name)
    wait_for("the API server answers", lambda: items("nodes"), READY_S)
    yield


QUIETS = (
    Quiet("busy-nodes", busy_nodes),
    Quiet("rush", rush),
    Quiet("packets-lost", lost_packets, beside="busy-nodes"),
    Quiet("api-restarted", api_server_restarted),
    Quiet("postgres-stopped", postgres_stopped, beside="api-restarted"),
    Quiet("operator-stopped", operator_stopped, beside="rush"),
    Quiet("scaled", scaled, ends_pods=True),
    Quiet("drained", drained, ends_pods=True),
    Quiet("rolled", rolled, ends_pods=True),
    Quiet("asleep", asleep),
)
