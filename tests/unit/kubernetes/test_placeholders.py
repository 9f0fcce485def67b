"""A placeholder keeps every pod that could be elsewhere off a node, for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import kubelet
import platforms
import pytest

from betting_operator.kubernetes import placeholders
from betting_operator.kubernetes.manifests import INSTANCE_LABEL, MANAGED_BY_LABEL, NAME_LABEL
from betting_operator.kubernetes.reconcile import Observed, plan

NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
POD = kubelet.on_node(kubelet.pod("wallet-service", "demo-wallet-service-6c7d8f9b5d-z4k7m"))


def made(age_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """A placeholder on node-1 as the API server has it."""
    found = placeholders.placeholder("demo", "1", "node-1", POD, lost=more.pop("lost", False))
    created = (NOW - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found["metadata"] |= {"creationTimestamp": created, **more.pop("metadata", {})}
    return found | more


def test_it_keeps_off_every_deployment_and_job_of_its_platform_and_nothing_else() -> None:
    """Redis and Postgres can be nowhere else; what is not the platform's is not ours to keep off."""
    terms = made()["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [selector] = [term["labelSelector"] for term in terms]
    [expression] = selector["matchExpressions"]

    def kept_off(labels: dict[str, str]) -> bool:
        outside = labels[NAME_LABEL] in expression["values"]
        return selector["matchLabels"].items() <= labels.items() and not outside

    planned = plan(platforms.platform(), Observed({}), platforms.new_password).apply
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in planned if "template" in each.get("spec", {})]
    assert {each[NAME_LABEL] for each in pods if not kept_off(each)} == {"redis", "postgres"}
    assert len(pods) > 10
    other = {NAME_LABEL: "wallet-service", INSTANCE_LABEL: "other", MANAGED_BY_LABEL: "betting-operator"}
    operator = {NAME_LABEL: "betting-operator", INSTANCE_LABEL: "betting", MANAGED_BY_LABEL: "Helm"}
    assert not kept_off(other)
    assert not kept_off(operator)
    assert not kept_off(made()["metadata"]["labels"]), "a second one can be made"


def test_it_is_as_important_as_what_it_keeps_off() -> None:
    """A pod of higher priority would push it out, and run there."""
    beside = {**POD, "spec": {**POD["spec"], "priorityClassName": "betting"}}
    assert placeholders.placeholder("demo", "1", "node-1", beside, lost=False)["spec"]["priorityClassName"] == "betting"


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(made(601.0), id="its time is over"),
        pytest.param(made(status={"phase": "Succeeded"}), id="it has ended"),
        pytest.param(made(status={"phase": "Failed"}), id="its kubelet would not have it"),
    ],
)
def test_what_is_of_no_use_any_more_is_deleted(pod: dict[str, Any]) -> None:
    assert placeholders.keep_off([pod], NOW) == {}
    assert placeholders.over([pod], NOW) == [pod]


def test_one_that_is_being_deleted_keeps_nothing_off_and_is_not_deleted_again() -> None:
    pod = made(metadata={"deletionTimestamp": "2026-11-29T12:00:00Z"})
    assert placeholders.keep_off([pod], NOW) == {}
    assert placeholders.over([pod], NOW) == []


def test_for_how_long_a_node_is_kept_free_says_the_latest() -> None:
    assert placeholders.keep_off([made(500.0), made(100.0)], NOW) == {"node-1": 500.0}


def test_a_lost_node_that_is_back_takes_pods_again_after_a_minute() -> None:
    """Its kubelet has taken note of the placeholder. A bad node is not better for that."""
    heard = {"phase": "Running", "startTime": "2026-11-29T11:59:30Z"}
    assert placeholders.keep_off([made(61.0, lost=True, status=heard)], NOW) == {}
    assert placeholders.keep_off([made(59.0, lost=True, status=heard)], NOW) == {"node-1": 1.0}
    assert placeholders.keep_off([made(61.0, lost=True)], NOW) == {"node-1": 539.0}
    assert placeholders.keep_off([made(61.0, status=heard)], NOW) == {"node-1": 539.0}


def on(node: str, *, lost: bool = False) -> dict[str, Any]:
    """A placeholder there."""
    found = made(30.0, lost=lost)
    return found | {"spec": {**found["spec"], "nodeName": node}}


FULL = "that leaves {} of 3 nodes, {} are kept free already"


@pytest.mark.parametrize(
    ("there", "node", "lost", "why_not"),
    [
        pytest.param([], "a", False, "", id="the first one"),
        pytest.param([on("a")], "b", False, FULL.format(1, 1), id="a second bad one"),
        pytest.param([on("a")], "a", False, "", id="the same again"),
        pytest.param([on("a", lost=True)], "b", False, "", id="bad, soon after another one was lost"),
        pytest.param([on("a")], "b", True, "", id="lost, soon after another one was bad"),
        pytest.param([on("a"), on("b", lost=True)], "c", True, FULL.format(0, 2), id="the last one"),
    ],
)
def test_the_platform_has_to_fit_on_what_is_left(
    there: list[dict[str, Any]], node: str, lost: bool, why_not: str
) -> None:
    """Of three nodes one bad one is kept free. One that is lost has no room anyway, and does not count."""
    assert placeholders.why_not(there, NOW, node, ("a", "b", "c"), lost=lost) == why_not
