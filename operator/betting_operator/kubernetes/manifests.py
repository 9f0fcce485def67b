"""Spec to manifests, purely: what all objects of a platform have in common, and all its pods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from betting_operator.kubernetes import schema
from betting_operator.kubernetes.spec import Platform, Resources, SecretKey
from betting_operator.kubernetes.workloads import OPERATOR

Manifest = dict[str, Any]

USER_ID = 10_001
# Of /tmp: nothing of weight is written there. The kubelet evicts a pod that exceeds it, not the others of its node.
TMP_SIZE_MIB = 128
# Where a node with a DNS server is lost, questions go to that server until the node is NotReady, and glibc repeats one
# from the same socket, so to the same server (kubernetes/kubeadm#2862): by default for twice 5 s. Our loops begin
# another look-up meanwhile (`betting.runtime.names`).
DNS_CONFIG: Manifest = {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "2"}]}
# Of a pod, with room for the delay and the draining of its process.
GRACE_PERIOD_S = 45

PART_OF = "betting"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
# What template a Deployment has and a pod was made of, without what counts it.
TEMPLATE_ANNOTATION = f"{schema.GROUP}/template"
# On the pod of the operator that leads, and on no other.
LEADER_LABEL = f"{schema.GROUP}/leader"
# On pods, by the healer: the id of the container that runs, and the boot id of the life in it.
LIFE_ANNOTATION = f"{schema.GROUP}/life"
# Of the Secrets that a pod reads: another value makes another template, so pods start anew with it.
SECRETS_ANNOTATION = f"{schema.GROUP}/secrets"

INTERNAL_SECRET = "internal"  # noqa: S105  (names of Secrets)
OPERATOR_LOGIN_SECRET = "operator-login"  # noqa: S105
OPERATOR_EMAIL = "operator@betting.local"


@dataclass(frozen=True)
class Addresses:
    """Where Postgres and Redis are, each as a key of a Secret; hashes: of each Secret's data, by its name."""

    postgres: SecretKey
    redis: SecretKey
    hashes: Mapping[str, str] = field(default_factory=dict)


def labels(platform: Platform, workload: str) -> dict[str, str]:
    """The labels of every object of a workload."""
    return {
        NAME_LABEL: workload,
        INSTANCE_LABEL: platform.name,
        PART_OF_LABEL: PART_OF,
        MANAGED_BY_LABEL: OPERATOR,
    }


def selector(platform: Platform, workload: str) -> dict[str, str]:
    """The labels by which the pods of a workload are found. They can never change."""
    return {NAME_LABEL: workload, INSTANCE_LABEL: platform.name}


def owner_reference(platform: Platform) -> Manifest:
    """Says whose object it is: Kubernetes deletes it with its owner, and we touch no other."""
    return {
        "apiVersion": schema.API_VERSION,
        "kind": schema.KIND,
        "name": platform.name,
        "uid": platform.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def manifest(
    platform: Platform, api_version: str, kind: str, name: str, workload: str, *, owned: bool = True, **rest: Any
) -> Manifest:
    """An object of the platform: `rest` are its other fields, annotations among them."""
    metadata: Manifest = {
        "name": name,
        "namespace": platform.namespace,
        "labels": labels(platform, workload),
    }
    if owned:
        metadata["ownerReferences"] = [owner_reference(platform)]
    if annotations := rest.pop("annotations", None):
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def digest(value: object) -> str:
    """A short hash of a value of JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def secret_env(name: str, key: SecretKey) -> Manifest:
    """An environment variable from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}


def security_context() -> Manifest:
    """Of a container under Pod Security `restricted`, with a read-only root besides."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security_context() -> Manifest:
    """Of a pod under Pod Security `restricted`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_resources(resources: Resources) -> Manifest:
    """Requests, and the memory limit: a CPU limit would throttle."""
    return {
        "requests": {"cpu": resources.cpu, "memory": resources.memory},
        "limits": {"memory": resources.memory_limit},
    }


def pod_spec(
    platform: Platform, workload: str, container: Manifest, *, tmp_size_mib: int = TMP_SIZE_MIB, **more: Any
) -> Manifest:
    """A pod of one container, with what all our pods have in common."""
    scheduling = platform.scheduling
    found: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsConfig": DNS_CONFIG,
        "terminationGracePeriodSeconds": GRACE_PERIOD_S,
        "securityContext": pod_security_context(),
        "containers": [
            {
                "name": workload,
                "image": platform.image.reference,
                "imagePullPolicy": platform.image.pull_policy,
                "securityContext": security_context(),
                **container,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *container.get("volumeMounts", ())],  # noqa: S108
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": f"{tmp_size_mib}Mi"}}],
    }
    if platform.image.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in platform.image.pull_secrets]
    if scheduling.node_selector:
        found["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        found["tolerations"] = [dict(each) for each in scheduling.tolerations]
    if scheduling.priority_class:
        found["priorityClassName"] = scheduling.priority_class
    return found | more


def spread(platform: Platform, workload: str, *, by_template: bool) -> list[Manifest]:
    """Over zones as the spec says, over nodes where it can be. by_template: the pods of one template by themselves."""
    common: Manifest = {"maxSkew": 1, "labelSelector": {"matchLabels": selector(platform, workload)}}
    if by_template:
        common["matchLabelKeys"] = ["pod-template-hash"]
    return [
        {
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": platform.scheduling.zone_spread,
            # The nodes of a zone that is lost are tainted. Counted all the same, they would be a zone without pods, and
            # with DoNotSchedule no pod could be placed in the others.
            "nodeTaintsPolicy": "Honor",
            **common,
        },
        {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", **common},
    ]
