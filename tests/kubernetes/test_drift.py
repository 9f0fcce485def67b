"""What others do to the objects of a platform, and what the operator leaves to them, on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platforms
import pytest
from kube_api import KubeApi
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, condition, counted, operator_in

from betting_operator.kubernetes.reconcile import Key
from betting_operator.kubernetes.reconciler import Reconciler


async def test_nothing_is_written_while_nothing_changes(
    kube_api: KubeApi, demo: str, operator: Operator, operators_rights: Path
) -> None:
    """Also by an operator that has just started: an apply that changes nothing keeps the resourceVersion."""
    await operator.round()
    before = {key: each["metadata"]["resourceVersion"] for key, each in (await operator.objects()).items()}
    status = kube_api.request("GET", demo)["metadata"]["resourceVersion"]
    writes = counted(operator.client)
    await operator.round()
    assert writes == []
    async with operator_in(operators_rights, operator.namespace) as second:
        await second.round()
    assert {key: each["metadata"]["resourceVersion"] for key, each in (await operator.objects()).items()} == before
    assert kube_api.request("GET", demo)["metadata"]["resourceVersion"] == status


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/apis/apps/v1/namespaces/{}/deployments/demo-bet-service", {"spec": {"replicas": 9}}),
        (
            "/apis/apps/v1/namespaces/{}/deployments/demo-wallet-service",
            {"spec": {"template": {"spec": {"enableServiceLinks": True}}}},
        ),
        ("/api/v1/namespaces/{}/services/demo-gateway", {"spec": {"selector": {"app.kubernetes.io/name": "other"}}}),
        (
            "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies/demo-default-deny",
            {"spec": {"policyTypes": ["Ingress"]}},
        ),
        ("/api/v1/namespaces/{}/secrets/demo-redis", {"data": {"url": "eA=="}}),
    ],
)
async def test_drift_is_repaired(
    kube_api: KubeApi, demo: str, operator: Operator, path: str, change: dict[str, Any]
) -> None:
    await operator.round()
    path = path.format(operator.namespace)
    before = kube_api.request("GET", path)
    kube_api.request("PATCH", path, change, MERGE)
    await operator.round()
    after = kube_api.request("GET", path)
    assert (after.get("spec"), after.get("data")) == (before.get("spec"), before.get("data"))


async def test_what_was_deleted_is_made_again(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    await operator.round()
    path = f"/api/v1/namespaces/{operator.namespace}/services/demo-gateway"
    kube_api.request("DELETE", path)
    await operator.round()
    assert kube_api.request("GET", path)["spec"]["type"] == "NodePort"


async def test_what_the_watch_has_not_told_yet_is_not_made_anew(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """A Secret would get another password, a Deployment the number of pods that it starts with."""
    scaling = {"services": {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}}
    resource = kube_api.request("PATCH", demo, {"spec": scaling}, MERGE)
    await operator.reconciler.reconcile([resource], {})
    bets = f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service"
    kube_api.request("PATCH", f"{bets}/scale", {"spec": {"replicas": 6}}, MERGE)
    before = await operator.objects()
    for _round in range(2):
        await operator.reconciler.reconcile([resource], {})
    after = await operator.objects()
    assert {key: each.get("data") for key, each in before.items()} == {
        key: each.get("data") for key, each in after.items()
    }
    assert after[Key("Deployment", "demo-bet-service")]["spec"]["replicas"] == 6


async def test_objects_that_lost_their_labels_get_them_back_and_are_else_as_they_were(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """The watch tells of them no more, also to an operator that has just started."""
    resource = platforms.resource(namespace, "demo", deletionPolicy="Delete")
    resource["metadata"].pop("uid")
    scaling = {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource | {"spec": {"services": scaling}})
    kube_api.request("PATCH", f"{PLATFORMS_PATH.format(namespace)}/demo", {"spec": {"deletionPolicy": "Delete"}}, MERGE)
    await operator.round()
    bets = f"/apis/apps/v1/namespaces/{namespace}/deployments/demo-bet-service"
    kube_api.request("PATCH", f"{bets}/scale", {"spec": {"replicas": 6}}, MERGE)
    before = await operator.objects()
    for path in (bets, f"/api/v1/namespaces/{namespace}/secrets/demo-postgres"):
        kube_api.request("PATCH", path, {"metadata": {"labels": None}}, MERGE)
    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE)
    for _round in range(2):
        await operator.round()
    after = await operator.objects()
    assert {key: each.get("data") for key, each in before.items()} == {
        key: each.get("data") for key, each in after.items()
    }
    assert after[Key("Deployment", "demo-bet-service")]["spec"]["replicas"] == 6


async def test_an_object_of_somebody_else_is_not_touched(kube_api: KubeApi, demo: str, operator: Operator) -> None:
    path = f"/api/v1/namespaces/{operator.namespace}/services"
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo-gateway"},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}},
    }
    kube_api.request("POST", path, theirs)
    await operator.round()
    assert kube_api.request("GET", f"{path}/demo-gateway")["spec"]["selector"] == {"app": "theirs"}
    accepted = condition(kube_api.request("GET", demo), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NotApplied")
    assert "Service demo-gateway exists and belongs to somebody else" in accepted["message"]
    kube_api.request("DELETE", f"{path}/demo-gateway")
    await operator.round()
    assert condition(kube_api.request("GET", demo), "Accepted")["status"] == "True"


async def test_a_password_is_made_once_also_when_the_watch_does_not_tell_of_its_secret(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """Another one would lock everybody out of the database that was made with the first."""
    resource = kube_api.request("GET", demo)
    path = f"/api/v1/namespaces/{operator.namespace}/secrets"
    await operator.reconciler.reconcile([resource], {})
    first = {each["metadata"]["name"]: each["data"] for each in kube_api.request("GET", path)["items"]}
    await operator.reconciler.reconcile([resource], {})
    assert {each["metadata"]["name"]: each["data"] for each in kube_api.request("GET", path)["items"]} == first


async def test_an_object_that_somebody_else_deletes_meanwhile_does_not_stop_the_round(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """Neither when another one of its name is there already: a delete names the uid."""
    await operator.round()
    path = f"/apis/networking.k8s.io/v1/namespaces/{operator.namespace}/networkpolicies/demo-season-replay"
    seen = await operator.objects()
    replaced = kube_api.request("GET", path)
    kube_api.request("DELETE", path)
    replaced["metadata"] = {each: replaced["metadata"][each] for each in ("name", "labels", "ownerReferences")}
    kube_api.request("POST", path.removesuffix("/demo-season-replay"), replaced)
    resource = kube_api.request("PATCH", demo, {"spec": {"feeds": {"seasonReplay": None}}}, MERGE)
    await operator.reconciler.reconcile([resource], seen)
    assert kube_api.request("GET", path)
    await operator.reconciler.reconcile([resource], await operator.objects())
    assert Key("NetworkPolicy", "demo-season-replay") not in await operator.objects()


async def test_the_autoscaler_keeps_the_number_of_pods_that_it_has_set(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    scaling = {"services": {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 9}}}}
    kube_api.request("PATCH", demo, {"spec": scaling}, MERGE)
    await operator.round()
    path = f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service"
    assert kube_api.request("GET", path)["spec"]["replicas"] == 2
    kube_api.request("PATCH", f"{path}/scale", {"spec": {"replicas": 6}}, MERGE)
    for _round in range(3):
        await operator.round()
        assert kube_api.request("GET", path)["spec"]["replicas"] == 6


async def test_an_autoscaler_by_bets_per_second_is_made_and_then_left_alone(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    """The API server keeps 2000 as 2k: that is no drift."""
    scaling = {"minReplicas": 2, "maxReplicas": 9, "betsPerSecond": 2000}
    kube_api.request("PATCH", demo, {"spec": {"services": {"betService": {"autoscaling": scaling}}}}, MERGE)
    await operator.round()
    path = f"/apis/autoscaling/v2/namespaces/{operator.namespace}/horizontalpodautoscalers/demo-bet-service"
    pods = {
        "metric": {"name": "betting_bets_accepted_per_second"},
        "target": {"type": "AverageValue", "averageValue": "2k"},
    }
    assert {"type": "Pods", "pods": pods} in kube_api.request("GET", path)["spec"]["metrics"]
    await operator.round()
    writes = counted(operator.client)
    await operator.round()
    assert writes == []


async def test_a_deployment_whose_new_template_waits_is_scaled(
    kube_api: KubeApi, demo: str, operator: Operator
) -> None:
    await operator.round()
    change = {"image": {"repository": "betting", "tag": "2"}, "services": {"betService": {"replicas": 5}}}
    kube_api.request("PATCH", demo, {"spec": change}, MERGE)
    await operator.round()
    bets = kube_api.request("GET", f"/apis/apps/v1/namespaces/{operator.namespace}/deployments/demo-bet-service")
    assert bets["spec"]["replicas"] == 5
    assert bets["spec"]["template"]["spec"]["containers"][0]["image"] == platforms.OWN_IMAGE.reference
    writes = counted(operator.client)
    await operator.round()
    assert writes == []
