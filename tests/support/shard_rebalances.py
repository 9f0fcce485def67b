"""ShardRebalances of platform demo, as people make them: at a real API server."""

from __future__ import annotations

from typing import Any

from kube_api import KubeApi
from operator_rounds import MERGE

PATH = "/apis/selfhealing.bet/v1alpha1/namespaces/{}/shardrebalances"


def create(kube_api: KubeApi, namespace: str, name: str = "evening", **spec: Any) -> dict[str, Any]:
    """A person makes one of platform demo."""
    manifest = {
        "apiVersion": "selfhealing.bet/v1alpha1",
        "kind": "ShardRebalance",
        "metadata": {"name": name},
        "spec": {"platform": "demo", **spec},
    }
    return kube_api.request("POST", PATH.format(namespace), manifest)


def change(kube_api: KubeApi, namespace: str, name: str = "evening", **spec: Any) -> dict[str, Any]:
    """A person changes it."""
    return kube_api.request("PATCH", f"{PATH.format(namespace)}/{name}", {"spec": spec}, MERGE)


def found(kube_api: KubeApi, namespace: str, name: str = "evening") -> dict[str, Any]:
    """As it is now."""
    return kube_api.request("GET", f"{PATH.format(namespace)}/{name}")
