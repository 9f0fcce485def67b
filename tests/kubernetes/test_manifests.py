"""The API server accepts what the builders make, also where Pod Security is `restricted`, and refuses wrong specs."""

from __future__ import annotations

from typing import Any

import golden_manifests
import platforms
import pytest
from kube_api import KubeApi, KubeError

from betting_operator.kubernetes import drill_values
from betting_operator.kubernetes.reconcile import KINDS
from betting_operator.kubernetes.spec import parse

PLATFORMS = "/apis/selfhealing.bet/v1alpha1/namespaces/{}/bettingplatforms"


@pytest.mark.parametrize("name", golden_manifests.INPUTS)
def test_every_golden_manifest_is_accepted_by_the_api_server(kube_api: KubeApi, restricted: str, name: str) -> None:
    """In a dry run with field validation: an unknown or misspelt field is refused."""
    platform = parse(golden_manifests.resource(name, restricted), platforms.OWN_IMAGE)
    for each in golden_manifests.manifests(platform):
        path = KINDS[each["kind"]].path(restricted, each["metadata"]["name"])
        kube_api.request(
            "PATCH",
            f"{path}?dryRun=All&fieldManager=betting-operator&fieldValidation=Strict",
            each,
            "application/apply-patch+yaml",
        )


@pytest.mark.parametrize("name", golden_manifests.INPUTS)
def test_pods_meet_the_restricted_level(kube_api: KubeApi, restricted: str, name: str) -> None:
    """A Deployment is only warned about: the pods themselves are refused, so these are created."""
    platform = parse(golden_manifests.resource(name, restricted), platforms.OWN_IMAGE)
    manifests = golden_manifests.manifests(platform)
    templates = [each["spec"]["template"] for each in manifests if "template" in each.get("spec", {})]
    assert len(templates) >= 10
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "betting"},
        "value": 1,
    }
    kube_api.apply("/apis/scheduling.k8s.io/v1/priorityclasses/betting", priority)  # spec.scheduling names it
    for number, template in enumerate(templates):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": template["spec"]}
        pod["spec"]["volumes"].append({"name": "data", "emptyDir": {}})  # a StatefulSet brings it
        kube_api.request("POST", f"/api/v1/namespaces/{restricted}/pods?dryRun=All&fieldValidation=Strict", pod)


@pytest.mark.parametrize("name", golden_manifests.INPUTS)
def test_a_platform_is_accepted_and_gets_its_defaults(kube_api: KubeApi, namespace: str, name: str) -> None:
    """Of which the operator thinks the same as the API server."""
    described = golden_manifests.resource(name, namespace)
    uid = described["metadata"].pop("uid")
    created = kube_api.request("POST", PLATFORMS.format(namespace) + "?fieldValidation=Strict", described)
    created["metadata"]["uid"] = described["metadata"]["uid"] = uid
    assert parse(created, platforms.OWN_IMAGE) == parse(described, platforms.OWN_IMAGE)
    assert drill_values.parse(created) == drill_values.parse(described)


def test_the_defaults_of_the_operator_are_those_of_the_api_server(kube_api: KubeApi, namespace: str) -> None:
    created = kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, {}))
    from betting_operator.kubernetes.schema import defaulted

    assert created["spec"] == defaulted({})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"shardCount": 0}, "greater than or equal to 1"),
    ({"shardCount": "many"}, "must be of type integer"),
    ({"database": {"managed": {}, "external": {"dsnSecret": {"name": "x"}}}}, "exactly one of managed and external"),
    ({"database": {}}, "exactly one of managed and external"),
    ({"redis": {"managed": {}, "external": {"urlSecret": {"name": "x"}}}}, "exactly one of managed and external"),
    ({"redis": {"external": {}}}, "urlSecret"),
    ({"image": {"repository": "r", "tag": "1", "digest": "sha256:" + "0" * 64}}, "either tag or digest"),
    ({"image": {"tag": "1"}}, "give repository too"),
    ({"image": {"repository": "r", "digest": "sha256:abc"}}, "should match"),
    ({"currencies": []}, "at least 1"),
    ({"currencies": ["gbp"]}, "should match"),
    ({"currencies": ["GBP", "ABC"]}, "each of currencies is a code of ISO 4217"),
    ({"currencies": ["GBP", "GBP"]}, "Duplicate value"),
    ({"services": {"betService": {"replicas": 0}}}, "greater than or equal to 1"),
    (
        {"services": {"betService": {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}}}},
        "minReplicas must not be more than maxReplicas",
    ),
    ({"services": {"betService": {"autoscaling": {"betsPerSecond": 0}}}}, "greater than or equal to 1"),
    ({"services": {"betService": {"settings": {"LOG_LEVEL": "debug"}}}}, "settings are named BETTING_"),
    (
        {"services": {"betService": {"settings": {"BETTING_SHARD_COUNT": "3"}}}},
        "the operator decides",
    ),
    ({"services": {"walletService": {"settings": {"BETTING_SANDBOX_MONEY": "true"}}}}, "the operator decides"),
    ({"services": {"betService": {"resources": {"memory": "lots"}}}}, "should match"),
    ({"services": {"userService": {"settings": {"BETTING_OPERATOR_PASSWORD": "x"}}}}, "the operator decides"),
    ({"services": {"walletService": {"settings": {"BETTING_SANDBOX_MONEY": "true"}}}}, "the operator decides"),
    ({"scheduling": {"tolerations": [{"effect": "Never"}]}}, "Unsupported value"),
    ({"scheduling": {"tolerations": [{"tolerationSeconds": "ten"}]}}, "must be of type integer"),
    ({"gateway": {"from": [{}]}}, "each of from has podSelector, namespaceSelector or both, or else ipBlock"),
    ({"gateway": {"from": [{"podSelector": {"matchLabels": {"a": 1}}}]}}, "must be of type string"),
    (
        {"metrics": {"scrapeFrom": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}},
        "each of scrapeFrom has podSelector, namespaceSelector or both, or else ipBlock",
    ),
    ({"gateway": {"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}}, "cidr is a network"),
    (
        {"metrics": {"scrapeFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/99"]}}]}},
        "each of except is a network",
    ),
    ({"metrics": {"scrapeFrom": ["monitoring"]}}, "must be of type object"),
    ({"redis": {"managed": {"maxMemoryMiB": 512}}}, "maxMemoryMiB must be less than resources.memoryLimit"),
    ({"services": {"betService": {"resources": {"memory": "2Gi"}}}}, "memory must not be more than memoryLimit"),
    (
        {"redis": {"external": {"urlSecret": {"name": "x"}, "cidrs": ["10.0.0.1/99"]}}},
        "each of cidrs is a network",
    ),
    ({"database": {"external": {"dsnSecret": {"name": "x"}, "cidrs": ["1::2::3/8"]}}}, "each of cidrs is a network"),
    ({"gateway": {"service": {"type": "ClusterIP", "nodePort": 30000}}}, "nodePort needs type NodePort"),
    ({"gateway": {"ingress": {}}}, "host"),
    ({"feeds": {"seasonReplay": {"speed": "fast"}}}, "should match"),
    ({"feeds": {"seasonReplay": {"speed": "0.000"}}}, "speed is from 0.001 to 1000000"),
    ({"feeds": {"theOddsApi": {"keySecret": {"name": "x"}, "sports": "Soccer!"}}}, "should match"),
    ({"deletionPolicy": "Perhaps"}, "Unsupported value"),
]


@pytest.mark.parametrize(("spec", "reason"), REFUSED, ids=[str(spec)[:60] for spec, _reason in REFUSED])
def test_a_platform_that_cannot_work_is_refused_with_the_reason(
    kube_api: KubeApi, namespace: str, spec: dict[str, Any], reason: str
) -> None:
    with pytest.raises(KubeError) as refused:
        kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, spec))
    assert refused.value.code == 422
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"shards": 3}, "spec.shards"),
        # Only bet-service takes bets.
        (
            {"services": {"apiGateway": {"autoscaling": {"betsPerSecond": 9}}}},
            "spec.services.apiGateway.autoscaling.betsPerSecond",
        ),
    ],
)
def test_a_field_that_does_not_exist_is_refused_where_kubectl_asks_for_it(
    kube_api: KubeApi, namespace: str, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(KubeError) as refused:
        kube_api.request("POST", PLATFORMS.format(namespace) + "?fieldValidation=Strict", _new(namespace, spec))
    assert "unknown field" in refused.value.message
    assert field in refused.value.message


def test_a_name_that_is_too_long_for_its_pods_is_refused(kube_api: KubeApi, namespace: str) -> None:
    with pytest.raises(KubeError) as refused:
        kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, {}, name="a" * 21))
    assert "at most 20 characters" in refused.value.message


@pytest.mark.parametrize("name", ["1demo", "a.b"])
def test_a_name_that_no_service_can_have_is_refused(kube_api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(KubeError) as refused:
        kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, {}, name=name))
    assert "begins with a letter" in refused.value.message


CHANGES_REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"shardCount": 16}, {"shardCount": 32}, "shardCount can never change"),
    (
        {"database": {"managed": {}}},
        {"database": {"managed": None, "external": {"dsnSecret": {"name": "x"}}}},
        "cannot change between a managed and an external database",
    ),
    (
        {"database": {"managed": {"storage": "2Gi"}}},
        {"database": {"managed": {"storage": "3Gi"}}},
        "the size of the volume cannot change",
    ),
    (
        {"database": {"managed": {"storageClassName": "fast"}}},
        {"database": {"managed": {"storageClassName": "slow"}}},
        "the storage class of the volume cannot change",
    ),
    (
        {"redis": {"managed": {"replicas": 3}}},
        {"redis": {"managed": {"replicas": 2}}},
        "a Redis of three or more nodes keeps at least three",
    ),
]


@pytest.mark.parametrize(("before", "after", "reason"), CHANGES_REFUSED)
def test_what_can_never_change_is_refused(
    kube_api: KubeApi, namespace: str, before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, before))
    path = f"{PLATFORMS.format(namespace)}/demo"
    with pytest.raises(KubeError) as refused:
        kube_api.request("PATCH", path, {"spec": after}, "application/merge-patch+json")
    assert reason in refused.value.message
    kube_api.request("PATCH", path, {"spec": {"playMoney": True}}, "application/merge-patch+json")


def test_the_scale_of_a_platform_is_that_of_its_bet_service(kube_api: KubeApi, namespace: str) -> None:
    """`kubectl scale bp demo --replicas 5` works."""
    kube_api.request("POST", PLATFORMS.format(namespace), _new(namespace, {}))
    path = f"{PLATFORMS.format(namespace)}/demo"
    kube_api.request("PATCH", f"{path}/scale", {"spec": {"replicas": 5}}, "application/merge-patch+json")
    assert kube_api.request("GET", path)["spec"]["services"]["betService"]["replicas"] == 5


def _new(namespace: str, spec: dict[str, Any], name: str = "demo") -> dict[str, Any]:
    new = platforms.resource(namespace, name, **spec)
    new["metadata"].pop("uid")
    return new
