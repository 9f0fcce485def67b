"""`kubectl betting` as a person runs it: the real kubectl, a real API server, the real command line in "pods"."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import kubelet
import psycopg
import pytest
import yaml
from exec_kubelet import NODE, ExecKubelet, exec_kubelet
from healing_scenes import recorded
from kube_api import KubeApi, KubeError
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, going_round
from plugin_runs import Run

from betting_operator.kubernetes.status import Healer

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "bettingplatforms.selfhealing.bet.yaml"
MONITOR = "demo-health-monitor-6d8f9c7b5d-x2lqm"
LEADER = "betting-operator-5c9f7d6b48-7k4zt"


RUNS = Healer(runs=True)


async def test_the_status_is_what_the_resource_says(run: Run, demo: str, operator: Operator) -> None:
    """With the exit code of a check; nothing but reading the resource is needed."""
    before = await run("status")
    assert (before.code, before.out) == (1, "demo: no operator has said anything about it yet\n")
    await operator.round()
    shown = await run("status", "-n", operator.namespace, "--platform", "demo")
    assert shown.code == 1, "it is not Ready"
    assert shown.out.splitlines()[0].split() == ["demo", "Installing", "no", "image", "yet"]
    assert "NotRunning" in shown.out
    found = json.loads((await run("status", "-o", "json")).out)
    assert (found["name"], found["namespace"], found["status"]["phase"]) == ("demo", operator.namespace, "Installing")


async def test_a_pause_is_set_and_ended_and_awaited(run: Run, kube_api: KubeApi, demo: str, operator: Operator) -> None:
    async with going_round(operator, RUNS):
        paused = await run("heal", "pause", "--reason", "network work")
        assert (paused.code, paused.err) == (0, "")
        assert paused.out == "healing is paused: network work (to end it: kubectl betting heal resume)\n"
        assert kube_api.request("GET", demo)["spec"]["healing"]["paused"] == "network work"
        dry = await run("heal", "dry-run", "on")
        assert dry.out == "dry run is on (to end it: kubectl betting heal dry-run off)\n"
        rest = await run("heal", "resume")
        assert rest.out == (
            "healing is no longer paused by the resource; still nothing is done: spec.healing.dryRun is true\n"
        )
        assert (await run("heal", "dry-run", "off")).out == "healing is on\n"
    spec = kube_api.request("GET", demo)["spec"]["healing"]
    assert (spec["paused"], spec["dryRun"]) == ("", False)


async def test_a_switch_that_nobody_takes_up_is_told(run: Run, kube_api: KubeApi, demo: str) -> None:
    """There is no operator; or its healer does not work."""
    alone = await run("heal", "pause", "--reason", "r", "--wait", "1")
    assert alone.code == 1
    assert "spec.healing of demo is changed, but its operator has not taken that up within 1 s" in alone.err
    unawaited = await run("heal", "resume", "--wait", "0")
    assert (unawaited.code, unawaited.err) == (0, "")
    assert "was not awaited" in unawaited.out


async def test_a_healer_that_does_not_work_is_told(run: Run, demo: str, operator: Operator) -> None:
    async with going_round(operator, Healer(ended="exit code 2: no such setting")):
        told = await run("heal", "pause", "--reason", "r")
    assert told.code == 1
    assert "the healer does not work now: Ended: nothing is healed: the healer ended with exit code 2" in told.err


async def test_an_operator_without_the_field_is_told_and_nothing_is_done(
    run: Run, kube_api: KubeApi, demo: str
) -> None:
    """Its definition is of an older release."""
    older = yaml.safe_load(CRD.read_text())
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields = schema["healing"]["properties"]
    for name in ("paused", "dryRun", "services"):
        del fields[name]
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{older['metadata']['name']}"
    current = kube_api.request("GET", path)
    replaced = copy.deepcopy(current) | {"spec": older["spec"]}
    kube_api.request("PUT", path, replaced)
    try:
        asked = f"{demo}?dryRun=All&fieldValidation=Strict"
        with suppress(KubeError):
            while True:  # the definition is in force a moment after it was written
                kube_api.request("PATCH", asked, {"spec": {"healing": {"dryRun": True}}}, MERGE)
        before = kube_api.request("GET", demo)
        refused = await run("heal", "pause", "--reason", "r")
        assert refused.code == 1
        assert "bettingplatforms of this cluster have no field spec.healing.paused" in refused.err
        assert "their operator is older than this plugin. Nothing was done." in refused.err
        assert kube_api.request("GET", demo) == before
    finally:
        kube_api.install([CRD])


async def test_a_cluster_without_the_kind_is_told_and_nothing_is_done(
    run: Run, kube_api: KubeApi, namespace: str
) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bettingplatforms.selfhealing.bet"
    kube_api.request("DELETE", path)
    try:
        while "has no bettingplatforms" not in (told := await run("heal", "pause", "--reason", "r")).err:
            assert told.code == 1
        assert "its operator is older than this plugin, or not installed. Nothing was done." in told.err
    finally:
        kube_api.install([CRD])


async def test_the_platform_that_is_meant_is_the_only_one_or_named(
    run: Run, kube_api: KubeApi, namespace: str, demo: str
) -> None:
    elsewhere = await run("status", "-n", "default")
    assert elsewhere.code == 1
    assert "there is no BettingPlatform in namespace default: give another with -n" in elsewhere.err
    second = kube_api.request("GET", demo)
    second["metadata"] = {"name": "other"}
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), second)
    several = await run("status")
    assert f"namespace {namespace} has demo, other: say which with --platform" in several.err
    assert (await run("status", "--platform", "other")).out.startswith("other: ")
    assert 'bettingplatforms.selfhealing.bet "third" not found' in (await run("status", "--platform", "third")).err


RIGHTS = [
    (["status"], "list", "bettingplatforms", "view"),
    (["heal", "pause", "--reason", "r", "--platform", "demo"], "get", "bettingplatforms", "view"),
]


@pytest.mark.parametrize(("words", "verb", "resource", "role"), RIGHTS)
async def test_a_right_that_is_missing_is_named_with_the_role_that_has_it(
    run: Run, kube_api: KubeApi, demo: str, namespace: str, words: list[str], verb: str, resource: str, role: str
) -> None:
    told = await run(*words, kubeconfig=kube_api.kubeconfig("nobody", namespace=namespace))
    assert told.code == 1
    assert f"you may not {verb} {resource} in namespace {namespace}" in told.err
    assert f"The chart's role {role} has this right." in told.err


@pytest.fixture
async def container(
    kube_api: KubeApi, namespace: str, demo: str, dsn: str, programs: Path, tmp_path: Path
) -> AsyncIterator[ExecKubelet]:
    """Pods of the health monitor and of the operator that leads, in which commands can be run."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BETTING_")},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BETTING_POSTGRES_DSN": dsn,
    }
    (tmp_path / "flight").mkdir()
    async with exec_kubelet(kube_api, environment, {"/tmp/flight": tmp_path / "flight"}) as found:
        leader = kubelet.pod("betting-operator", LEADER, platform="betting", nodeName=NODE)
        leader["metadata"]["labels"]["selfhealing.bet/leader"] = "true"
        leader["spec"]["containers"][0]["name"] = "operator"
        monitor = kubelet.pod("health-monitor", MONITOR, nodeName=NODE)
        pods = f"/api/v1/namespaces/{namespace}/pods"
        for pod in (leader, monitor):
            kube_api.request("POST", pods, pod)
            ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            path = f"{pods}/{pod['metadata']['name']}/status"
            kube_api.request("PATCH", path, {"status": ready}, "application/strategic-merge-patch+json")
        yield found


async def test_what_is_in_the_database_is_asked_in_the_pod_of_the_health_monitor(
    run: Run, container: ExecKubelet, person: Callable[[str], Path], namespace: str
) -> None:
    """By who may run commands there; the exit code is that of the command."""
    operate = person("operate")
    planned = await run("heal", "plan", "-n", namespace, kubeconfig=operate)
    assert (planned.code, planned.err) == (0, "")
    assert "healing is on" in planned.out
    assert container.commands == [(MONITOR, ["betting", "heal", "plan"])]
    assert (await run("heal", "log", "-n", namespace, kubeconfig=operate)).code == 0
    nothing = await run("thaw", "--all", "-n", namespace, kubeconfig=operate)
    assert (nothing.code, nothing.err) == (1, "betting: No shard is frozen or quarantined: nothing was done.\n")
    audited = await run("audit", "-o", "json", "-n", namespace, kubeconfig=operate)
    assert (audited.code, json.loads(audited.out)["holds"]) == (0, True)


async def test_a_shard_is_thawed_by_name(run: Run, container: ExecKubelet, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute("UPDATE betting.shards SET state = 'quarantined', reason = 'its books' WHERE shard_id = 2")
        thawed = await run("thaw", "2")
        [state] = database.execute("SELECT state FROM betting.shards WHERE shard_id = 2").fetchone() or ()
    assert (thawed.code, thawed.out) == (0, "shard 2 may be taken again; it had stopped because: its books\n")
    assert state == "free"
    assert container.commands == [(MONITOR, ["betting", "unfreeze", "2"])]


async def test_the_newest_flight_record_of_the_leader_is_replayed_here(
    run: Run, container: ExecKubelet, tmp_path: Path
) -> None:
    """What the healer has not written whole yet is left out."""
    none = await run("heal", "replay")
    assert none.code == 1
    assert f"the newest flight record of {LEADER} cannot be read" in none.err
    (tmp_path / "flight" / "flight-1.jsonl").write_text("{}\n")
    whole = "".join(f"{line}\n" for line in recorded())
    (tmp_path / "flight" / "flight-2.jsonl").write_text(whole + '{"cut')
    replayed = await run("heal", "replay")
    assert replayed.code == 0, replayed.err
    assert replayed.out == f"the newest flight record of {LEADER}: 2 ticks, 0 decided differently\n"


async def test_who_only_looks_runs_nothing_in_a_pod_and_changes_nothing(
    run: Run, kube_api: KubeApi, container: ExecKubelet, person: Callable[[str], Path], namespace: str, demo: str
) -> None:
    view = person("view")
    assert (await run("status", "-n", namespace, kubeconfig=view)).out.startswith("demo")
    told = await run("heal", "plan", "-n", namespace, kubeconfig=view)
    assert told.code == 1
    assert f"you may not create pods/exec in namespace {namespace}, which this command needs" in told.err
    assert "The chart's role operate has this right." in told.err
    paused = await run("heal", "pause", "--reason", "r", "-n", namespace, kubeconfig=view)
    assert f"you may not patch bettingplatforms in namespace {namespace}" in paused.err
    assert "The chart's role operate has this right." in paused.err
    assert container.commands == []
    assert kube_api.request("GET", demo)["spec"]["healing"]["paused"] == ""


async def test_what_pods_logged_about_a_request_is_shown_in_order_of_time(
    run: Run, container: ExecKubelet, person: Callable[[str], Path], namespace: str
) -> None:
    """By who may only look; a pod whose log cannot be read is named, and the others are shown."""

    def line(second: int, correlation_id: str) -> str:
        return json.dumps({"timestamp": f"2026-11-29T10:00:{second:02}Z", "correlation_id": correlation_id})

    container.logs["health-monitor"] = "\n".join([line(3, "a.1"), line(1, "a.1"), line(2, "a.12")]) + "\n"
    container.logs["operator"] = line(2, "a.1") + "\n"
    view = person("view")
    shown = await run("logs", "a.1", "-n", namespace, kubeconfig=view)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        f"{MONITOR}  {line(1, 'a.1')}",
        f"{LEADER}  {line(2, 'a.1')}",
        f"{MONITOR}  {line(3, 'a.1')}",
    ]
    del container.logs["operator"]
    partly = await run("logs", "a.12", "-n", namespace, kubeconfig=view)
    assert (partly.code, len(partly.out.splitlines())) == (0, 1)
    assert partly.err.startswith("left out: ")
    nothing = await run("logs", "b", "--since", "15m")
    assert nothing.code == 1
    assert "no line about b in the last 15m of 2 pods" in nothing.err


async def test_without_a_pod_that_is_ready_it_is_said_what_cannot_be_asked(run: Run, demo: str) -> None:
    told = await run("heal", "plan")
    assert (told.code, told.out) == (1, "")
    assert "no pod of health-monitor is ready: what is in the database cannot be asked now." in told.err


async def test_a_command_that_is_not_in_the_image_is_told(run: Run, container: ExecKubelet, programs: Path) -> None:
    (programs / "betting").unlink()
    container.environment = {**container.environment, "PATH": str(programs)}
    told = await run("heal", "plan")
    assert told.code == 1
    assert f"the command in pod {MONITOR} did not run to its end: " in told.err
    assert "No such file or directory: 'betting'" in told.err


async def test_an_api_server_that_is_away_is_told(run: Run, kube_api: KubeApi, namespace: str) -> None:
    nowhere = kube_api.kubeconfig(url="https://127.0.0.1:1", namespace=namespace)
    told = await run("status", kubeconfig=nowhere)
    assert told.code == 1
    assert told.err.startswith("kubectl betting: https://127.0.0.1:1: no answer from the API server")


CAN_I = {
    "view": {"get bettingplatforms", "list healingactions", "watch shardrebalances", "get pods/log", "list events"},
    "operate": {"get bettingplatforms", "patch bettingplatforms", "create pods/exec", "create shardrebalances"},
    "approve": {"get shardrebalances", "patch shardrebalances", "list bettingplatforms"},
}
CAN_NOT = {
    "view": {"patch bettingplatforms", "create pods/exec", "get pods/exec", "get secrets", "delete pods"},
    "operate": {"patch shardrebalances", "delete bettingplatforms", "get secrets", "delete pods", "create pods"},
    "approve": {"create shardrebalances", "patch bettingplatforms", "create pods/exec", "get secrets"},
}


@pytest.mark.parametrize("role", CAN_I)
def test_a_role_of_the_chart_has_its_rights_and_no_others(
    kube_api: KubeApi, kubectl: str, chart: Callable[..., list[dict[str, Any]]], namespace: str, role: str
) -> None:
    """By `kubectl auth can-i`, for a group that a value binds; in this namespace only."""
    subjects = json.dumps([{"kind": "Group", "name": "people"}])
    for each in chart(namespace, "--set-json", f"access.{role}={subjects}"):
        if each["kind"] in ("Role", "RoleBinding") and each["metadata"]["name"] == f"betting-{role}":
            plural, rbac = f"{each['kind'].lower()}s", "/apis/rbac.authorization.k8s.io/v1"
            kube_api.apply(f"{rbac}/namespaces/{namespace}/{plural}/betting-{role}", each)

    asked = (kubectl, f"--kubeconfig={kube_api.kubeconfig()}", "auth", "can-i", "--as=alice", "--as-group=people")

    def can(question: str, where: str) -> bool:
        verb, _, resource = question.partition(" ")
        plural, _, subresource = resource.partition("/")
        of = [f"--subresource={subresource}"] if subresource else []
        command = [*asked, f"--namespace={where}", verb, plural, *of]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"

    assert {each for each in CAN_I[role] if not can(each, namespace)} == set()
    assert {each for each in CAN_NOT[role] if can(each, namespace)} == set()
    assert not any(can(each, "default") for each in CAN_I[role])
