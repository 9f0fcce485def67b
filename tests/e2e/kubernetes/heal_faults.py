"""The faults that the healer is measured with: what is done to the cluster, within which time bets must go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import heal_faults_data
import heal_faults_memory
import heal_faults_shards
import heal_faults_versions
from heal_actions import Answer
from heal_fault import Fault, Measure
from heal_targets import (
    BET_SERVICE,
    READY_S,
    Injected,
    cluster,
    dropped,
    frozen_pod,
    killed,
    leaders_node,
    main_process,
    node_with_services,
    odds_pods,
    owns_shards,
    pods_on,
    redis_node,
    redis_primary,
    replace,
    some_pod,
    spare_node,
    takes_connections,
    used_pod,
    wait_ready,
)
from scene import Scene
from tools import (
    Failed,
    api_server_processes,
    got,
    items,
    kubectl,
    only,
    operator_processes,
    wait_for,
)

FAILS_EVERY_S, FAIL_TOGETHER = 2.0, 3


# --- one pod


@contextmanager
def bet_service_killed(scene: Scene) -> Iterator[Injected]:
    """bet-service: its container killed (SIGKILL)."""
    pod = some_pod(scene.platform, BET_SERVICE)
    yield killed(pod)
    replace(scene.platform, pod)


@contextmanager
def bet_service_killed_again(scene: Scene) -> Iterator[Injected]:
    """bet-service: its container killed a second time, so that the kubelet waits before it starts it again."""
    platform = scene.platform
    pod = some_pod(platform, BET_SERVICE)
    killed(pod)
    wait_for(f"{pod} runs again and owns shards", lambda: owns_shards(platform, pod), READY_S)
    yield killed(pod)
    replace(platform, pod)


@contextmanager
def bet_service_deleted(scene: Scene) -> Iterator[Injected]:
    """bet-service: its pod deleted."""
    pod = some_pod(scene.platform, BET_SERVICE)
    at_s = time.monotonic()
    kubectl("delete", "pod", pod, f"--namespace={scene.platform.namespace}", "--wait=false")
    yield Injected(at_s, pod)


@contextmanager
def bet_service_frozen(scene: Scene) -> Iterator[Injected]:
    """bet-service: its process stopped from the host (SIGSTOP)."""
    with frozen_pod(some_pod(scene.platform, BET_SERVICE)) as injected:
        yield injected


@contextmanager
def _killed(scene: Scene, workload: str) -> Iterator[Injected]:
    pod = used_pod(scene.platform, workload)
    yield killed(pod)
    replace(scene.platform, pod)


@contextmanager
def _frozen(scene: Scene, workload: str) -> Iterator[Injected]:
    with frozen_pod(used_pod(scene.platform, workload)) as injected:
        yield injected


@contextmanager
def gateway_killed(scene: Scene) -> Iterator[Injected]:
    """api-gateway: the container of one of two killed."""
    with _killed(scene, "api-gateway") as injected:
        yield injected


@contextmanager
def gateway_frozen(scene: Scene) -> Iterator[Injected]:
    """api-gateway: the process of one of two stopped."""
    with _frozen(scene, "api-gateway") as injected:
        yield injected


@contextmanager
def odds_writer_killed(scene: Scene) -> Iterator[Injected]:
    """odds-service: the container of the one that writes killed."""
    yield killed(pod := odds_pods(scene.platform)[0])
    replace(scene.platform, pod)


@contextmanager
def odds_writer_frozen(scene: Scene) -> Iterator[Injected]:
    """odds-service: the process of the one that writes stopped."""
    with frozen_pod(odds_pods(scene.platform)[0]) as injected:
        yield injected


@contextmanager
def odds_standby_frozen(scene: Scene) -> Iterator[Injected]:
    """odds-service: the process of the standby stopped."""
    with frozen_pod(odds_pods(scene.platform)[1]) as injected:
        yield injected


@contextmanager
def wallet_killed(scene: Scene) -> Iterator[Injected]:
    """wallet-service: the container of one of two killed."""
    with _killed(scene, "wallet-service") as injected:
        yield injected


@contextmanager
def wallet_frozen(scene: Scene) -> Iterator[Injected]:
    """wallet-service: the process of one of two stopped."""
    with _frozen(scene, "wallet-service") as injected:
        yield injected


@contextmanager
def postgres_restarted(scene: Scene) -> Iterator[Injected]:
    """Postgres (managed, for development): its process killed; measured from when it takes connections again."""
    pod = f"{scene.platform.name}-postgres-0"
    os.kill(main_process(pod), signal.SIGKILL)
    wait_for(f"{pod} takes connections", lambda: takes_connections(scene.platform, pod), READY_S)
    yield Injected(time.monotonic(), pod)


# --- nodes


@contextmanager
def node_killed(scene: Scene) -> Iterator[Injected]:
    """A node killed with everything on it, that has neither the leading operator nor Postgres."""
    with _node_killed(scene, spare_node(scene.platform)) as injected:
        yield injected


@contextmanager
def leaders_node_killed(scene: Scene) -> Iterator[Injected]:
    """The node of the leading operator killed (Postgres is on another one)."""
    with _node_killed(scene, leaders_node(scene.platform)) as injected:
        yield injected


@contextmanager
def _node_killed(scene: Scene, node: str) -> Iterator[Injected]:
    at_s = time.monotonic()
    cluster("kill", node)
    try:
        yield Injected(at_s, node)
    finally:
        cluster("start", node)
        wait_ready(node)


@contextmanager
def node_cut_off(scene: Scene) -> Iterator[Injected]:
    """A node cut off: its link is down, everything on it runs on; and back."""
    node = spare_node(scene.platform)
    at_s = time.monotonic()
    cluster("cut", node)
    try:
        yield Injected(at_s, node)
    finally:
        cluster("join", node)
        wait_ready(node)


@contextmanager
def bad_node(scene: Scene) -> Iterator[Injected]:
    """A bad node: processes of three services are killed there again and again, and nowhere else."""
    platform = scene.platform
    node, services = node_with_services(platform, FAIL_TOGETHER)
    at_s, done = time.monotonic(), threading.Event()

    def fail() -> None:
        while not done.wait(FAILS_EVERY_S):
            for pod in pods_on(platform, node, services):
                with contextlib.suppress(Failed, ProcessLookupError):  # it is just not there
                    os.kill(main_process(pod), signal.SIGKILL)

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield Injected(at_s, f"{node}: {', '.join(services)}")
    finally:
        done.set()
        thread.join()


@contextmanager
def several_at_once(scene: Scene) -> Iterator[Injected]:
    """Several at once: a node killed while everything rolls and Redis fails over."""
    platform = scene.platform
    node = spare_node(platform)
    platform.use_image(scene.images.other)
    try:
        wait_for("the roll has begun", lambda: scene.images.other in platform.images(), READY_S)
        os.kill(main_process(redis_primary(platform)), signal.SIGKILL)
        with _node_killed(scene, node) as injected:
            yield injected
    finally:
        platform.use_image("")
        platform.wait_rolled_out(scene.images.current)


# --- Redis


@contextmanager
def redis_killed(scene: Scene) -> Iterator[Injected]:
    """The Redis primary: its container killed."""
    yield killed(redis_primary(scene.platform))


@contextmanager
def redis_frozen(scene: Scene) -> Iterator[Injected]:
    """The Redis primary: its processes stopped."""
    with frozen_pod(redis_primary(scene.platform)) as injected:
        yield injected


@contextmanager
def redis_node_killed(scene: Scene) -> Iterator[Injected]:
    """The node of the Redis primary killed (neither Postgres nor the leading operator is there)."""
    with _node_killed(scene, redis_node(scene.platform)) as injected:
        yield injected


@contextmanager
def redis_gone(scene: Scene) -> Iterator[Injected]:
    """The Redis primary: its pod deleted, and its node takes no pods: it cannot come back there."""
    platform = scene.platform
    pod = redis_primary(platform)
    node = platform.node_of(pod)
    kubectl("cordon", node)
    try:
        at_s = time.monotonic()
        kubectl("delete", "pod", pod, f"--namespace={platform.namespace}", "--wait=false", "--grace-period=1")
        yield Injected(at_s, pod)
    finally:
        kubectl("uncordon", node)


# --- operator and API server


@contextmanager
def operator_killed(scene: Scene) -> Iterator[Injected]:
    """The leading operator killed, and a bet-service right after it: its healer is gone, too."""
    leader = scene.platform.leader()
    pod = some_pod(scene.platform, BET_SERVICE)
    found = only(operator_processes(leader), leader)
    os.kill(found, signal.SIGKILL)
    yield killed(pod)
    replace(scene.platform, pod, leader)


@contextmanager
def operator_frozen(scene: Scene) -> Iterator[Injected]:
    """The leading operator and its healer stopped past its Lease, and a bet-service killed at once."""
    leader = scene.platform.leader()
    pod = some_pod(scene.platform, BET_SERVICE)
    with frozen_pod(leader):
        yield killed(pod)
    replace(scene.platform, pod, leader)


@contextmanager
def operator_cut_off(scene: Scene) -> Iterator[Injected]:
    """The leading operator cut off from the API server, and a bet-service killed five seconds later."""
    platform = scene.platform
    pod = some_pod(platform, BET_SERVICE)
    leader = next(each for each in platform.pods(operator=True) if each["metadata"]["name"] == platform.leader())
    server = got("endpointslices", "kubernetes", "--namespace=default")["endpoints"][0]["addresses"][0]
    node, address = str(leader["spec"]["nodeName"]), str(leader["status"]["podIP"])
    with dropped(node, ("--source", address, "--destination", str(server))):
        time.sleep(5.0)
        yield killed(pod)
    replace(platform, pod, leader["metadata"]["name"])


@contextmanager
def api_server_away(scene: Scene) -> Iterator[Injected]:
    """The API server away (SIGSTOP), and a bet-service killed ten seconds later."""
    pod = some_pod(scene.platform, BET_SERVICE)
    process = only(api_server_processes(), "the API server")
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(10.0)
        yield killed(pod)
    finally:
        os.kill(process, signal.SIGCONT)
        wait_for("the API server answers", lambda: items("nodes"), READY_S)
    replace(scene.platform, pod)


FAULTS = (
    Fault("bet-killed", 1.0, bet_service_killed, refuses=False, core=True),
    Fault("bet-killed-again", 1.0, bet_service_killed_again, refuses=False),
    Fault("bet-deleted", 1.0, bet_service_deleted, refuses=False),
    Fault("bet-frozen", 5.0, bet_service_frozen, core=True, felt_s=1.0),
    *heal_faults_memory.FAULTS,
    Fault("gateway-killed", 2.0, gateway_killed, Measure.SLOWEST_BET),
    Fault("gateway-frozen", 6.0, gateway_frozen, Measure.SLOWEST_BET, core=True, felt_s=1.0),
    Fault("odds-killed", 2.0, odds_writer_killed),
    # Prices are stale after 3 s: its successor may be there by then, and no bettor has felt anything.
    Fault("odds-frozen", 6.0, odds_writer_frozen, answer=Answer("process-hung", ("Kill",), over=False)),
    Fault("standby-frozen", 6.0, odds_standby_frozen),
    Fault("wallet-killed", 2.0, wallet_killed, Measure.WALLET),
    Fault("wallet-frozen", 6.0, wallet_frozen, Measure.WALLET, felt_s=0.9),
    Fault("redis-killed", 4.0, redis_killed, Measure.REDIS, felt_s=0.3),
    Fault("redis-frozen", 8.0, redis_frozen, Measure.REDIS, core=True, felt_s=1.0),
    Fault("redis-node", 15.0, redis_node_killed, Measure.REDIS, same_alone="redis-killed", felt_s=1.0),
    Fault("redis-gone", 15.0, redis_gone, Measure.REDIS),
    Fault("postgres-killed", 2.0, postgres_restarted),
    *heal_faults_data.FAULTS,
    *heal_faults_shards.FAULTS,
    Fault("operator-killed", 8.0, operator_killed, same_alone="bet-killed"),
    Fault("operator-frozen", 8.0, operator_frozen, same_alone="bet-killed"),
    Fault("operator-cut-off", 8.0, operator_cut_off, same_alone="bet-killed"),
    Fault("api-server", 15.0, api_server_away, same_alone="bet-killed"),
    Fault("node-killed", 8.0, node_killed, core=True, felt_s=1.0),
    Fault("leader-node", 15.0, leaders_node_killed, same_alone="node-killed", felt_s=1.0),
    Fault("node-cut-off", 15.0, node_cut_off, same_alone="node-killed", felt_s=1.0),
    Fault("bad-node", 60.0, bad_node, Measure.MOVED, once=True, alone=False),
    *heal_faults_versions.FAULTS,
    Fault("several-at-once", 15.0, several_at_once, once=True, alone=False),
)
