"""The cluster's storage: static local volumes on each node, of the default storage class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from minicluster import host
from minicluster.node import Node
from minicluster.programs import Say, kubectl

_PATH = "/var/lib/kubelet/local-volumes"
"""Where the volumes are, as their node sees it."""
_NUMBERS = range(1, 5)
_SIZE = "5Gi"


def manifests(nodes: list[Node]) -> dict[str, Any]:
    """The default storage class, and each node's volumes of it."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }
    volumes = [_volume(node, number) for node in nodes for number in _NUMBERS]
    return {"apiVersion": "v1", "kind": "List", "items": [storage_class, *volumes]}


def _folder(node: Node, number: int) -> Path:
    return node.folder / "kubelet" / Path(_PATH).name / f"v{number}"


def _volume(node: Node, number: int) -> dict[str, Any]:
    _folder(node, number).mkdir(parents=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _name(node, number)},
        "spec": {
            "capacity": {"storage": _SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "local",
            "local": {"path": f"{_PATH}/v{number}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def clean(nodes: list[Node], say: Say) -> None:
    """Empty the volumes whose claims were deleted, and offer them again; also those that an interrupted run deleted.

    Volumes of other names are somebody else's. Raises ClusterError.
    """
    host.require_linux_and_root()
    volumes = json.loads(kubectl("get", "persistentvolumes", "--output=json"))["items"]
    phases = {volume["metadata"]["name"]: volume["status"].get("phase") for volume in volumes}
    for node, number in ((node, number) for node in nodes for number in _NUMBERS):
        name = _name(node, number)
        if name in phases and phases[name] != "Released":
            continue
        if name in phases:
            kubectl("delete", "persistentvolume", name)
        shutil.rmtree(_folder(node, number), ignore_errors=True)
        kubectl("create", "--filename=-", sent=json.dumps(_volume(node, number)))
        say(f"volume {name} is empty and available")


def _name(node: Node, number: int) -> str:
    return f"{node.name}-v{number}"
