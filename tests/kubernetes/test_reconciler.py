"""The operator makes a platform on a real API server, with the rights that its chart gives it and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kubelet
import platforms
import pytest
from kube_api import KubeApi
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, condition, counted, operator_in

from betting_operator.kubernetes.client import KubernetesError
from betting_operator.kubernetes.reconcile import KINDS, Key
from betting_operator.kubernetes.reconciler import Reconciler


async def test_a_platform_is_made_with_the_rights_of_the_chart(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    objects = await operator.objects()
    assert {key.kind for key in objects} == set(KINDS) - {"Job", "HorizontalPodAutoscaler", "Ingress"}
    resource = kube_api.request("GET", demo)
    assert resource["status"]["phase"] == "Installing"
    assert condition(resource, "Accepted")["status"] == "True"
    assert condition(resource, "Ready")["reason"] == "NotRunning"
    assert condition(resource, "Ready")["observedGeneration"] == resource["metadata"]["generation"]


async def test_no_pods_are_made_with_a_password_that_cannot_be_stored(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """Each round would make another one, and roll all pods."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/secrets": "0"}},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    kube_api.request(
        "PATCH",
        f"/api/v1/namespaces/{namespace}/resourcequotas/none/status",
        {"status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}},
        MERGE,
    )
    await operator.round()
    accepted = condition(kube_api.request("GET", demo), "Accepted")
    assert accepted["reason"] == "NotApplied"
    assert "Secret demo-internal" in accepted["message"]
    assert {key.kind for key in await operator.objects()} == {"NetworkPolicy", "Service"}
    writes = counted(operator.client)
    await operator.round()
    assert not [path for path in writes if path.endswith("/secrets/demo-internal")], "that it is another one is no news"


async def test_a_second_platform_in_the_namespace_is_refused_and_left_alone(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    second = platforms.resource(operator.namespace, "second")
    second["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(operator.namespace), second)
    await operator.round()
    ready = condition(kube_api.request("GET", f"{PLATFORMS_PATH.format(operator.namespace)}/second"), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "AnotherPlatform")
    assert not [key for key in await operator.objects() if key.name.startswith("second")]


async def test_a_platform_that_was_made_anew_does_not_get_the_status_of_the_one_before(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """Its image, shards and database, which nobody has accepted for the new one. The watch told of it too late."""
    before = kube_api.request("GET", demo)
    kube_api.request("DELETE", demo)
    resource = platforms.resource(operator.namespace, "demo")
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(operator.namespace), resource)
    await operator.reconciler.reconcile([before], {})
    assert "status" not in kube_api.request("GET", demo)
    await operator.round()
    assert condition(kube_api.request("GET", demo), "Ready")["status"] == "False"


async def test_a_missing_secret_is_named_and_what_runs_is_left_as_it_is(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    resource = platforms.resource(namespace, "demo", database={"external": {"dsnSecret": {"name": "mine"}}})
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    await operator.round()
    path = f"{PLATFORMS_PATH.format(namespace)}/demo"
    accepted = condition(kube_api.request("GET", path), "Accepted")
    assert accepted["reason"] == "SecretMissing"
    assert accepted["message"] == "spec.database.external.dsnSecret: there is no Secret mine"
    assert await operator.objects() == {}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"dsn": "postgresql://x"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    await operator.round()
    assert condition(kube_api.request("GET", path), "Accepted")["status"] == "True"
    assert Key("Deployment", "demo-bet-service") in await operator.objects()


async def test_a_paused_platform_is_reported_on_and_not_changed(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    kube_api.request("PATCH", demo, {"spec": {"paused": True, "gateway": {"service": {"type": "LoadBalancer"}}}}, MERGE)
    writes = counted(operator.client)
    await operator.round()
    assert all("/status" in path or "/events" in path for path in writes)
    assert condition(kube_api.request("GET", demo), "RolledOut")["reason"] == "Paused"
    service = kube_api.request("GET", f"/api/v1/namespaces/{operator.namespace}/services/demo-gateway")
    assert service["spec"]["type"] == "NodePort"


async def test_events_are_counted_not_repeated(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    await operator.round()
    path = f"/api/v1/namespaces/{operator.namespace}/events"
    first = {each["metadata"]["name"]: each["count"] for each in kube_api.request("GET", path)["items"]}
    assert first
    assert set(first.values()) == {1}
    kube_api.request("PATCH", f"{demo}/status", {"status": {"conditions": []}}, MERGE)
    await operator.round()
    second = {each["metadata"]["name"]: each["count"] for each in kube_api.request("GET", path)["items"]}
    assert second == dict.fromkeys(first, 2)


async def test_an_event_that_cannot_be_written_does_not_end_the_round(
    kube_api: KubeApi, demo: str, namespace: str, chart: Callable[..., list[dict[str, Any]]]
) -> None:
    role = next(each for each in chart(namespace, "--set", "crds.install=false") if each["kind"] == "Role")
    rules = [each for each in role["rules"] if each["resources"] != ["events"]]
    async with operator_in(kube_api.service_account(namespace, "mute", rules), namespace) as mute:
        await mute.round()
    assert kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"] == []
    assert condition(kube_api.request("GET", demo), "Accepted")["status"] == "True"


async def test_a_right_that_is_missing_is_named(kube_api: KubeApi, demo: str, namespace: str) -> None:
    rules = [{"apiGroups": ["selfhealing.bet"], "resources": ["bettingplatforms"], "verbs": ["get", "list"]}]
    async with operator_in(kube_api.service_account(namespace, "poor", rules), namespace) as poor:
        with pytest.raises(KubernetesError, match="networkpolicies"):
            await poor.round()


async def test_a_new_pod_that_crashes_makes_the_roll_stuck_until_it_is_ready(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """It is known by the template that it was made of."""
    await operator.round()
    deployments = f"/apis/apps/v1/namespaces/{operator.namespace}/deployments"
    template = kube_api.request("GET", f"{deployments}/demo-bet-service")["spec"]["template"]
    pod = kubelet.pod("bet-service", "demo-bet-service-6d8f9c7b5d-x2lqm")
    pod["metadata"]["annotations"] = template["metadata"]["annotations"]
    path = f"/api/v1/namespaces/{operator.namespace}/pods"
    kube_api.request("POST", path, pod)
    ended = kubelet.terminated("", 2)
    ended["terminated"]["message"] = "bet-service: BETTING_SHARD_COUNT is no number"
    waiting = kubelet.waiting("CrashLoopBackOff", "back-off 10s")
    states = [
        (kubelet.container("bet-service", waiting, ended, restarts=1, ready=False), "RollStuck"),
        (kubelet.container("bet-service", kubelet.running(), ended, restarts=2), "Rolling"),
    ]
    for container, reason in states:
        status = {"status": kubelet.status(container)}
        kube_api.request("PATCH", f"{path}/{pod['metadata']['name']}/status", status, MERGE)
        operator.reconciler = Reconciler(operator.client, operator.namespace, platforms.OWN_IMAGE)  # writes at once
        await operator.round()
        rolled_out = condition(kube_api.request("GET", demo), "RolledOut")
        assert (rolled_out["status"], rolled_out["reason"]) == ("False", reason)
        assert ("exit code 2: bet-service: BETTING_SHARD_COUNT is no number" in rolled_out["message"]) == (
            reason == "RollStuck"
        )
