"""Keeps new pods of a platform off one node for a while, purely: by a placeholder that they must not be beside.

A pod that is deleted is replaced wherever the scheduler likes, and that is often the node it was on: that one has room
now, and the scheduler hears of a lost node after 50 s only. Kubernetes has no way to ask for another node
(kubernetes#18853, never built). What was considered:

| way                                          | why not                                                        |
| -------------------------------------------- | -------------------------------------------------------------- |
| cordon or taint the node                     | nodes are not ours: it takes a right on all of the cluster     |
| nodeAffinity in the template of the workload | another template: replaces every pod of it, and again later    |
| scheduling gates, lifted by the operator     | no pod would start while no operator runs                      |
| an admission webhook                         | a server without which no pod starts, a right on the cluster   |
| deletion again and again                     | it may never land elsewhere                                    |

Required anti-affinity works both ways: the scheduler places no pod beside one that must not be beside it, whatever the
new pod itself says. For that it looks at every pod that names a node and has not ended, however it came there
(pkg/scheduler: getExistingAntiAffinityCounts, newPodInformer). So a pod that is made on the node, past the scheduler,
keeps the others off, and leaves alone those that run there. It sleeps and ends by itself; on a node that is lost it
need not even start. StatefulSets are not meant: their volumes bind them to their nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from betting_operator.kubernetes import schema
from betting_operator.kubernetes.manifests import (
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    PART_OF,
    PART_OF_LABEL,
    Manifest,
    digest,
    pod_security_context,
    security_context,
)
from betting_operator.kubernetes.workloads import OPERATOR, POSTGRES, REDIS

PLACEHOLDER = "placeholder"
# The name of the node, as a hash: names may be longer than values of labels.
NODE_LABEL = f"{schema.GROUP}/keeps-off"
# For so long. Kubernetes taints a lost node long before; on a bad node what comes later is moved again.
KEEPS_OFF_S = 600
# Of a lost node that is back no longer than this: its kubelet has taken note of the placeholder, and new pods can run.
LOST_KEEPS_OFF_S = 60
LOST_ANNOTATION = f"{schema.GROUP}/until-node-is-back"
# One that ends sooner is renewed: what is moved now has to be kept off for a while.
RENEWED_BEFORE_S = 120
# Bounds it where its own end is not seen.
_DEADLINE_S = KEEPS_OFF_S + 60
_SLEEP = f"import time; time.sleep({KEEPS_OFF_S})"


def selector(platform: str) -> str:
    """The label selector of the placeholders of a platform."""
    return f"{NAME_LABEL}={PLACEHOLDER},{INSTANCE_LABEL}={platform}"


def placeholder(platform: str, uid: str, node: str, beside: Manifest, *, lost: bool) -> Manifest:
    """The pod. uid: of the platform, which owns it. beside: a pod of the platform, whose image the node has. lost: the
    node is thought to be lost, so that it may be used as soon as its kubelet is heard again.
    """
    spec = beside["spec"]
    container = spec["containers"][0]
    made: Manifest = {
        "nodeName": node,
        # It ends when its time is over, and starts again only if something else ended it.
        "restartPolicy": "OnFailure",
        "activeDeadlineSeconds": _DEADLINE_S,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security_context(),
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_others(platform)]}},
        "containers": [
            {
                "name": PLACEHOLDER,
                "image": container["image"],
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-c", _SLEEP],
                "securityContext": security_context(),
                "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            }
        ],
    }
    # Of the same priority: no pod of the platform pushes it out.
    for name in ("imagePullSecrets", "priorityClassName", "tolerations"):
        if spec.get(name):
            made[name] = spec[name]
    owner = {"apiVersion": schema.API_VERSION, "kind": schema.KIND, "name": platform, "uid": uid}
    labels = {
        NAME_LABEL: PLACEHOLDER,
        INSTANCE_LABEL: platform,
        PART_OF_LABEL: PART_OF,
        MANAGED_BY_LABEL: OPERATOR,
        NODE_LABEL: digest(node),
    }
    metadata: Manifest = {"generateName": f"{platform}-{PLACEHOLDER}-", "labels": labels, "ownerReferences": [owner]}
    if lost:
        metadata["annotations"] = {LOST_ANNOTATION: "true"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made}


def keep_off(pods: Iterable[Manifest], now: datetime) -> dict[str, float]:
    """For how many seconds more each node is kept free of new pods, by its name."""
    left: dict[str, float] = {}
    for pod in pods:
        seconds = _left_s(pod, now)
        if seconds > 0:
            node = str(pod["spec"].get("nodeName", ""))
            left[node] = max(seconds, left.get(node, 0.0))
    return left


def why_not(pods: Iterable[Manifest], now: datetime, node: str, others: Collection[str], *, lost: bool) -> str:
    """Why new pods are not kept off one more node; "": they may be. others: on which pods of the platform run.

    The platform has to fit on what is left, so at most as many bad nodes are kept free as that. A lost node has no room
    anyway, and is back a minute before pods are let on it again.
    """
    found = list(pods)
    free = keep_off(found, now).keys() - {node}
    bad = keep_off((pod for pod in found if not _is_lost(pod)), now).keys() - {node}
    left = set(others) - {node} - free
    if left and (lost or len(bad) < len(left)):
        return ""
    return f"that leaves {len(left)} of {len(left) + len(free) + 1} nodes, {len(free)} are kept free already"


def over(pods: Iterable[Manifest], now: datetime) -> list[Manifest]:
    """Those that are of no use any more and not being deleted."""
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and _left_s(pod, now) <= 0]


def _left_s(pod: Manifest, now: datetime) -> float:
    if pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0.0
    made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).astimezone(UTC)
    heard = bool(pod.get("status", {}).get("startTime"))  # the kubelet writes it when it takes note of the pod
    return (LOST_KEEPS_OFF_S if _is_lost(pod) and heard else KEEPS_OFF_S) - (now - made).total_seconds()


def _is_lost(pod: Manifest) -> bool:
    return LOST_ANNOTATION in (pod["metadata"].get("annotations") or {})


def _others(platform: str) -> Manifest:
    """What must not be beside it: everything of the platform that is not bound to its node."""
    return {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {
            "matchLabels": {INSTANCE_LABEL: platform, MANAGED_BY_LABEL: OPERATOR},
            "matchExpressions": [{"key": NAME_LABEL, "operator": "NotIn", "values": [PLACEHOLDER, POSTGRES, REDIS]}],
        },
    }
