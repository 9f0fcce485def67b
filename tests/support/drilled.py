"""A platform that has been well for an hour, for tests of drills: at a real API server, without a kubelet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import kubelet
import platforms
from kube_api import KubeApi
from operator_rounds import MERGE, PLATFORMS_PATH, Operator

from betting_operator.kubernetes import healing_actions
from betting_operator.kubernetes.drilling import Driller
from betting_operator.kubernetes.kinds import PLATFORMS
from betting_operator.kubernetes.status import CONDITIONS

DRILLS: dict[str, Any] = {
    "faults": [{"kind": "DeleteBetService"}],
    "schedule": {"everyHours": 24},
    "budget": {"perDay": 1},
}
BETS = [f"demo-bet-service-6d8f9c7b5d-{letter * 5}" for letter in "bc"]
LEADER = "betting-operator/betting-operator-0@boot-1"


def path(namespace: str) -> str:
    """Of the platform."""
    return f"{PLATFORMS_PATH.format(namespace)}/demo"


def pods(namespace: str) -> str:
    """Of all pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def create(kube_api: KubeApi, namespace: str, drills: dict[str, Any], **spec: Any) -> None:
    """The platform. Raises KubeError."""
    new = platforms.resource(namespace, "demo", drills=drills, **spec)
    new["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), new)


@asynccontextmanager
async def driller(operator: Operator, identity: str = LEADER) -> AsyncIterator[Driller]:
    """A leader's, with the rights of the chart."""
    yield Driller(
        *(operator.client, operator.namespace, identity, "betting-operator-0"),
        rebalancing=lambda: False,
        healer_tells=lambda: True,
    )


async def look(operator: Operator, each: Driller) -> bool:
    """One round of it, with all that is there; whether a drill runs."""
    resources = list((await operator.client.list(PLATFORMS, operator.namespace)).objects)
    return await each.round(resources, await operator.objects())


def well(kube_api: KubeApi, namespace: str, drills: dict[str, Any] = DRILLS) -> None:
    """A platform that has been well for an hour, by its status and its pods."""
    create(kube_api, namespace, drills)
    since = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    common = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": since}
    names = ("Ready", *CONDITIONS, "RolledOut", "Healing")
    state = {
        "observedGeneration": 1,
        "conditions": [{"type": each, **common} for each in names],
        "shards": {"owned": 4, "total": 4},
    }
    kube_api.request("PATCH", f"{path(namespace)}/status", {"status": state}, MERGE)
    for each in BETS:
        bound(kube_api, namespace, each)


def bound(kube_api: KubeApi, namespace: str, name: str) -> None:
    """A pod of a bet-service on a node, so that its end takes a kubelet, and ready."""
    pod = kubelet.pod("bet-service", name)
    pod["spec"]["nodeName"] = "node-1"
    kube_api.request("POST", pods(namespace), pod)
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    kube_api.request("PATCH", f"{pods(namespace)}/{name}/status", {"status": ready}, MERGE)


def ending(kube_api: KubeApi, namespace: str) -> list[str]:
    """The pods that are being deleted."""
    found = kube_api.request("GET", pods(namespace))["items"]
    return [each["metadata"]["name"] for each in found if each["metadata"].get("deletionTimestamp")]


def gone(kube_api: KubeApi, namespace: str, name: str) -> None:
    """As its kubelet says in the end."""
    kube_api.request("DELETE", f"{pods(namespace)}/{name}", {"gracePeriodSeconds": 0})


def state(kube_api: KubeApi, namespace: str) -> dict[str, Any]:
    """status.drills."""
    found: dict[str, Any] = kube_api.request("GET", path(namespace))["status"].get("drills", {})
    return found


def healed(kube_api: KubeApi, namespace: str, pod: str, began: str) -> None:
    """What the healer writes about the owner that died: noticed after 0.5 s, repaired after 0.9 s."""
    began_us = int(datetime.fromisoformat(began).timestamp() * 1e6) + 500_000
    platform = kube_api.request("GET", path(namespace))
    spec = {
        "term": 1,
        "diagnosis": "owner-died",
        "about": f"{pod}@boot-9",
        "target": {"name": pod},
        "decision": {"action": "MarkDead", "description": "mark dead"},
    }
    times = {"began": healing_actions.time_of(began_us), "ended": healing_actions.time_of(began_us)}
    status = {"outcome": "Done", "duration": "0ms", **times}
    status |= healing_actions.repaired(began_us + 400_000, 900)["status"]
    name = healing_actions.name_of("demo", began_us, 0)
    made = healing_actions.manifest(platform, name, spec, status)
    kube_api.request("POST", healing_actions.HEALING_ACTIONS.path(namespace), made)
