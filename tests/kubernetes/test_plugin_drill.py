"""`kubectl betting drill`: the real kubectl and API server, with the operator's own loop."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from drilled import DRILLS, bound, driller, ending, gone, healed, look, path, state, well
from kube_api import KubeApi
from operator_rounds import MERGE, Operator
from plugin_runs import Run

from betting_operator.kubernetes.drill_values import REQUEST_ANNOTATION

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "bettingplatforms.selfhealing.bet.yaml"
BY_HAND = {name: each for name, each in DRILLS.items() if name != "schedule"}


@asynccontextmanager
async def operated(kube_api: KubeApi, operator: Operator, *, repaired: bool = True) -> AsyncIterator[None]:
    """The operator looks again and again; a pod that it deletes is gone at once, and its shards taken over."""

    async def go_round() -> None:
        async with driller(operator) as each:
            while True:
                await look(operator, each)
                running = state(kube_api, operator.namespace).get("running")
                if running and running["target"] in ending(kube_api, operator.namespace):
                    gone(kube_api, operator.namespace, running["target"])
                    if repaired:
                        healed(kube_api, operator.namespace, running["target"], running["began"])
                await asyncio.sleep(0.1)

    task = asyncio.create_task(go_round())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def asked(kube_api: KubeApi, namespace: str) -> str:
    """The annotation with the request."""
    found: str = kube_api.request("GET", path(namespace))["metadata"].get("annotations", {}).get(REQUEST_ANNOTATION, "")
    return found


async def test_a_drill_is_run_and_its_result_shown_with_the_role_for_that(
    run: Run, kube_api: KubeApi, namespace: str, operator: Operator, person: Callable[[str], Path]
) -> None:
    well(kube_api, namespace, BY_HAND)
    async with operated(kube_api, operator):
        ended = await run("drill", "run", "DeleteBetService", kubeconfig=person("operate"))
    assert ended.code == 0, ended.err
    first, *rest = ended.out.splitlines()
    assert first.endswith("DeleteBetService deletes demo-bet-service-6d8f9c7b5d-bbbbb")
    assert "Passed" in rest[-1]
    assert "0.5 of 3 s" in rest[-1]
    assert "0.9 of 4 s" in rest[-1]
    listed = await run("drill", "list", kubeconfig=person("view"))
    assert listed.code == 0
    assert "Passed" in listed.out
    as_json = await run("drill", "list", "-o", "json")
    assert json.loads(as_json.out)["runs"][0]["request"] == asked(kube_api, namespace)


async def test_what_has_missed_its_objective_ends_with_exit_code_1(
    run: Run, kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """And the next one is refused until a person has looked into it; nothing is deleted for that."""
    slow = {**BY_HAND, "budget": {"perDay": 5, "minutesBetween": 5}}
    well(kube_api, namespace, {**slow, "faults": [{"kind": "DeleteBetService"}]})
    task = None
    async with operated(kube_api, operator, repaired=False):
        task = asyncio.create_task(run("drill", "run", "DeleteBetService", "-o", "json"))
        async with asyncio.timeout(60):
            while not (running := state(kube_api, namespace).get("running")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        healed(kube_api, namespace, running["target"], _earlier(running["began"], -8))
        ended = await task
        assert ended.code == 1
        assert json.loads(ended.out)["outcome"] == "Missed"
        bound(kube_api, namespace, "demo-bet-service-6d8f9c7b5d-ddddd")
        again = await run("drill", "run", "DeleteBetService")
    assert again.code == 1
    assert "missed its objectives" in again.err
    assert again.err.endswith("Nothing was done.\n")
    assert ending(kube_api, namespace) == []


def _earlier(time: str, by_s: float) -> str:
    from betting_operator.kubernetes.drill_values import seconds_of, time_of

    return time_of(seconds_of(time) - by_s)


async def test_what_cannot_begin_is_refused_with_the_reason_and_nothing_is_done(
    run: Run, kube_api: KubeApi, namespace: str, operator: Operator, person: Callable[[str], Path]
) -> None:
    well(kube_api, namespace, BY_HAND)
    unknown = await run("drill", "run", "FreezeBetService")
    assert unknown.code == 1
    assert "spec.drills.faults of demo has DeleteBetService, not FreezeBetService. Nothing was done." in unknown.err
    viewer = await run("drill", "run", "DeleteBetService", kubeconfig=person("view"))
    assert "you may not patch bettingplatforms" in viewer.err
    assert "The chart's role operate has this right." in viewer.err
    assert asked(kube_api, namespace) == ""
    shards = {"status": {"activeDiagnoses": [{"kind": "overloaded", "target": "x"}]}}
    kube_api.request("PATCH", f"{path(namespace)}/status", shards, MERGE)
    async with operated(kube_api, operator):
        unwell = await run("drill", "run", "DeleteBetService")
    assert unwell.code == 1
    assert unwell.err == "kubectl betting: refused: overloaded x is diagnosed now. Nothing was done.\n"
    assert ending(kube_api, namespace) == []


async def test_a_request_that_no_operator_takes_up_is_taken_back(
    run: Run, kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """It would begin when nobody expects it any more."""
    well(kube_api, namespace, BY_HAND)
    ended = await run("drill", "run", "DeleteBetService", "--wait", "1")
    assert ended.code == 1
    assert "has not taken the request up within 1 s" in ended.err
    assert asked(kube_api, namespace) == ""
    async with driller(operator) as each:
        await look(operator, each)
    assert ending(kube_api, namespace) == []


async def test_a_platform_without_drills_and_a_cluster_that_is_older_are_told_apart(
    run: Run, kube_api: KubeApi, demo: str
) -> None:
    without = await run("drill", "run", "DeleteBetService")
    assert without.code == 1
    assert "demo has no spec.drills" in without.err
    listed = await run("drill", "list")
    assert listed.out == "demo has no spec.drills: nothing is injected\n"
    older = yaml.safe_load(CRD.read_text("utf-8"))
    known = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del known["properties"]["drills"], known["x-kubernetes-validations"]
    crd_path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{older['metadata']['name']}"
    current = kube_api.request("GET", crd_path)
    kube_api.request("PUT", crd_path, copy.deepcopy(current) | {"spec": older["spec"]})
    try:
        async with asyncio.timeout(60):
            ended = await run("drill", "run", "DeleteBetService")
            while "have no field" not in ended.err:  # the API server takes the other definition up later
                ended = await run("drill", "run", "DeleteBetService")
    finally:
        kube_api.install([CRD])
    assert "have no field spec.drills: their operator is older than this plugin. Nothing was done." in ended.err
    assert REQUEST_ANNOTATION not in kube_api.request("GET", demo)["metadata"].get("annotations", {})
