"""The operator makes a platform on a real API server, with the rights that its chart gives it and no more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import kubelet
import platforms
import pytest
from kube_api import KubeApi, KubeError
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, condition, counted, make_secret, operator_in

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
    make_secret(kube_api, namespace, "postgresql://x")
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
    told = kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    # The API server tells of Services whose address it repairs.
    assert [each for each in told if each["involvedObject"]["kind"] == "BettingPlatform"] == []
    assert condition(kube_api.request("GET", demo), "Accepted")["status"] == "True"


async def test_a_right_that_is_missing_is_named_and_the_rest_is_made(
    kube_api: KubeApi, demo: str, namespace: str, chart: Callable[..., list[dict[str, Any]]]
) -> None:
    role = next(each for each in chart(namespace, "--set", "crds.install=false") if each["kind"] == "Role")
    next(each for each in role["rules"] if each["resources"] == ["services"])["verbs"].remove("patch")
    async with operator_in(kube_api.service_account(namespace, "poor", role["rules"]), namespace) as poor:
        await poor.round()
        objects = await poor.objects()
    accepted = condition(kube_api.request("GET", demo), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NotApplied")
    assert 'Service demo-wallet-service: services "demo-wallet-service" is forbidden: ' in accepted["message"]
    assert 'cannot patch resource "services" in API group "" in the namespace' in accepted["message"]
    made = {"NetworkPolicy", "Secret", "StatefulSet", "Deployment", "PodDisruptionBudget"}
    assert {key.kind for key in objects} == made


async def test_a_quota_that_refuses_the_pods_of_a_new_platform_is_named(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """A ReplicaSet's pods by the Deployment, a StatefulSet's by its events alone."""
    await operator.round()
    core = f"/api/v1/namespaces/{namespace}"
    hard = {"hard": {"pods": "0"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": hard}
    kube_api.request("POST", f"{core}/resourcequotas", quota)
    kube_api.request("PATCH", f"{core}/resourcequotas/none/status", {"status": hard | {"used": {"pods": "0"}}}, MERGE)
    postgres = kube_api.request("GET", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/demo-postgres")
    refusal = _refusal_of_a_pod(kube_api, postgres, "demo-postgres-0")
    assert "exceeded quota: none" in refusal
    _controller_tells(kube_api, postgres, "FailedCreate", "an older refusal")
    _controller_tells(kube_api, postgres, "FailedCreate", f"create Pod demo-postgres-0 failed error: {refusal}")
    _controller_tells(kube_api, postgres, "RecreatingFailedPod", "of no interest")
    wallet = f"/apis/apps/v1/namespaces/{namespace}/deployments/demo-wallet-service"
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refusal}
    kube_api.request("PATCH", f"{wallet}/status", {"status": {"conditions": [refused]}}, MERGE)
    await operator.restarted()
    await operator.round()
    resource = kube_api.request("GET", demo)
    assert condition(resource, "Ready")["message"] == (
        f"Postgres does not run: FailedCreate: create Pod demo-postgres-0 failed error: {_nameless(refusal)}"
    )
    assert f"wallet-service has no ready pod: FailedCreate: {refusal}" in condition(resource, "Available")["message"]
    assert condition(resource, "RolledOut")["reason"] == "RollStuck"


async def test_a_priority_class_that_does_not_exist_is_named_by_the_migration(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    resource = platforms.resource(
        namespace, database={"external": {"dsnSecret": {"name": "mine"}}}, scheduling={"priorityClassName": "hihg"}
    )
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    make_secret(kube_api, namespace, "postgresql://x")
    await operator.round()
    [job] = kube_api.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    job |= {"apiVersion": "batch/v1", "kind": "Job"}
    refusal = _refusal_of_a_pod(kube_api, job, f"{job['metadata']['name']}-x2lqm")
    assert "no PriorityClass with name hihg was found" in refusal
    _controller_tells(kube_api, job, "FailedCreate", f"Error creating: {refusal}")
    await operator.restarted()
    await operator.round()
    path = f"{PLATFORMS_PATH.format(namespace)}/demo"
    migrated = condition(kube_api.request("GET", path), "Migrated")
    assert (migrated["status"], migrated["reason"]) == ("False", "NotRunning")
    assert migrated["message"] == f"Job {job['metadata']['name']}: FailedCreate: Error creating: {_nameless(refusal)}"


async def test_events_are_read_only_for_what_has_no_pod(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.round()
    read: list[str] = []
    request = operator.client.requests.request

    def noted(method: str, path: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        if method == "GET" and path.endswith("/events"):
            read.append(more["query"]["fieldSelector"])
        return request(method, path, *arguments, **more)

    monkeypatch.setattr(operator.client.requests, "request", noted)
    await operator.round()
    assert len(read) == 2, "Postgres and Redis have no pod"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    kube_api.request("POST", pods, kubelet.pod("postgres", "demo-postgres-0"))
    kube_api.request("POST", pods, kubelet.pod("redis", "demo-redis-0"))
    read.clear()
    await operator.round()
    assert read == []


def _refusal_of_a_pod(kube_api: KubeApi, owner: dict[str, Any], name: str) -> str:
    """What the API server says to the controller that makes this pod of a Job or StatefulSet."""
    pod = {"apiVersion": "v1", "kind": "Pod", **owner["spec"]["template"]}
    pod["metadata"] = {**pod["metadata"], "name": name}
    claims = [each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", ())]
    pod["spec"].setdefault("volumes", []).extend({"name": each, "emptyDir": {}} for each in claims)
    with pytest.raises(KubeError) as refused:
        kube_api.request("POST", f"/api/v1/namespaces/{owner['metadata']['namespace']}/pods", pod)
    return str(json.loads(refused.value.message)["message"])


_events = itertools.count(1)


def _nameless(refusal: str) -> str:
    """As it is told: the pods of a Job have random names, another one at each try."""
    name, _, why = refusal.partition(" is forbidden: ")
    assert name.startswith('pods "demo-')
    return f"pods is forbidden: {why}"


def _controller_tells(kube_api: KubeApi, of: dict[str, Any], reason: str, message: str) -> None:
    """An event as kube-controller-manager writes it; each a second later than the one before."""
    number, metadata = next(_events), of["metadata"]
    at = f"2026-01-01T00:00:{number:02}Z"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{100 - number}", "namespace": metadata["namespace"]},
        "involvedObject": {
            **{name: metadata[name] for name in ("name", "namespace", "uid")},
            **{name: of[name] for name in ("apiVersion", "kind")},
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": "test-controller"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", event)


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
