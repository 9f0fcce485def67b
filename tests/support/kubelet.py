"""Pods as a kubelet of Kubernetes 1.34 reports them: only what its shape needs, with every field it writes."""

from __future__ import annotations

import copy
import secrets
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

BEGAN, ENDED = "2026-11-29T09:30:02Z", "2026-11-29T09:41:17Z"
IMAGE = "localhost/betting:0.1.0"


def pod(workload: str, name: str, *, platform: str = "demo", **spec: Any) -> Json:
    """A pod of a Deployment or StatefulSet as its controller makes it: not scheduled yet."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/name": workload,
                "app.kubernetes.io/instance": platform,
                "app.kubernetes.io/part-of": "betting",
                "app.kubernetes.io/managed-by": "betting-operator",
            },
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 45,
            "containers": [{"name": workload, "image": IMAGE}],
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "Burstable"},
    }


def on_node(made: Json, node: str = "node-1", uid: str = "") -> Json:
    """The same pod, named by the API server and bound to a node."""
    found = copy.deepcopy(made)
    found["metadata"] |= {"uid": uid or "0c1d7a8e-5b7e-4d53-9a52-1f2f3c4d5e6f", "resourceVersion": "4711"}
    found["spec"]["nodeName"] = node
    return found


def reported(found: Json, *containers: Json, ip: str = "10.201.1.7", phase: str = "Running") -> Json:
    """The pod with the status that its kubelet writes."""
    found = copy.deepcopy(found)
    found["status"] = status(*containers, ip=ip, phase=phase)
    return found


def status(*containers: Json, ip: str = "10.201.1.7", phase: str = "Running") -> Json:
    """A pod's status. ip: "" before its sandbox is made."""
    ready = all(each["ready"] for each in containers)
    conditions = [
        {"type": name, "status": "True" if well else "False", "lastProbeTime": None, "lastTransitionTime": BEGAN}
        for name, well in (
            ("PodReadyToStartContainers", bool(ip)),
            ("Initialized", True),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", True),
        )
    ]
    addresses = {"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}
    return {
        "observedGeneration": 1,
        "phase": phase,
        "conditions": conditions,
        "hostIP": "192.168.49.2",
        "hostIPs": [{"ip": "192.168.49.2"}],
        **addresses,
        "startTime": BEGAN,
        "containerStatuses": list(containers),
        "qosClass": "Burstable",
    }


def container(
    name: str, state: Json, last: Json | None = None, *, restarts: int = 0, ready: bool = True, started: bool = True
) -> Json:
    """A container's status."""
    running = "running" in state
    return {
        "name": name,
        "state": state,
        "lastState": last or {},
        "ready": ready and running,
        "restartCount": restarts,
        "image": IMAGE,
        "imageID": "sha256:3f8a6d1b",
        "containerID": state.pop("id", "") or (last or {}).get("terminated", {}).get("containerID", ""),
        "started": started and running,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "user": {"linux": {"uid": 10001, "gid": 10001, "supplementalGroups": [10001]}},
    }


def running(container_id: str = "") -> Json:
    """The state of a container that runs."""
    return {"id": container_id or new_container_id(), "running": {"startedAt": BEGAN}}


def terminated(
    boot_id: str,
    code: int = 137,
    *,
    container_id: str = "",
    reason: str = "Error",
    at: str = ENDED,
) -> Json:
    """The state of a container that has ended; its message is what it wrote to /dev/termination-log."""
    found = {
        "containerID": container_id or new_container_id(),
        "exitCode": code,
        "finishedAt": at,
        "reason": reason,
        "startedAt": BEGAN,
    }
    return {"terminated": found | ({"message": boot_id} if boot_id else {})}


def waiting(reason: str, message: str = "") -> Json:
    """The state of a container that the kubelet has not started, or not again."""
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def new_container_id() -> str:
    """As containerd makes them."""
    return f"containerd://{secrets.token_hex(32)}"


def timestamp() -> str:
    """Now, as Kubernetes writes it: whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
