"""What the healer does to workloads, on a real API server with the rights of the chart: rolling back and scaling."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kube_api import KubeApi
from operator_rounds import MERGE, Operator, condition

from betting_operator.kubernetes import rollbacks
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.manifests import TEMPLATE_ANNOTATION
from betting_operator.kubernetes.reconcile import Key
from betting_operator.platforms.kubernetes_hands import Hands
from betting_operator.platforms.port import CannotDo, Stored

# The ReplicaSet of the pods that crash.
LOOPING = "demo-bet-service-7c9d8b6f5"
BAD_IMAGE = "localhost/betting:2.0.0"
SAME = Stored(frozenset({"0005.x"}), {}, (1,))


@dataclass
class Platform:
    """The demo platform, made by the operator, and the healer's hands."""

    api: KubeApi
    operator: Operator
    hands: Hands
    path: str
    stored: list[Stored] = field(default_factory=lambda: [SAME])

    def deployment(self, workload: str = "bet-service") -> str:
        return f"/apis/apps/v1/namespaces/{self.operator.namespace}/deployments/demo-{workload}"

    def live(self, workload: str = "bet-service") -> dict[str, Any]:
        return self.api.request("GET", self.deployment(workload))

    def image(self) -> str:
        return rollbacks.image_of(self.live()["spec"]["template"])

    def change(self, path: str, changes: dict[str, Any]) -> None:
        self.api.request("PATCH", path, changes, MERGE)

    async def fail(self, image: str = BAD_IMAGE) -> dict[str, Any]:
        """The template of bet-service was rolled out; then another one is applied. Returns the one before."""
        before = self.live()
        template = rollbacks.template_of(before)
        note = json.dumps([[template, "0005.x", [1]]])
        self.change(self.deployment(), {"metadata": {"annotations": {rollbacks.ROLLED_OUT_ANNOTATION: note}}})
        labels = {**before["spec"]["template"]["metadata"]["labels"], "pod-template-hash": "5d4f8c7b9"}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True}
        owner |= {"name": before["metadata"]["name"], "uid": before["metadata"]["uid"]}
        kept = {**before["spec"]["template"]}
        kept["metadata"] = {**kept["metadata"], "labels": labels}
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "demo-bet-service-5d4f8c7b9", "labels": labels, "ownerReferences": [owner]},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": kept},
        }
        self.api.request("POST", f"/apis/apps/v1/namespaces/{self.operator.namespace}/replicasets", replica_set)
        # As the operator applies it once the migration of that version is done.
        container = {**before["spec"]["template"]["spec"]["containers"][0], "image": image}
        annotations = {TEMPLATE_ANNOTATION: "bad"}
        template_now = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
        changes = {"metadata": {"annotations": annotations}, "spec": {"template": template_now}}
        self.change(self.deployment(), changes)
        made = copy.deepcopy(replica_set)
        made["metadata"]["name"] = LOOPING
        made["spec"]["template"]["metadata"]["annotations"][TEMPLATE_ANNOTATION] = "bad"
        self.api.request("POST", f"/apis/apps/v1/namespaces/{self.operator.namespace}/replicasets", made)
        return before


@pytest.fixture
async def platform(kube_api: KubeApi, demo: str, operator: Operator, operators_rights: Path) -> AsyncIterator[Platform]:
    await operator.round()
    async with Client(configuration(operators_rights)) as client:
        found: Platform

        async def stored() -> Stored:
            return found.stored[-1]

        found = Platform(kube_api, operator, Hands(client, operator.namespace, "demo", stored), demo)
        yield found


async def test_a_deployment_is_rolled_back_once_and_the_template_that_does_not_work_is_named(
    platform: Platform,
) -> None:
    await platform.fail()
    await platform.hands.roll_back("bet-service", LOOPING)
    first = platform.live()
    assert rollbacks.rolled_back_from(first) == "bad"
    await platform.hands.roll_back("bet-service", LOOPING)
    assert platform.live()["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_the_operator_goes_back_and_stays_there_until_the_spec_changes(platform: Platform) -> None:
    """The template is the very one that the ReplicaSet has, so Kubernetes takes its pods. Then nothing is written."""
    before = await platform.fail()
    wanted = rollbacks.template_of(before)
    # What the spec asks for is what does not work; what worked before is another one.
    platform.change(platform.deployment(), {"metadata": {"annotations": {TEMPLATE_ANNOTATION: wanted}}})
    note = {"metadata": {"annotations": {rollbacks.ROLLED_OUT_ANNOTATION: json.dumps([["good", "0005.x", [1]]])}}}
    platform.change(platform.deployment(), note)
    sets = f"/apis/apps/v1/namespaces/{platform.operator.namespace}/replicasets"
    kept = platform.api.request("GET", f"{sets}/demo-bet-service-5d4f8c7b9")
    template = kept["spec"]["template"]
    template["metadata"]["annotations"][TEMPLATE_ANNOTATION] = "good"
    template["spec"]["containers"][0]["image"] = "localhost/betting:0.9.0"
    metadata = {name: kept["metadata"][name] for name in ("labels", "ownerReferences")}
    made = {**kept, "metadata": {"name": "demo-bet-service-6f7d8c9b4", **metadata}}
    platform.api.request("POST", sets, made)
    await platform.hands.roll_back("bet-service", "demo-bet-service-5d4f8c7b9")
    await platform.operator.round()
    live = platform.live()
    assert (rollbacks.template_of(live), platform.image()) == ("good", "localhost/betting:0.9.0")
    labels = template["metadata"]["labels"]
    del labels["pod-template-hash"]
    assert live["spec"]["template"]["metadata"]["labels"] == labels
    assert live["spec"]["template"]["spec"] == template["spec"]
    await platform.operator.round()
    assert platform.live()["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    await platform.operator.restarted()
    await platform.operator.round()
    assert condition(platform.api.request("GET", platform.path), "RolledOut")["reason"] == "RolledBack"
    assert platform.live()["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    with pytest.raises(CannotDo, match=r"was rolled back from template \w+ already"):
        await platform.hands.roll_back("bet-service", LOOPING)


async def test_an_annotation_of_a_template_that_is_not_wanted_any_more_goes_away(platform: Platform) -> None:
    """In two rounds: a field that the healer wrote has to become the operator's before it can be left out."""
    stale = {"metadata": {"annotations": {rollbacks.ROLLED_BACK_ANNOTATION: "of-long-ago"}}}
    platform.change(platform.deployment(), stale)
    image = platform.image()
    await platform.operator.round()
    await platform.operator.round()
    assert rollbacks.ROLLED_BACK_ANNOTATION not in platform.live()["metadata"]["annotations"]
    assert platform.image() == image


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (Stored(frozenset({"0005.x", "0006.y"}), {}, (1,)), "migration 0006.y"),
        (Stored(frozenset({"0005.x"}), {}, (1, 2)), "format 2 may have been written"),
        (Stored(frozenset({"0005.x"}), {}, ()), "cannot be told"),
    ],
)
async def test_nothing_is_rolled_back_over_a_change_of_formats(platform: Platform, stored: Stored, why: str) -> None:
    await platform.fail()
    platform.stored.append(stored)
    with pytest.raises(CannotDo, match=f"not safe: .*{why}"):
        await platform.hands.roll_back("bet-service", LOOPING)
    assert rollbacks.rolled_back_from(platform.live()) == ""


async def test_settings_are_rolled_back_whatever_is_stored(platform: Platform) -> None:
    """The same program runs: it knows what it has written."""
    await platform.fail(image=platform.image())
    bad = platform.live()["spec"]["template"]["spec"]["containers"][0]
    bad["env"].append({"name": "BETTING_LOG_LEVEL", "value": "nonsense"})
    platform.change(platform.deployment(), {"spec": {"template": {"spec": {"containers": [bad]}}}})
    platform.stored.append(Stored(frozenset(), {}, ()))
    await platform.hands.roll_back("bet-service", LOOPING)
    assert rollbacks.rolled_back_from(platform.live()) == "bad"


async def test_what_would_not_help_is_not_done(platform: Platform) -> None:
    """Nothing to go back to, nothing that differs, or nothing that goes back."""
    with pytest.raises(CannotDo, match="no other template was ever rolled out"):
        await platform.hands.roll_back("wallet-service", LOOPING)
    with pytest.raises(CannotDo, match="it has data of its version"):
        await platform.hands.roll_back("valkey", "")
    with pytest.raises(CannotDo, match="not found"):
        await platform.hands.roll_back("no-such-service", "")
    await platform.fail(image=platform.image())
    with pytest.raises(CannotDo, match="the template before does the same"):
        await platform.hands.roll_back("bet-service", LOOPING)


async def test_a_template_that_no_replica_set_has_cannot_be_gone_back_to(platform: Platform) -> None:
    await platform.fail()
    sets = f"/apis/apps/v1/namespaces/{platform.operator.namespace}/replicasets"
    platform.api.request("DELETE", f"{sets}/demo-bet-service-5d4f8c7b9")
    with pytest.raises(CannotDo, match="no ReplicaSet has it any more"):
        await platform.hands.roll_back("bet-service", LOOPING)


async def test_a_template_that_was_applied_meanwhile_is_not_the_one_that_crashed(platform: Platform) -> None:
    """A person has corrected the version: its pods are of another ReplicaSet than those that crashed."""
    before = await platform.fail()
    corrected = {"metadata": {"annotations": {TEMPLATE_ANNOTATION: "corrected"}}}
    platform.change(platform.deployment(), corrected | {"spec": {"template": corrected}})
    with pytest.raises(CannotDo, match=f"has template corrected by now: the pods of ReplicaSet {LOOPING} crashed"):
        await platform.hands.roll_back("bet-service", LOOPING)
    with pytest.raises(CannotDo, match="has template corrected by now"):
        await platform.hands.roll_back("bet-service", "")
    assert rollbacks.template_of(before) != "bad"
    assert rollbacks.rolled_back_from(platform.live()) == ""


async def test_bet_services_are_added_by_the_number_in_the_spec_and_the_operator_makes_them(
    platform: Platform,
) -> None:
    """Twice is once; the operator carries it out as it does for a person."""
    await platform.hands.scale("bet-service", 3)
    resource = platform.api.request("GET", platform.path)
    assert resource["spec"]["services"]["betService"]["replicas"] == 3
    await platform.hands.scale("bet-service", 3)
    again = platform.api.request("GET", platform.path)
    assert again["metadata"]["resourceVersion"] == resource["metadata"]["resourceVersion"]
    await platform.hands.scale("bet-service", 2)
    assert platform.api.request("GET", platform.path)["spec"] == resource["spec"], "it only ever adds"
    await platform.operator.round()
    assert (await platform.operator.objects())[Key("Deployment", "demo-bet-service")]["spec"]["replicas"] == 3


async def test_an_autoscaler_decides_alone(platform: Platform) -> None:
    scaling = {"spec": {"services": {"betService": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}}}}
    platform.change(platform.path, scaling)
    with pytest.raises(CannotDo, match="the autoscaler decides"):
        await platform.hands.scale("bet-service", 5)


async def test_other_workloads_are_not_scaled(platform: Platform) -> None:
    with pytest.raises(CannotDo, match=r"set spec\.services"):
        await platform.hands.scale("wallet-service", 3)
