"""The API server of these tests is a real one: who may do what, what it refuses, and that it can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from kube_api import KubeApi, KubeError, running_kube_api

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one"},
    "spec": {"containers": [{"name": "one", "image": "localhost/one:1"}]},
}


def test_a_user_without_rights_is_refused(kube_api: KubeApi, namespace: str) -> None:
    """RBAC is on."""
    with pytest.raises(KubeError, match="cannot list resource") as refused:
        kube_api.request("GET", f"/api/v1/namespaces/{namespace}/pods", user="nobody")
    assert refused.value.code == 403


def test_a_namespace_admits_pods_and_enforces_its_security_level(kube_api: KubeApi, namespace: str) -> None:
    """Pod Security admission works as in a cluster."""
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    kube_api.create_namespace(f"{namespace}-safe", {"pod-security.kubernetes.io/enforce": "restricted"})
    with pytest.raises(KubeError, match="violates PodSecurity"):
        kube_api.request("POST", f"/api/v1/namespaces/{namespace}-safe/pods", POD)


def test_what_was_written_survives_a_kill(kube_api: KubeApi, namespace: str) -> None:
    """Killed, it refuses connections; restarted, it has what it had, on the same address."""
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    kube_api.kill()
    with pytest.raises(OSError, match="refused"):
        kube_api.request("GET", f"/api/v1/namespaces/{namespace}/pods")
    kube_api.restart()
    [pod] = kube_api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert pod["metadata"]["name"] == "one"


def test_close_leaves_nothing(tmp_path: Path) -> None:
    """Also when the API server is paused."""
    with running_kube_api(tmp_path) as api:
        pids = api.pids()
        api.pause()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
