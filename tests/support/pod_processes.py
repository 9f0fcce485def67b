"""Pods of a real API server whose processes are real services in this process: a controller and a kubelet for tests.

Each pod has an IP of its own (127.0.0.0/8) and answers there as in a cluster: health and diagnostics on port 7101. Its
status is written as a kubelet of Kubernetes 1.34 writes it; a pod that is deleted ends, is reported as terminated, is
confirmed with grace 0, and is followed by one of the same name, as a StatefulSet's is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import in_process
import kubelet
from kube_api import Json, KubeApi

from betting.runtime.service import Composition, ServiceContext

LOOK_EVERY_S = 0.05
# What the healer uses of what the operator's Role grants on pods (charts/betting-platform/templates/rbac.yaml).
POD_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": ["selfhealing.bet"], "resources": ["bettingplatforms"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
]
# As many addresses as wanted, and others than those of another test run on this machine.
_SECOND, _THIRD = 1 + os.getpid() % 250, os.getpid() // 250 % 250
_numbers = itertools.count(1)


@dataclass
class _Process:
    """What runs in a container."""

    ip: str
    boot_id: str
    container_id: str
    task: asyncio.Task[None]
    stop: asyncio.Event


@dataclass
class _Running:
    """A pod as its kubelet keeps it."""

    name: str
    uid: str
    process: _Process
    node: str = "node-1"
    restarts: int = 0
    last: Json = field(default_factory=dict)


class PodProcesses:
    """The pods of one workload in one namespace. paused: while set, the kubelet does nothing by itself."""

    def __init__(self, api: KubeApi, namespace: str, workload: str) -> None:
        self.api = api
        self.path = f"/api/v1/namespaces/{namespace}/pods"
        self.workload = workload
        self.paused = False
        self._pods: dict[str, _Running] = {}
        self._forgotten: list[_Running] = []  # by the API; they run

    async def create(self, name: str, node: str = "node-1") -> None:
        """A pod on a node, and its process."""
        made = kubelet.pod(self.workload, name, nodeName=node)
        created = await self.request("POST", self.path, made)
        process = await self._start(name)
        self._pods[name] = _Running(name, created["metadata"]["uid"], process, node)
        await self._report(self._pods[name])

    async def crash(self, name: str, code: int = 137) -> None:
        """Its process ends by itself; its kubelet reports that, and starts the container again."""
        pod = self._pods[name]
        await self._end(pod.process)
        pod.last = kubelet.terminated(
            pod.process.boot_id, code, container_id=pod.process.container_id, at=kubelet.timestamp()
        )
        pod.restarts += 1
        pod.process = await self._start(name)
        await self._report(pod)

    async def restart_unreported(self, name: str) -> None:
        """Its process is followed by another, and the kubelet has not looked yet."""
        pod = self._pods[name]
        await self._end(pod.process)
        pod.process = await self._start(name, ip=pod.process.ip)

    async def hang(self, name: str) -> None:
        """It answers nobody any more, and its kubelet does not notice."""
        await self._end(self._pods[name].process)

    async def force_delete(self, name: str) -> None:
        """A person deletes it with grace 0: the API forgets it at once, whatever its kubelet sees."""
        self._forgotten.append(self._pods.pop(name))
        await self.request("DELETE", f"{self.path}/{name}", {"gracePeriodSeconds": 0})

    async def delete_confirmed(self, name: str) -> None:
        """It is deleted, ends, and its kubelet confirms that; nobody makes the next one."""
        pod = self._pods.pop(name)
        await self.request("DELETE", f"{self.path}/{name}", {})
        await self._confirm(pod)

    async def confirm(self, name: str) -> None:
        """Being deleted, it ends, and its kubelet confirms that; nobody makes the next one."""
        await self._confirm(self._pods.pop(name))

    def boot_id(self, name: str) -> str:
        """Of its present process."""
        return self._pods[name].process.boot_id

    async def request(self, method: str, path: str, body: Json | None = None, content_type: str = "") -> Json:
        """A request as administrator."""
        kind = content_type or "application/json"
        return await asyncio.to_thread(self.api.request, method, path, body, kind)

    def _was_paused(self) -> bool:
        return self.paused

    async def run(self) -> None:
        """Ends the pods that are being deleted and makes the next ones, until it is cancelled."""
        while True:
            if not self.paused:
                listed = await self.request("GET", self.path)
                if self._was_paused():  # since it was asked
                    continue
                going = [each["metadata"] for each in listed["items"] if each["metadata"].get("deletionTimestamp")]
                for metadata in going:
                    pod = self._pods.get(metadata["name"])
                    if pod is not None and pod.uid == metadata["uid"]:
                        await self._confirm(pod)
                        await self.create(pod.name, self._scheduled(pod, listed["items"]))
            await asyncio.sleep(LOOK_EVERY_S)

    async def end_for_good(self, name: str) -> None:
        """Its process ends, and its kubelet waits before it starts the container again."""
        pod = self._pods[name]
        await self._end(pod.process)
        process = pod.process
        ended = kubelet.terminated(process.boot_id, 1, container_id=process.container_id, at=kubelet.timestamp())
        state = kubelet.waiting("CrashLoopBackOff", "back-off 10s restarting failed container")
        await self._write(pod, kubelet.container(self.workload, state, ended, restarts=pod.restarts, ready=False))

    def _scheduled(self, pod: _Running, pods: list[Json]) -> str:
        """The node of the next one: the same, unless a pod there must not be beside it."""
        there = [each for each in pods if each["spec"].get("nodeName") == pod.node]
        terms = [
            term
            for each in there
            for term in each["spec"]
            .get("affinity", {})
            .get("podAntiAffinity", {})
            .get("requiredDuringSchedulingIgnoredDuringExecution", ())
        ]
        labels = kubelet.pod(self.workload, pod.name)["metadata"]["labels"]
        kept_off = any(_matches(term["labelSelector"], labels) for term in terms)
        return "node-2" if kept_off and pod.node == "node-1" else "node-1" if kept_off else pod.node

    async def close(self) -> None:
        """Ends the processes."""
        for pod in (*self._pods.values(), *self._forgotten):
            await self._end(pod.process)

    async def _confirm(self, pod: _Running) -> None:
        process = pod.process
        await self._end(process)
        state = kubelet.terminated(
            process.boot_id, 0, container_id=process.container_id, reason="Completed", at=kubelet.timestamp()
        )
        await self._write(pod, kubelet.container(self.workload, state, pod.last or None, restarts=pod.restarts))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        await self.request("DELETE", f"{self.path}/{pod.name}", options)

    async def _report(self, pod: _Running) -> None:
        state = kubelet.running(pod.process.container_id)
        await self._write(pod, kubelet.container(self.workload, state, pod.last or None, restarts=pod.restarts))

    async def _write(self, pod: _Running, container: Json) -> None:
        body = {"status": kubelet.status(container, ip=pod.process.ip)}
        await self.request("PATCH", f"{self.path}/{pod.name}/status", body, "application/merge-patch+json")

    async def _start(self, name: str, ip: str = "") -> _Process:
        ip = ip or f"127.{_SECOND}.{_THIRD}.{next(_numbers)}"
        boot_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()

        async def live() -> None:
            async def compose(context: ServiceContext[Any]) -> Composition:
                boot_id.set_result(context.life.boot_id)
                return Composition(servicers=[])

            configured = in_process.settings(
                instance=name, grpc_address=f"{ip}:7100", health_address=f"{ip}:7101", drain_timeout=0.0
            )
            async with in_process.running(compose, configured, service=self.workload):
                await stop.wait()

        task = asyncio.create_task(live())
        beginnings: list[asyncio.Future[Any]] = [task, boot_id]
        await asyncio.wait(beginnings, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        return _Process(ip, boot_id.result(), kubelet.new_container_id(), task, stop)

    async def _end(self, process: _Process) -> None:
        process.stop.set()
        await process.task


def _matches(selector: Json, labels: dict[str, str]) -> bool:
    """Whether labels are selected; of expressions only NotIn is known."""
    expressions = selector.get("matchExpressions") or ()
    assert all(each["operator"] == "NotIn" for each in expressions)
    return selector["matchLabels"].items() <= labels.items() and not any(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


@asynccontextmanager
async def pod_processes(api: KubeApi, namespace: str, workload: str) -> AsyncIterator[PodProcesses]:
    """PodProcesses that run for the length of a block."""
    processes = PodProcesses(api, namespace, workload)
    task = asyncio.create_task(processes.run())
    try:
        yield processes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await processes.close()


def environment_of_a_healer(kubeconfig: Path, namespace: str, dsn: str, folder: Path) -> dict[str, str]:
    """As the operator makes it. folder: its own, with the flight record."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("BETTING_")},
        "KUBECONFIG": str(kubeconfig),
        "BETTING_INSTANCE": "betting-operator-0",
        "BETTING_GRPC_ADDRESS": "127.0.0.1:0",
        "BETTING_INTERNAL_SECRET": in_process.SECRET,
        "BETTING_POSTGRES_DSN": dsn,
        "BETTING_REDIS_URL": "redis://:secret@redis:6379/0",
        "BETTING_FLIGHT_FOLDER": str(folder / "flight"),
        "BETTING_KUBERNETES_NAMESPACE": namespace,
        "BETTING_KUBERNETES_PLATFORM": "demo",
    }
