"""Kubernetes underneath the simulated world: an API server with pods and a Lease, and kubelets that tell it what runs.

What an object says may be old: kubelets tell late, a lost node's not at all. What really runs is in the world. A pod
keeps its name and its node; another pod of that name has another uid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulated_world import INSTANCES, NODE_OF, NODES, Host, Running, World

from betting_operator.healing.signals import Phase
from betting_operator.kubernetes.candidate import Lease, Read, Write
from betting_operator.kubernetes.client import ConflictError
from betting_operator.platforms.pods import Ended, Pod

# How often a kubelet looks, and how long after its start a container is ready.
SYNC_MS = 400
READY_MS = 1_000
# What a pod that is deleted without an answer has between SIGTERM and SIGKILL.
GRACE_MS = 1_000
# How much later a write takes effect whose answer is lost.
LATE_WRITE_MS = 1_500


@dataclass
class Api:
    """The API server: pods by name, each change of them in order (None: it was removed), and the Lease.

    cut_off_until_ms: by who asks; losing_until_ms: until then answers to writes are lost, and deletions late.
    """

    world: World
    pods: dict[str, Pod] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[str, Pod | None]] = field(default_factory=list)
    lease: Lease = field(default_factory=lambda: Lease("", "0"))
    away_until_ms: int = 0
    losing_until_ms: int = 0
    cut_off_until_ms: dict[str, int] = field(default_factory=dict)
    _late: list[tuple[int, Callable[[], object]]] = field(default_factory=list)

    @property
    def is_up(self) -> bool:
        """Whether it serves anybody."""
        return self.world.now_ms >= self.away_until_ms

    @property
    def loses_answers(self) -> bool:
        """Whether what was written is not heard of."""
        return self.world.now_ms < self.losing_until_ms

    def reaches(self, who: str) -> bool:
        """Whether it answers to this one."""
        return self.is_up and self.world.now_ms >= self.cut_off_until_ms.get(who, 0)

    def put(self, pod: Pod) -> None:
        """Stores a pod, under the next resourceVersion."""
        if self.pods.get(pod.name) != pod:
            self.pods[pod.name] = pod
            self.changes.append((pod.name, pod))
            self.versions[pod.name] = len(self.changes)

    def remove(self, name: str) -> None:
        """The pod has gone."""
        del self.pods[name]
        self.changes.append((name, None))

    def delete(self, pod: Pod, version: int, deleted: Callable[[], None]) -> None:
        """Marks this pod for deletion if it is still this version of it; deleted: called if it is, before that."""

        def now() -> None:
            if self.pods.get(pod.name) == pod and self.versions[pod.name] == version:
                deleted()
                self.put(replace(pod, phase=Phase.STOPPING))

        if self.loses_answers:
            self._late.append((self.world.now_ms + LATE_WRITE_MS, now))
        else:
            now()

    def lease_request(self, request: Read | Write) -> Lease | ConflictError:
        """Reads or writes the Lease."""
        if isinstance(request, Write):
            if request.over != self.lease:
                return ConflictError(409, "changed")
            self.lease = Lease(request.holder, str(int(self.lease.version) + 1), request.transitions)
        return self.lease

    def step(self) -> None:
        """What was asked for late."""
        due = [do for at_ms, do in self._late if at_ms <= self.world.now_ms]
        self._late = [each for each in self._late if each[0] > self.world.now_ms]
        for do in due:
            do()


class Cluster(Host):
    """The kubelets, and what makes the next pod where one has gone.

    late_until_ms: by node, its kubelet tells nothing until then, and does its work. skewed_ms: how far the clock of a
    node is off. By healer: unlisted_until_ms, until then it can neither list nor watch pods; misses_until_ms, its watch
    is open and tells nothing.
    """

    def __init__(self) -> None:
        self.unlisted_until_ms: dict[str, int] = {}
        self.misses_until_ms: dict[str, int] = {}
        self.late_until_ms: dict[str, int] = {}
        self.skewed_ms: dict[str, int] = dict.fromkeys(NODES, 0)
        self._uids = 0
        self._pod_of: dict[str, str] = {}
        self._pod_of_boot: dict[str, str] = {}
        self._ends: dict[str, tuple[Ended, ...]] = {}  # by pod
        self._seen = 0
        self._stops_at_ms: dict[str, int] = {}
        self._notes: dict[str, tuple[str, str]] = {}  # by pod: container, boot id

    def attach(self, world: World) -> None:
        """world: whose host it is; it has begun, and everything runs."""
        self.world = world
        self.api = Api(world)
        for name, life in world.lives.items():
            assert life is not None
            life.pod = self._pod_of_boot[str(life.boot)] = self._new_pod(name)
            self._tell(name)

    def starts(self, name: str) -> bool:
        """On a lost node nothing does, nor what is to be deleted."""
        pod = self.api.pods.get(name)
        lost = self.world.now_ms < self.world.lost_until_ms.get(NODE_OF[name], 0)
        return pod is not None and pod.phase is not Phase.STOPPING and not lost

    def pod_of(self, name: str) -> str:
        """The uid of the pod of this name, in which the next life begins now."""
        uid = self._pod_of.get(name, "")
        if uid:
            self._pod_of_boot[str(self.world.boots)] = uid
        return uid

    def note(self, pod: Pod, boot_id: str) -> None:
        """A healer writes on a pod which life runs in its container."""
        found = self.api.pods.get(pod.name)
        if found is not None and found.uid == pod.uid:
            self._notes[pod.uid] = (pod.container, boot_id)
            self.api.put(replace(found, noted=self._noted(found.uid, found.container)))

    def delete_in_order(self, name: str) -> None:
        """A person deletes the pod, or drains its node."""
        pod = self.api.pods.get(name)
        if pod is not None:
            self.api.delete(pod, self.api.versions[name], lambda: None)

    def step(self) -> None:
        """Each kubelet looks in its turn."""
        for end in self.world.exits[self._seen :]:
            uid = self._pod_of_boot[end.life.boot_id]
            at_s = (end.at_ms + self.skewed_ms[NODE_OF[end.life.instance]]) / 1_000
            ordered = uid in self._stops_at_ms
            self._ends[uid] = (*self._ends.get(uid, ()), Ended(end.life, end.how, at_s, ordered))[-2:]
        self._seen = len(self.world.exits)
        self.api.step()
        for number, node in enumerate(NODES):
            if (self.world.now_ms + 100 * number) % SYNC_MS == 0 and self.api.is_up:
                self._sync(node)

    def _sync(self, node: str) -> None:
        world = self.world
        lost = world.now_ms < world.lost_until_ms.get(node, 0)
        tells = not lost and world.now_ms >= self.late_until_ms.get(node, 0)
        for name in NODES[node]:
            pod = self.api.pods.get(name)
            if pod is None:
                self._new_pod(name)
            elif not lost and pod.phase is Phase.STOPPING and (life := world.lives[name]) is not None:
                self._stop(life)
            if tells:
                self._tell(name)

    def _stop(self, life: Running) -> None:
        """SIGTERM, then SIGKILL."""
        world = self.world
        since_ms = self._stops_at_ms.setdefault(life.pod, world.now_ms)
        if world.works(life.name) is not None:
            world.end(life, "exit code 0")
        elif world.now_ms - since_ms >= GRACE_MS:
            world.end(life, "killed by SIGKILL")

    def _tell(self, name: str) -> None:
        """The status of a pod as its kubelet sees it; what has ended and is to be deleted goes."""
        pod, life, now_ms = self.api.pods[name], self.world.lives[name], self.world.now_ms
        container = f"container-of-{life.boot}" if life is not None else ""
        stopping = pod.phase is Phase.STOPPING
        ended = self._ends.get(pod.uid, ())
        if stopping:
            phase = Phase.STOPPING
        elif life is None:
            phase = Phase.DOWN if ended else Phase.STARTING
        else:
            phase = Phase.RUNNING if now_ms - life.started_ms >= READY_MS else Phase.STARTING
        noted = self._noted(pod.uid, container)
        if (pod.phase, pod.container, pod.ended, pod.noted) != (phase, container, ended, noted):
            self.api.put(replace(pod, phase=phase, container=container, ended=ended, noted=noted, restarts=len(ended)))
        if stopping and life is None:
            self.api.remove(name)

    def _noted(self, uid: str, container: str) -> str:
        of, boot_id = self._notes.get(uid, ("", ""))
        return boot_id if container and of == container else ""

    def _new_pod(self, name: str) -> str:
        self._uids += 1
        uid = self._pod_of[name] = f"uid-{self._uids}"
        workload = "bet-service" if name in INSTANCES else name
        node = NODE_OF[name]
        self.api.put(Pod(uid, name, workload, True, Phase.STARTING, "", f"{uid}:1", f"{uid}:2", node, 0, ()))
        return uid
