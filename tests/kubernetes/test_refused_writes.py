"""Objects that the API server does not take, at once or after a long time, and what becomes of all the others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import platforms
import pytest
from kube_api import KubeApi, KubeError
from operator_rounds import MERGE, Operator, condition, counted

from betting_operator.kubernetes.client import AwayError
from betting_operator.kubernetes.reconcile import Key
from betting_operator.kubernetes.reconciler import PLATFORMS, Reconciler
from betting_operator.kubernetes.spec import Platform
from betting_operator.kubernetes.status import Healer

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
GROUPS = ["", "apps", "batch", "networking.k8s.io", "policy"]
EVERY_KIND = ["networkpolicies", "secrets", "services", "statefulsets", "jobs", "deployments", "poddisruptionbudgets"]
OPERATIONS = ("CREATE", "UPDATE", "DELETE")
# Nobody listens there: the API server is refused at once.
AWAY = "https://127.0.0.1:1/"


@contextmanager
def webhook(
    kube_api: KubeApi, namespace: str, url: str, resources: list[str], operations: tuple[str, ...] = OPERATIONS
) -> Iterator[None]:
    """An admission webhook at this address, asked before such operations on these in this namespace."""
    rule = {"apiGroups": GROUPS, "apiVersions": ["v1"], "operations": operations}
    name = f"test-{namespace}"
    one = {
        "name": "test.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": url},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [rule | {"resources": [*resources, "configmaps"]}],
    }
    kind = "ValidatingWebhookConfiguration"
    manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
    kube_api.request("POST", WEBHOOKS, manifest | {"webhooks": [one]})
    try:
        _until_it_is_asked(kube_api, namespace)
        yield
    finally:
        kube_api.request("DELETE", f"{WEBHOOKS}/{name}")


@contextmanager
def hanging(kube_api: KubeApi, namespace: str, resources: list[str]) -> Iterator[None]:
    """A webhook that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        with webhook(kube_api, namespace, url, resources):
            yield


def _until_it_is_asked(kube_api: KubeApi, namespace: str) -> None:
    """The API server takes note of a webhook a moment after it was made. Then it refuses the probe, or gives it up."""
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}
    while True:
        try:
            kube_api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps?dryRun=All&timeout=1s", probe)
        except (KubeError, OSError):
            return
        time.sleep(0.05)


def written(writes: list[str], *, but: tuple[str, ...] = ("/status", "/events")) -> list[str]:
    """What was tried to write of the platform's objects, as plural/name."""
    return ["/".join(path.split("/")[-2:]) for path in writes if not any(each in path for each in but)]


async def test_an_object_that_the_api_server_cannot_take_does_not_stop_the_others(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """What is not of an object's schema, or an admission webhook that is away, has status 500."""
    await operator.round()
    kube_api.request("PATCH", demo, {"spec": {"feeds": {"seasonReplay": None}}}, MERGE)
    kube_api.request("DELETE", f"/apis/apps/v1/namespaces/{namespace}/statefulsets/demo-redis")
    with webhook(kube_api, namespace, AWAY, ["networkpolicies", "statefulsets"], ("CREATE", "DELETE")):
        await operator.round()
    accepted = condition(kube_api.request("GET", demo), "Accepted")
    assert accepted["reason"] == "NotApplied"
    assert "StatefulSet demo-redis: " in accepted["message"]
    assert "NetworkPolicy demo-season-replay: " in accepted["message"]
    assert Key("Deployment", "demo-season-replay") not in await operator.objects()


@pytest.mark.parametrize("resource", ["networkpolicies", "secrets"])
async def test_a_webhook_that_hangs_stops_neither_the_healer_nor_the_other_kinds_nor_the_report(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator, resource: str
) -> None:
    """To a new leader, which writes every object once. A Secret that hangs is stored already: pods may read it."""
    await operator.round()
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/demo-odds-service"
    kube_api.request("DELETE", deployment)
    writes = counted(operator.client)
    before: list[list[str]] = []

    def heal(platform: Platform | None, objects: Mapping[Key, Any]) -> Healer:
        assert platform is not None
        assert Key("Secret", "demo-internal") in objects
        before.append(list(writes))
        return Healer(runs=True)

    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE, heal=heal)
    with hanging(kube_api, namespace, [resource]):
        await operator.round()
    assert before == [[]], "the healer is told before anything is written"
    assert kube_api.request("GET", deployment)
    found = kube_api.request("GET", demo)
    accepted = condition(found, "Accepted")
    assert accepted["reason"] == "NotApplied"
    assert "the API server answers, but not to this (an admission webhook hangs?)" in accepted["message"]
    assert "more writes wait for the next round" in accepted["message"]
    assert condition(found, "Healing")["reason"] == "Running"
    assert [each.split("/")[0] for each in written(writes)].count(resource) == 1, "each would take as long"


async def test_a_round_in_which_everything_hangs_ends_and_the_next_one_tries_other_kinds(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    await operator.round()
    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE)
    writes = counted(operator.client)
    tried: list[list[str]] = []
    with hanging(kube_api, namespace, EVERY_KIND):
        for _round in range(2):
            await operator.round()
            tried.append([each.split("/")[0] for each in written(writes)])
            writes.clear()
    assert tried == [["networkpolicies", "secrets"], ["services", "statefulsets"]]
    assert condition(kube_api.request("GET", demo), "Accepted")["reason"] == "NotApplied"


async def test_a_round_ends_when_the_api_server_itself_does_not_answer(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    await operator.round()
    resources = list((await operator.client.list(PLATFORMS, namespace)).objects)
    objects = await operator.objects()
    writes = counted(operator.client)
    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE)
    kube_api.pause()
    with pytest.raises(AwayError):
        await operator.reconciler.reconcile(resources, objects)
    assert len(writes) == 1


async def test_a_refused_object_is_tried_again_later_and_later_and_at_once_after_a_change(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator
) -> None:
    """Meanwhile the status says all the time why it is refused."""
    now_s = 1_000.0
    operator.reconciler = Reconciler(operator.client, namespace, platforms.OWN_IMAGE, now_s=lambda: now_s)
    await operator.round()
    services = f"/api/v1/namespaces/{namespace}/services"
    kube_api.request(
        "PATCH", f"{services}/demo-gateway", {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}, MERGE
    )
    writes = counted(operator.client)

    async def tries(at_s: float) -> int:
        nonlocal now_s
        now_s = 1_000.0 + at_s
        writes.clear()
        await operator.round()
        accepted = condition(kube_api.request("GET", demo), "Accepted")
        assert "Service demo-gateway: " in accepted["message"]
        return written(writes).count("services/demo-gateway")

    with webhook(kube_api, namespace, AWAY, ["services"]):
        moments = {0.0: 1, 1.9: 0, 2.0: 1, 5.9: 0, 6.0: 1, 13.9: 0, 14.0: 1}
        assert {at_s: await tries(at_s) for at_s in moments} == moments
        assert await tries(14.1) == 0
        kube_api.request("PATCH", demo, {"spec": {"gateway": {"service": {"type": "LoadBalancer"}}}}, MERGE)
        assert await tries(14.2) == 1, "another manifest is wanted"
        assert await tries(14.3) == 0
    kube_api.request("PATCH", f"{services}/demo-gateway", {"metadata": {"labels": {"more": "x"}}}, MERGE)
    now_s += 0.1
    await operator.round()
    assert condition(kube_api.request("GET", demo), "Accepted")["status"] == "True", "the object has changed"
