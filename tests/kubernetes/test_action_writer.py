"""What the healer tells on Kubernetes: HealingActions, Events and the status, with the rights of the chart."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kube_api import KubeApi, KubeError
from operator_rounds import MERGE, Operator, counted

from betting.life import Life
from betting_operator.healer import action_writer
from betting_operator.healer.action_writer import ActionWriter
from betting_operator.healer.history import Entry, Number, Outcome, Repaired
from betting_operator.healing.causes import Target
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.kubernetes import healing_actions, healing_report
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.kinds import PLATFORMS
from betting_operator.kubernetes.main import report_of
from betting_operator.kubernetes.status import Healer

HEALER = Life("healer", "betting-operator-0", "boot-1")
TIMEOUT_S = 60.0
POD = "demo-bet-service-6d8f9c7b5d-x2lqm"
BEGAN_US = int(time.time()) * 1_000_000


def entry(number: int = 0, **more: Any) -> Entry:
    """A bet-service that died was marked dead."""
    at_us = BEGAN_US + number * 1_000_000
    found = Entry(
        number=Number(at_us, 0),
        term=7,
        diagnosis=Kind.OWNER_DIED,
        about=f"{POD}@boot-9",
        certainty=Certainty.CONFIRMED,
        evidence=("exit seen: killed by SIGKILL",),
        evidence_us=at_us - 300_000,
        target=Target(POD, "bet-service", POD, "boot-9"),
        action="MarkDead",
        decision=f"mark dead {POD}@boot-9: others may take its shards",
        reason="its life is marked dead; others take its shards at once; it is not killed",
        outcome=Outcome.DONE,
        message="done",
        began_us=at_us,
        ended_us=at_us + 4_000,
    )
    return replace(found, **more)


@asynccontextmanager
async def writing(kubeconfig: Path, namespace: str, life: Life = HEALER) -> AsyncIterator[ActionWriter]:
    """A writer that runs for as long as the block lasts."""
    writer = ActionWriter(Client(configuration(kubeconfig), timeout_s=1.0), namespace, "demo", life)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await writer.close()


def path(namespace: str, name: str = "") -> str:
    return healing_actions.HEALING_ACTIONS.path(namespace, name)


async def until(kube_api: KubeApi, namespace: str, expected: list[str]) -> list[dict[str, Any]]:
    """Returns the objects once they have these names."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            items: list[dict[str, Any]] = []
            with suppress(KubeError):  # it begins to serve before it can read what is stored
                items = (await asyncio.to_thread(kube_api.request, "GET", path(namespace)))["items"]
            if sorted(each["metadata"]["name"] for each in items) == sorted(expected):
                return items
            await asyncio.sleep(0.05)


async def drained(writer: ActionWriter) -> None:
    """Returns once nothing is queued."""
    async with asyncio.timeout(TIMEOUT_S):
        while writer._queue:  # noqa: ASYNC110  (a request)
            await asyncio.sleep(0.02)


def kubectl_lines(kube_api: KubeApi, kubectl: str, namespace: str, *arguments: str) -> list[str]:
    """What kubectl prints."""
    command = [kubectl, "--kubeconfig", str(kube_api.kubeconfig()), "--namespace", namespace, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


async def events_of(kube_api: KubeApi, namespace: str, count: int) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind of the object and reason, once there are so many."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            request = (kube_api.request, "GET", f"/api/v1/namespaces/{namespace}/events")
            found = (await asyncio.to_thread(*request))["items"]
            if len(found) >= count:
                return {(each["involvedObject"]["kind"], each["reason"]): each for each in found}
            await asyncio.sleep(0.05)


def name(number: int) -> str:
    return healing_actions.name_of("demo", BEGAN_US + number * 1_000_000, 0)


def make_pod(kube_api: KubeApi, namespace: str) -> None:
    container = {"name": "bet-service", "image": "none"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": {"containers": [container]}}
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)


async def test_an_action_is_an_object_with_events_and_reads_like_a_story(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path, kubectl: str
) -> None:
    make_pod(kube_api, namespace)
    place = entry(
        1, action="Place", target=Target("shards 2, 3", "bet-service", shards=(2, 3)), decision="place shards"
    )
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(0))
        writer.happened(place)
        writer.happened(Repaired(Kind.OWNER_DIED, entry().about, (entry(0).number, place.number), BEGAN_US, 1_240))
        events = await events_of(kube_api, namespace, 4)
        found = await until(kube_api, namespace, [name(0), name(1)])
    first = next(each for each in found if each["metadata"]["name"] == name(0))
    assert first["metadata"]["ownerReferences"][0]["uid"] == kube_api.request("GET", demo)["metadata"]["uid"]
    assert first["spec"]["target"] == {"name": POD, "workload": "bet-service", "instance": POD, "bootId": "boot-9"}
    assert first["spec"]["evidence"] == ["exit seen: killed by SIGKILL"]
    assert (first["spec"]["term"], first["spec"]["healer"]) == (7, str(HEALER))
    assert (first["status"]["outcome"], first["status"]["timeToRepair"]) == ("Done", "1.2s")
    assert set(events) == {
        ("BettingPlatform", "MarkDead"),
        ("Pod", "MarkDead"),
        ("BettingPlatform", "Place"),
        ("BettingPlatform", "Repaired"),
    }
    assert events["Pod", "MarkDead"]["message"] == (
        f"owner-died: mark dead {POD}@boot-9: others may take its shards: done ({name(0)})"
    )
    assert events["BettingPlatform", "Repaired"]["message"] == f"owner-died {POD}@boot-9 is over after 1.2s"
    lines = await asyncio.to_thread(kubectl_lines, kube_api, kubectl, namespace, "get", "ha")
    assert " ".join(lines[0].split()) == "NAME AGE DIAGNOSIS TARGET ACTION OUTCOME DURATION REPAIRED"
    assert [line.split()[2:] for line in lines[1:]] == [
        ["owner-died", POD, "MarkDead", "Done", "4ms", "1.2s"],
        ["owner-died", "shards", "2,", "3", "Place", "Done", "4ms", "1.2s"],
    ]


async def test_what_a_healer_did_does_not_change_afterwards(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(0))
        await until(kube_api, namespace, [name(0)])
    with pytest.raises(KubeError, match="does not change afterwards"):
        kube_api.request("PATCH", path(namespace, name(0)), {"spec": {"term": 8}}, MERGE)


@pytest.mark.parametrize("killed", [False, True], ids=["it hangs", "it is killed"])
async def test_while_the_api_server_is_away_the_healer_does_not_wait_and_afterwards_all_is_written(
    kube_api: KubeApi,
    demo: str,
    namespace: str,
    operators_rights: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,
) -> None:
    """In order; what does not fit into the queue is left out, the oldest first."""
    monkeypatch.setattr(action_writer, "RETRY_MIN_S", 0.05)
    monkeypatch.setattr(action_writer, "QUEUED_MAX", 6)
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(0))
        await until(kube_api, namespace, [name(0)])
        if killed:
            kube_api.kill()
        else:
            kube_api.pause()
        for number in range(1, 10):
            writer.happened(entry(number))
        assert len(writer._queue) == 6
        if killed:
            kube_api.restart()
        else:
            kube_api.resume()
        found = await until(kube_api, namespace, [name(number) for number in (0, *range(4, 10))])
    versions = {each["metadata"]["name"]: int(each["metadata"]["resourceVersion"]) for each in found}
    assert sorted(versions, key=lambda each: versions[each]) == sorted(versions)


async def test_a_write_whose_answer_was_lost_is_made_once(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """The same entry again, as after an answer that never came: one object, an event that is counted once."""
    for _time in range(2):
        async with writing(operators_rights, namespace) as writer:
            writer.happened(entry(0))
            await drained(writer)
    await until(kube_api, namespace, [name(0)])
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(1))
        await until(kube_api, namespace, [name(0), name(1)])
        await drained(writer)
    events = await events_of(kube_api, namespace, 1)
    assert {each: event["count"] for each, event in events.items()} == {("BettingPlatform", "MarkDead"): 2}


async def test_a_former_leader_writes_nothing(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """The Lease names another pod: what is in its queue is for nobody, the present leader writes its own."""
    lease = {"metadata": {"name": "betting-operator"}, "spec": {"holderIdentity": "betting-operator-1@boot-2"}}
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    kube_api.request("POST", leases, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})
    async with (
        writing(operators_rights, namespace) as former,
        writing(operators_rights, namespace, Life("healer", "betting-operator-1", "boot-3")) as present,
    ):
        former.happened(entry(0))
        await drained(former)
        present.happened(entry(1, term=8))
        [found] = await until(kube_api, namespace, [name(1)])
    assert found["spec"]["term"] == 8


async def test_nothing_is_written_for_a_platform_that_is_gone(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    platform = kube_api.request("GET", demo)
    kube_api.request("DELETE", demo)
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(0))
        await drained(writer)
        kept = ("name", "namespace")
        metadata = {key: platform["metadata"][key] for key in kept}
        kube_api.request("POST", demo.rpartition("/")[0], platform | {"metadata": metadata})
        writer.happened(entry(1))
        [found] = await until(kube_api, namespace, [name(1)])
    assert found["metadata"]["ownerReferences"][0]["uid"] != platform["metadata"]["uid"]


async def test_only_the_newest_200_are_kept(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """Those of the healers before count; somebody else's objects do not."""
    platform = kube_api.request("GET", demo)
    spec, status = action_writer._fields(entry(), HEALER)
    for number in range(203):
        made = healing_actions.manifest(platform, name(number), spec, status)
        kube_api.request("POST", f"{path(namespace)}?fieldValidation=Strict", made)
    other = healing_actions.manifest(platform, "demo-0", spec, status)
    other["metadata"]["labels"] = {}
    kube_api.request("POST", path(namespace), other)
    async with writing(operators_rights, namespace) as writer:
        await until(kube_api, namespace, ["demo-0", *(name(number) for number in range(3, 203))])
        writer.happened(entry(203))
        await until(kube_api, namespace, ["demo-0", *(name(number) for number in range(4, 204))])


async def test_what_is_forbidden_is_written_once_it_is_granted(
    kube_api: KubeApi, demo: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Role of an older chart: the healer goes on, and nothing is lost that fits into the queue."""
    monkeypatch.setattr(action_writer, "REFUSED_RETRY_S", 0.1)
    kubeconfig = kube_api.service_account(namespace, "healer")
    async with writing(kubeconfig, namespace) as writer:
        writer.happened(entry(0))
        async with asyncio.timeout(TIMEOUT_S):
            while not writer._failures._failures:  # noqa: ASYNC110  (a request)
                await asyncio.sleep(0.02)
        assert len(writer._queue) == 1
        rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        await asyncio.to_thread(kube_api.service_account, namespace, "healer", [rule])
        await until(kube_api, namespace, [name(0)])


async def test_what_the_schema_refuses_is_left_out_and_the_rest_is_written(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    async with writing(operators_rights, namespace) as writer:
        writer.happened(entry(0, term="seven"))
        writer.happened(entry(1))
        await until(kube_api, namespace, [name(1)])


async def test_the_status_tells_what_the_healer_reports_and_nothing_is_written_at_rest(
    kube_api: KubeApi, demo: str, namespace: str, operator: Operator, kubectl: str
) -> None:
    """Also to a person who describes it; a round without a report keeps what is known and drops what is not."""
    report: healing_report.Report = {
        "term": 1,
        "activeDiagnoses": [
            {
                "kind": "database-away",
                "target": "postgres",
                "certainty": "confirmed",
                "severity": "page",
                "since": "2026-01-01T00:00:00Z",
                "message": "Postgres does not answer (away)",
            }
        ],
        "lastFailovers": [
            {"from": "demo-redis-0", "to": "demo-redis-1", "epoch": 2, "ended": "2026-01-01T00:00:00Z", "seconds": 2.5}
        ],
        "meanTimeToRepair": [healing_report.repair("owner-died", 0.72, "2026-01-01T00:00:00Z")],
        "lastAction": {"action": "Kill", "target": POD, "outcome": "Done", "ended": "2026-01-01T00:00:00Z"},
    }
    operator.reconciler.heal = lambda _platform, _objects: Healer(runs=True, report=report)
    await operator.round()
    status = kube_api.request("GET", demo)["status"]
    assert {each: status[each] for each in report if each != "term"} == {
        each: value for each, value in report.items() if each != "term"
    }
    described = await asyncio.to_thread(kubectl_lines, kube_api, kubectl, namespace, "describe", "bp", "demo")
    text = [" ".join(line.split()) for line in described]
    for line in ("Active Diagnoses:", "Kind: database-away", "Mean Seconds: 0.72", "Seconds: 2.5"):
        assert line in text, described
    operator.reconciler.now_s = lambda: time.monotonic() + 60  # as far as the rule of five seconds goes
    await operator.round()
    writes = counted(operator.client)
    await operator.round()
    assert not [each for each in writes if each.endswith("/status")]
    await operator.reconciler.unlisted(list((await operator.client.list(PLATFORMS, namespace)).objects), ["pods: why"])
    status = kube_api.request("GET", demo)["status"]
    assert "activeDiagnoses" not in status, "nobody knows"
    assert status["lastFailovers"] == report["lastFailovers"]
    operator.reconciler.heal = lambda _platform, _objects: Healer(ended="exit code 1")
    await operator.round()
    status = kube_api.request("GET", demo)["status"]
    assert "activeDiagnoses" not in status
    assert status["meanTimeToRepair"] == report["meanTimeToRepair"]


class Running(HealerProcess):
    """One whose process runs, as far as anybody can tell."""

    running = True


def test_a_report_is_read_while_its_healer_runs_and_is_whole(tmp_path: Path) -> None:
    """It may be from the healer before, or half a file of a full disk."""
    file = tmp_path / healing_report.FILE
    assert report_of(Running(), file) is None
    file.write_text('{"term": 3}')
    assert report_of(HealerProcess(), file) is None
    assert report_of(Running(), file) == {"term": 3}
    file.write_bytes(b'{"term": \xff')
    assert report_of(Running(), file) is None
