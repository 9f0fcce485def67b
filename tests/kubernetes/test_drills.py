"""Drills at a real API server: what is refused, what is deleted and how often, and what the status says of it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import kubelet
import prometheus_client
import pytest
import yaml
from drilled import DRILLS, LEADER, bound, create, driller, ending, gone, healed, look, path, pods, state, well
from kube_api import KubeApi, KubeError
from operator_rounds import MERGE, Operator, counted

from betting_operator.kubernetes.client import AwayError, Client, configuration
from betting_operator.kubernetes.drill_values import REQUEST_ANNOTATION, time_of
from betting_operator.kubernetes.drilling import Driller
from betting_operator.kubernetes.kinds import PLATFORMS, PODS
from betting_operator.kubernetes.watching import Watched, Watching

CRD = Path(__file__).resolve().parents[2] / "crds" / "bettingplatforms.selfhealing.bet.yaml"

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"budget": None}, "drills need a budget of harm: give budget.perDay"),
    ({"budget": {}}, "perDay: Required value"),
    ({"budget": {"perDay": 0}}, "spec.drills.budget.perDay"),
    ({"faults": None}, "spec.drills.faults: Required value"),
    ({"faults": []}, "spec.drills.faults"),
    ({"faults": [{"kind": "FreezeBetService"}]}, 'supported values: \\"DeleteBetService\\"'),
    ({"faults": [{"kind": "DeleteGateway"}] * 2}, "Duplicate value"),
    ({"faults": [{"kind": "DeleteGateway", "detectSeconds": 9, "repairSeconds": 3}]}, "detectSeconds must not be more"),
    ({"schedule": {"everyHours": 12}}, "schedule.everyHours asks for more drills than budget.perDay allows"),
    ({"schedule": {}}, "everyHours: Required value"),
    (
        {"schedule": {"everyHours": 3}, "budget": {"perDay": 8, "minutesBetween": 181}},
        "budget.minutesBetween is longer than schedule.everyHours",
    ),
    ({"schedule": {"everyHours": 24, "windows": [{"start": "25:00", "durationMinutes": 60}]}}, "windows[0].start"),
    ({"wellMinutes": 0}, "spec.drills.wellMinutes"),
]


@pytest.mark.parametrize(("more", "reason"), REFUSED, ids=[reason for _more, reason in REFUSED])
def test_drills_that_make_no_sense_are_refused_with_the_reason(
    kube_api: KubeApi, namespace: str, more: dict[str, Any], reason: str
) -> None:
    drills = {name: each for name, each in {**DRILLS, **more}.items() if each is not None}
    with pytest.raises(KubeError) as refused:
        create(kube_api, namespace, drills)
    assert refused.value.code == 422
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("redis", "accepted"),
    [
        (None, True),
        ({"managed": {}}, True),
        ({"managed": {"replicas": 1}}, False),
        ({"managed": {"replicas": 3}}, True),
        ({"external": {"urlSecret": {"name": "mine"}}}, False),
    ],
)
def test_redis_must_have_another_node_to_fail_over_to(
    kube_api: KubeApi, namespace: str, redis: dict[str, Any] | None, accepted: bool
) -> None:
    spec = {} if redis is None else {"redis": redis}
    drills = DRILLS | {"faults": [{"kind": "FailOverRedis"}]}
    if accepted:
        create(kube_api, namespace, drills, **spec)
        return
    with pytest.raises(KubeError, match=r"FailOverRedis needs redis\.managed with at least two replicas"):
        create(kube_api, namespace, drills, **spec)


def events(kube_api: KubeApi, namespace: str) -> set[str]:
    found = kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return {each["reason"] for each in found if each["involvedObject"]["name"] == "demo"}


def ask(kube_api: KubeApi, namespace: str, kind: str, nonce: str = "a1b2c3") -> str:
    """A request of a person."""
    asked = f"{kind}@{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{nonce}"
    kube_api.request("PATCH", path(namespace), {"metadata": {"annotations": {REQUEST_ANNOTATION: asked}}}, MERGE)
    return asked


async def test_a_drill_deletes_one_pod_and_reports_what_the_healer_measured(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    well(kube_api, namespace)
    async with driller(operator) as each:
        passed = _passed()
        assert await look(operator, each)
        running = state(kube_api, namespace)["running"]
        assert ending(kube_api, namespace) == [running["target"]]
        assert await look(operator, each)
        assert len(ending(kube_api, namespace)) == 1
        gone(kube_api, namespace, running["target"])
        healed(kube_api, namespace, running["target"], running["began"])
        assert not await look(operator, each)
        found = state(kube_api, namespace)
        assert "running" not in found
        [run] = found["runs"]
        measured = run["outcome"], run["detectedSeconds"], run["repairedSeconds"]
        assert measured == ("Passed", pytest.approx(0.5, abs=0.002), pytest.approx(0.9, abs=0.002))
        assert {"DrillBegan", "DrillPassed"} <= events(kube_api, namespace)
        await look(operator, each)
        text = prometheus_client.generate_latest().decode()
        assert 'betting_operator_drill_seconds{kind="DeleteBetService",what="repaired"} 0.9' in text
        assert _passed() == passed + 1
        assert 'betting_operator_drill_last_success_timestamp_seconds{kind="DeleteBetService"}' in text
        assert 'betting_operator_drill_named_timestamp_seconds{kind="DeleteBetService"}' in text
        assert "betting_operator_drills_suspended 0.0" in text
        kube_api.request("PATCH", path(namespace), {"spec": {"drills": None}}, MERGE)
        await look(operator, each)
        text = prometheus_client.generate_latest().decode()
        for name in ("last_success", "named"):
            assert f"betting_operator_drill_{name}_timestamp_seconds{{" not in text, "it would be overdue one day"


def _passed() -> float:
    labels = {"kind": "DeleteBetService", "outcome": "Passed"}
    return prometheus_client.REGISTRY.get_sample_value("betting_operator_drills_total", labels) or 0.0


async def test_at_rest_nothing_is_written(kube_api: KubeApi, namespace: str, operator: Operator) -> None:
    well(kube_api, namespace, {**DRILLS, "suspended": True})
    async with driller(operator) as each:
        await look(operator, each)
        found = state(kube_api, namespace)
        assert (sorted(found), found["next"]) == (["faults", "next"], "spec.drills.suspended is true")
        writes = counted(operator.client)
        for _round in range(3):
            await look(operator, each)
        assert writes == []
        assert ending(kube_api, namespace) == []


async def test_the_reconciler_keeps_what_drills_have_shown(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """Also where its watch has not told of that yet; and that there is something is no reason to write."""
    well(kube_api, namespace)
    async with driller(operator) as each:
        await look(operator, each)
        resources = list((await operator.client.list(PLATFORMS, namespace)).objects)
        running = state(kube_api, namespace)["running"]
        gone(kube_api, namespace, running["target"])
        healed(kube_api, namespace, running["target"], running["began"])
        await look(operator, each)
    before = state(kube_api, namespace)
    assert "running" not in before
    await operator.reconciler.reconcile(resources, await operator.objects())
    assert state(kube_api, namespace) == before
    await operator.restarted()
    await operator.round()
    assert kube_api.request("GET", path(namespace))["status"]["phase"] == "Installing"
    assert state(kube_api, namespace) == before
    await operator.restarted()
    writes = counted(operator.client)
    await operator.round()
    assert not [each for each in writes if each.endswith("/status")]


async def test_the_next_leader_aborts_what_the_last_one_has_left(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """And deletes nothing: the request was carried out, and the budget is used up."""
    well(kube_api, namespace)
    asked = ask(kube_api, namespace, "DeleteBetService")
    async with driller(operator) as each:
        await look(operator, each)
    target = state(kube_api, namespace)["running"]["target"]
    gone(kube_api, namespace, target)
    bound(kube_api, namespace, "demo-bet-service-6d8f9c7b5d-ddddd")
    async with driller(operator, "betting-operator/betting-operator-1@boot-2") as other:
        for _round in range(3):
            await look(operator, other)
    found = state(kube_api, namespace)
    [run] = found["runs"]
    assert (run["outcome"], run["request"]) == ("Aborted", asked)
    assert found["lastRequest"]["outcome"] == "Begun"
    assert ending(kube_api, namespace) == []


async def test_two_that_both_think_they_lead_begin_one_drill(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """Each has seen that none runs; what is written first is the only one, by its resourceVersion."""
    well(kube_api, namespace)
    resources = list((await operator.client.list(PLATFORMS, namespace)).objects)
    objects = await operator.objects()
    async with driller(operator) as one, driller(operator, "other") as two:
        get = operator.client.get

        async def get_before(*arguments: Any) -> Any:
            """The second one has read the platform before the first one writes."""
            found = await get(*arguments)
            if arguments[0] == PLATFORMS:
                operator.client.get = get  # type: ignore[method-assign]
                await one.round(resources, objects)
            return found

        operator.client.get = get_before  # type: ignore[method-assign]
        assert await two.round(resources, objects)
    assert state(kube_api, namespace)["running"]["operator"] == LEADER
    assert len(ending(kube_api, namespace)) == 1


async def test_a_pod_that_cannot_be_deleted_ends_the_drill_without_another_try(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    well(kube_api, namespace)
    async with driller(operator) as each:

        async def away(*_arguments: Any, **_more: Any) -> None:
            raise AwayError(0, "no answer from the API server")

        operator.client.delete = away  # type: ignore[method-assign]
        await look(operator, each)
        del operator.client.delete
        for _round in range(3):
            await look(operator, each)
        [run] = state(kube_api, namespace)["runs"]
        assert run["outcome"] == "Aborted"
        assert "no answer from the API server" in run["message"]
        assert ending(kube_api, namespace) == []


async def test_what_cannot_be_written_down_is_not_done(kube_api: KubeApi, namespace: str, operator: Operator) -> None:
    """The definition is of a release that has no status.drills: the API server drops it."""
    well(kube_api, namespace)
    older = yaml.safe_load(CRD.read_text("utf-8"))
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["drills"]
    crd_path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{older['metadata']['name']}"
    current = kube_api.request("GET", crd_path)
    kube_api.request("PUT", crd_path, current | {"spec": older["spec"]})
    try:
        tried = {"status": {"drills": {"next": "x"}}}
        async with asyncio.timeout(60):
            answer = kube_api.request("PATCH", f"{path(namespace)}/status?dryRun=All", tried, MERGE)
            while "drills" in answer["status"]:  # the definition is in force a moment after it was written
                answer = kube_api.request("PATCH", f"{path(namespace)}/status?dryRun=All", tried, MERGE)
                await asyncio.sleep(0.1)
        async with driller(operator) as each:
            for _round in range(3):
                await look(operator, each)
        assert ending(kube_api, namespace) == []
    finally:
        kube_api.install([CRD])


async def test_a_request_is_refused_with_the_reason_and_the_next_is_judged_anew(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    well(kube_api, namespace, {name: each for name, each in DRILLS.items() if name != "schedule"})
    async with driller(operator) as each:
        ask(kube_api, namespace, "FailOverRedis")
        await look(operator, each)
        refused = state(kube_api, namespace)["lastRequest"]
        assert (refused["outcome"], refused["message"]) == ("Refused", "spec.drills.faults does not name FailOverRedis")
        asked = ask(kube_api, namespace, "DeleteBetService", "d4e5f6")
        await look(operator, each)
        found = state(kube_api, namespace)
        assert found["lastRequest"] == {"request": asked, "outcome": "Begun", "drill": found["running"]["name"]}
        assert ending(kube_api, namespace) == [found["running"]["target"]]


async def test_the_leader_looks_by_itself(kube_api: KubeApi, namespace: str, operators_rights: Path) -> None:
    """With what its watch has: from the request to the end."""
    well(kube_api, namespace, {name: each for name, each in DRILLS.items() if name != "schedule"})
    read = partial(configuration, operators_rights)
    async with Client(read()) as client, asyncio.TaskGroup() as group, asyncio.timeout(60):
        watching = Watching(client, read, namespace, [Watched(PLATFORMS), Watched(PODS)], lambda _key: None)
        each = Driller(*(client, namespace, LEADER, "o"), rebalancing=lambda: False, healer_tells=lambda: True)
        tasks = [group.create_task(watching.run()), group.create_task(each.run(watching))]
        ask(kube_api, namespace, "DeleteBetService")
        while not ending(kube_api, namespace):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        running = state(kube_api, namespace)["running"]
        gone(kube_api, namespace, running["target"])
        healed(kube_api, namespace, running["target"], running["began"])
        while not (runs := state(kube_api, namespace).get("runs")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert [(run["target"], run["outcome"]) for run in runs] == [(running["target"], "Passed")]
        for task in tasks:
            task.cancel()


async def test_the_operators_own_pod_is_deleted_while_another_is_ready(
    kube_api: KubeApi, namespace: str, operators_rights: Path, operator: Operator
) -> None:
    """And the next leader reports how long it took."""
    drills = {**DRILLS, "faults": [{"kind": "DeleteOperator"}]}
    well(kube_api, namespace, drills)
    labels = {"app.kubernetes.io/name": "betting-operator"}
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    for name in ("betting-operator-0", "betting-operator-1"):
        async with driller(operator) as each:
            await look(operator, each)
        assert ending(kube_api, namespace) == [], "there are not two yet"
        pod = kubelet.pod("x", name)
        pod["metadata"]["labels"] = labels
        pod["spec"]["nodeName"] = "node-1"
        kube_api.request("POST", pods(namespace), pod)
        kube_api.request("PATCH", f"{pods(namespace)}/{name}/status", {"status": ready}, MERGE)
    async with driller(operator) as each:
        await look(operator, each)
    assert ending(kube_api, namespace) == ["betting-operator-0"]
    async with Client(configuration(operators_rights)) as client:
        next_ = Driller(
            *(client, namespace, "betting-operator/betting-operator-1@boot-1", "betting-operator-1"),
            rebalancing=lambda: False,
            healer_tells=lambda: True,
            wall_s=lambda: time.time() + 2,
        )
        await look(operator, next_)
    [run] = state(kube_api, namespace)["runs"]
    assert (run["kind"], run["outcome"]) == ("DeleteOperator", "Passed")
    assert 2 <= run["detectedSeconds"] <= run["repairedSeconds"] < 17
    assert run["began"] < time_of(time.time())
