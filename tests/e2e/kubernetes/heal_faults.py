"""The faults that the healer is measured with: what is done to the cluster, within which time bets must go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import psutil
from platform_under_test import Installed
from scenarios_outages import all_ready
from scene import Scene
from tools import (
    CHECKOUT,
    Failed,
    api_server_processes,
    expect,
    got,
    items,
    kubectl,
    only,
    operator_processes,
    processes,
    python,
    run,
    say,
    wait_for,
)

BET_SERVICE = "bet-service"
READY_S = 180.0
OUT_OF_MEMORY_S = 30.0
FAILS_EVERY_S = 2.0
SPREADS_MAX = 4
_USAGE = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}  # cgroup v2, v1


class Injected(NamedTuple):
    """A fault that has just been injected. at_s: when, by the monotonic clock; what: to whom."""

    at_s: float
    what: str


class Measure(StrEnum):
    """What is measured from the fault on, in seconds."""

    BETS = "until bets on the worst shard"
    SLOWEST_BET = "the slowest bet"
    REDIS = "until writes to Redis"
    MOVED = "until nothing of it is left there"
    ROLLED_BACK = "until rolled back"
    WALLET = "until balances are told"


class Fault(NamedTuple):
    """One row of the table.

    inject: injects it on entering and undoes it on leaving. refuses: whether bets may be refused meanwhile; they are
    never lost. core: part of the ten-minute core. rounds_max: how often it is injected at most. alone: whether it is
    injected without the healer too.
    """

    name: str
    budget_s: float
    inject: Callable[[Scene], AbstractContextManager[Injected]]
    measure: Measure = Measure.BETS
    refuses: bool = True
    core: bool = False
    rounds_max: int = 3
    alone: bool = True

    @property
    def summary(self) -> str:
        """What it is, in one line."""
        return (self.inject.__doc__ or "").splitlines()[0].rstrip(".")


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
def bet_service_out_of_memory(scene: Scene) -> Iterator[Injected]:
    """bet-service: killed by the kernel, out of memory (the limit of its control group is lowered to what it uses)."""
    pod = some_pod(scene.platform, BET_SERVICE)
    pid = main_process(pod)
    limit = memory_limit(pid)
    before = limit.read_text("utf-8")
    until_s = time.monotonic() + OUT_OF_MEMORY_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        expect(time.monotonic() < until_s, f"{pod} has not run out of memory")
        with contextlib.suppress(OSError):  # EBUSY: it uses more by now
            limit.write_text(str(int(limit.with_name(_USAGE[limit.name]).read_text("utf-8"))), "utf-8")
        time.sleep(0.005)
    yield Injected(time.monotonic(), pod)
    with contextlib.suppress(OSError):  # it is gone with its container
        limit.write_text(before, "utf-8")
    replace(scene.platform, pod)


@contextmanager
def _killed(scene: Scene, workload: str) -> Iterator[Injected]:
    pod = some_pod(scene.platform, workload)
    yield killed(pod)
    replace(scene.platform, pod)


@contextmanager
def _frozen(scene: Scene, workload: str) -> Iterator[Injected]:
    with frozen_pod(some_pod(scene.platform, workload)) as injected:
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
    node = spare_node(platform)
    services = services_on(platform, node)[:3]
    expect(len(services) > 1, f"only {services} on {node}: several services must fail there")
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


@contextmanager
def bad_version(scene: Scene) -> Iterator[Injected]:
    """A crash loop: an image whose bet-service ends at once; its pods never serve, those of before go on."""
    platform = scene.platform
    platform.use_image(scene.images.crashing)
    try:
        yield Injected(time.monotonic(), scene.images.crashing)
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
    replace(scene.platform, pod)


@contextmanager
def operator_frozen(scene: Scene) -> Iterator[Injected]:
    """The leading operator and its healer stopped past its Lease, and a bet-service killed at once."""
    pod = some_pod(scene.platform, BET_SERVICE)
    with frozen_pod(scene.platform.leader()):
        yield killed(pod)
    replace(scene.platform, pod)


@contextmanager
def operator_cut_off(scene: Scene) -> Iterator[Injected]:
    """The leading operator cut off from the API server, and a bet-service killed five seconds later."""
    platform = scene.platform
    pod = some_pod(platform, BET_SERVICE)
    leader = next(each for each in platform.pods(operator=True) if each["metadata"]["name"] == platform.leader())
    server = got("endpointslices", "kubernetes", "--namespace=default")["endpoints"][0]["addresses"][0]
    node, address = str(leader["spec"]["nodeName"]), str(leader["status"]["podIP"])
    rule = ("FORWARD", "--source", address, "--destination", str(server), "--jump", "DROP")
    cluster("exec", node, "iptables", "--wait", "--insert", *rule)
    try:
        time.sleep(5.0)
        yield killed(pod)
    finally:
        cluster("exec", node, "iptables", "--wait", "--delete", *rule)
    replace(platform, pod)


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
    Fault("bet-frozen", 5.0, bet_service_frozen, core=True),
    Fault("bet-out-of-memory", 2.0, bet_service_out_of_memory),
    Fault("gateway-killed", 2.0, gateway_killed, Measure.SLOWEST_BET),
    Fault("gateway-frozen", 6.0, gateway_frozen, Measure.SLOWEST_BET, core=True),
    Fault("odds-killed", 2.0, odds_writer_killed),
    Fault("odds-frozen", 6.0, odds_writer_frozen),
    Fault("standby-frozen", 6.0, odds_standby_frozen),
    Fault("wallet-killed", 2.0, wallet_killed, Measure.WALLET),
    Fault("wallet-frozen", 6.0, wallet_frozen, Measure.WALLET),
    Fault("redis-killed", 4.0, redis_killed, Measure.REDIS),
    Fault("redis-frozen", 8.0, redis_frozen, Measure.REDIS, core=True),
    Fault("redis-node", 15.0, redis_node_killed, Measure.REDIS),
    Fault("redis-gone", 15.0, redis_gone, Measure.REDIS),
    Fault("postgres-killed", 2.0, postgres_restarted),
    Fault("operator-killed", 8.0, operator_killed),
    Fault("operator-frozen", 8.0, operator_frozen),
    Fault("operator-cut-off", 8.0, operator_cut_off),
    Fault("api-server", 15.0, api_server_away),
    Fault("node-killed", 8.0, node_killed, core=True),
    Fault("leader-node", 15.0, leaders_node_killed),
    Fault("node-cut-off", 15.0, node_cut_off),
    Fault("bad-node", 60.0, bad_node, Measure.MOVED, rounds_max=1, alone=False),
    Fault("bad-version", 180.0, bad_version, Measure.ROLLED_BACK, refuses=False, rounds_max=1, alone=False),
    Fault("several-at-once", 15.0, several_at_once, rounds_max=1, alone=False),
)


# --- whom it hits


def some_pod(platform: Installed, workload: str) -> str:
    """The youngest pod of a workload: the others have waited for nothing."""
    found = platform.pods(workload)
    expect(len(found) > 1, f"{len(found)} pods of {workload}: there must be another one")
    return str(max(found, key=lambda each: each["status"].get("startTime", ""))["metadata"]["name"])


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
    """The node of the Redis primary, which is made to be another one than Postgres' and the leading operator's."""
    for _try in range(4):
        database = platform.node_of(f"{platform.name}-postgres-0")
        pod = redis_primary(platform)
        node = platform.node_of(pod)
        if node not in (database, platform.node_of(platform.leader())):
            return node
        if node == database:
            make_another_primary(platform, pod)
        else:
            make_another_lead(platform, platform.leader())
    raise Failed("the Redis primary is always on the node of Postgres or of the leading operator")


def services_on(platform: Installed, node: str) -> list[str]:
    """The services that have a pod there and one elsewhere."""
    nodes: dict[str, set[str]] = {}
    for each in platform.pods():
        if each["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet":
            workload = each["metadata"]["labels"]["app.kubernetes.io/name"]
            nodes.setdefault(workload, set()).add(each["spec"].get("nodeName", ""))
    return sorted(workload for workload, found in nodes.items() if node in found and len(found) > 1)


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
    """A node with a bet-service, without Postgres and the leading operator.

    Kubernetes moves nothing back to a node that was lost: where no bet-service is there, one that shares its node is
    replaced.
    """
    database = platform.node_of(f"{platform.name}-postgres-0")
    for _try in range(SPREADS_MAX):
        leader = platform.node_of(platform.leader())
        pods = {str(each["metadata"]["name"]): str(each["spec"]["nodeName"]) for each in platform.pods(BET_SERVICE)}
        if spare := set(pods.values()) - {database, leader}:
            return min(spare)
        shared = [name for name, node in pods.items() if list(pods.values()).count(node) > 1]
        if not shared:
            make_another_lead(platform, platform.leader())
            continue
        kubectl("delete", "pod", shared[0], f"--namespace={platform.namespace}")
        wait_for("everything is Ready", lambda: all_ready(platform), READY_S, platform.why)
    raise Failed(f"bet-services stay on the nodes of Postgres ({database}) and of the leading operator ({leader})")


def leaders_node(platform: Installed) -> str:
    """The node of the leading operator, which is made to be another one than that of Postgres."""
    database = platform.node_of(f"{platform.name}-postgres-0")
    for _try in range(3):
        leader = platform.leader()
        if (node := platform.node_of(leader)) != database:
            return node
        make_another_lead(platform, leader)
    raise Failed(f"the leading operator is always on the node of Postgres, {database}")


def make_another_lead(platform: Installed, leader: str) -> None:
    """Deletes the pod of the operator that leads, and waits until the healer of another one runs."""
    kubectl("delete", "pod", leader, f"--namespace={platform.namespace}")
    wait_for("another one leads", lambda: platform.leader() not in ("", leader), READY_S)
    wait_for("its healer runs", lambda: platform.leader() in platform.shown_ready(), READY_S)


def main_process(pod: str) -> int:
    """The process of a pod's container on this machine: the oldest that has the pod's name."""
    return min(pod_processes(pod))


def memory_limit(pid: int) -> Path:
    """The file with the limit of the control group of a process, of version 2 or 1. Raises Failed."""
    for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
        _number, controllers, group = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        for folder, name in ((root, "memory.max"), (root / "memory", "memory.limit_in_bytes")):
            file = folder / group.lstrip("/") / name
            if controllers in ("", "memory") and file.exists():
                return file
    raise Failed(f"process {pid} is in no control group with a limit of memory")


def pod_processes(pod: str) -> list[int]:
    """The processes of a pod's container on this machine."""
    names = ("BETTING_INSTANCE", "HOSTNAME")
    found = processes(lambda _command, environment: pod in [environment.get(name) for name in names])
    expect(found, f"no process of {pod} is on this machine")
    children = [each.pid for pid in found for each in psutil.Process(pid).children(recursive=True)]
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


def replace(platform: Installed, pod: str) -> None:
    """Deletes a pod whose container was killed: the next one has no past that its kubelet would hold against it."""
    with contextlib.suppress(Failed):
        kubectl("delete", "pod", pod, f"--namespace={platform.namespace}", "--wait=false")


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
        found = next(each for each in items("nodes") if each["metadata"]["name"] == node)
        return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"]["conditions"])

    wait_for(f"{node} is Ready again", is_ready, READY_S)


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
