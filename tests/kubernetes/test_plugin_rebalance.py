"""`kubectl betting rebalance`: with the operator's own loop, a real API server and shards in a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from kube_api import KubeApi
from plugin_runs import Run
from rebalanced import rebalanced

from betting.life import Life

ROOT = Path(__file__).resolve().parents[2]
NAME = "shardrebalances.selfhealing.bet"
A, B = (f"demo-bet-service-6d8f9c7b5d-{letter * 5}" for letter in "bc")
PATH = "/apis/selfhealing.bet/v1alpha1/namespaces/{}/shardrebalances"


@pytest.fixture
async def operated(operators_rights: Path, namespace: str, dsn: str) -> AsyncIterator[None]:
    """An operator that looks after ShardRebalances, which need approval; both shards of two bet-services are on one."""
    async with rebalanced(operators_rights, namespace, dsn, (A, B)):
        yield


def there(kube_api: KubeApi, namespace: str) -> list[dict[str, Any]]:
    """All ShardRebalances, the one of the operator's own proposal left out."""
    found: list[dict[str, Any]] = kube_api.request("GET", PATH.format(namespace))["items"]
    return [each for each in found if each["spec"]["reason"] != "the operator's"]


async def proposed(run: Run, **more: Any) -> dict[str, Any]:
    """A proposal to empty the first bet-service, with its plan."""
    ended = await run("rebalance", "propose", "--drain", A, "--reason", "a larger machine", "-o", "json", **more)
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


async def test_a_plan_is_proposed_by_one_and_approved_by_another(
    run: Run, kube_api: KubeApi, namespace: str, demo: str, operated: None, person: Callable[[str], Path]
) -> None:
    """With just the roles for that; each of them may not do what the other does."""
    operate, approve = person("operate"), person("approve")
    found = await proposed(run, kubeconfig=operate)
    name, plan = found["name"], found["plan"]["hash"]
    assert (found["phase"], len(found["plan"]["moves"])) == ("AwaitingApproval", 4)
    own = await run("rebalance", "approve", name, "--plan", plan, kubeconfig=operate)
    assert "you may not patch shardrebalances" in own.err
    assert "The chart's role approve has this right." in own.err
    other = await run("rebalance", "propose", kubeconfig=approve)
    assert "you may not create shardrebalances" in other.err
    approved = await run("rebalance", "approve", name, "--plan", plan, kubeconfig=approve)
    assert (approved.code, approved.out) == (0, f"plan {plan} of {name} is approved\n")
    [made] = [each for each in there(kube_api, namespace) if each["metadata"]["name"] == name]
    assert made["spec"] == {
        "platform": "demo",
        "drain": [A],
        "reason": "a larger machine",
        "approval": plan,
        "stop": False,
    }


async def test_a_proposal_is_shown_with_its_moves_its_cost_and_how_to_approve_it(
    run: Run, demo: str, operated: None
) -> None:
    shown = await run("rebalance", "propose", "--drain", A)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert "AwaitingApproval" in lines[0]
    assert f"0      {A}  {B}" in lines
    assert any(line.startswith("cost: 4 shards, ") for line in lines)
    assert lines[-1].startswith("to approve it: kubectl betting rebalance approve demo-")


async def test_a_plan_that_nobody_has_seen_is_not_approved(
    run: Run, kube_api: KubeApi, namespace: str, demo: str, operated: None
) -> None:
    """Neither one that has changed since, nor whatever there is when nobody can be asked."""
    found = await proposed(run)
    old = await run("rebalance", "approve", found["name"], "--plan", "0123456789ab")
    assert old.code == 1
    assert f"the plan of {found['name']} is {found['plan']['hash']} now, not 0123456789ab" in old.err
    assert "Nothing was done." in old.err
    unnamed = await run("rebalance", "approve", found["name"])
    assert unnamed.code == 2
    assert f"say which plan you have seen: --plan {found['plan']['hash']}. Nothing was done." in unnamed.err
    assert [each["spec"]["approval"] for each in there(kube_api, namespace)] == [""]


async def test_what_has_ended_is_neither_approved_nor_stopped(
    run: Run, kube_api: KubeApi, namespace: str, demo: str, operated: None
) -> None:
    found = await proposed(run)
    stopped = await run("rebalance", "stop", found["name"])
    said = f"{found['name']} is stopped: no further move begins, and its pods may own shards again\n"
    assert (stopped.code, stopped.out) == (0, said)
    path = f"{PATH.format(namespace)}/{found['name']}"
    while kube_api.request("GET", path)["status"]["phase"] != "Stopped":  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    for words in (["approve", found["name"], "--plan", found["plan"]["hash"]], ["stop", found["name"]]):
        told = await run("rebalance", *words)
        assert told.code == 1
        assert f"{found['name']} is Stopped" in told.err
        assert "any more. Nothing was done." in told.err


async def test_pods_that_were_emptied_may_own_shards_again_once_their_rebalance_is_stopped(
    run: Run, kube_api: KubeApi, namespace: str, demo: str, operated: None, dsn: str
) -> None:
    """It keeps them empty also after it is done; a second stop says that there is nothing to stop."""
    found = await proposed(run)
    await run("rebalance", "approve", found["name"], "--plan", found["plan"]["hash"])
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE betting.shards SET owner = $1, desired_owner = $1", str(Life("bet-service", B, "1"))
    )
    await connection.close()
    path = f"{PATH.format(namespace)}/{found['name']}"
    while kube_api.request("GET", path)["status"]["phase"] != "Done":  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert (await run("rebalance", "stop", found["name"])).code == 0
    assert kube_api.request("GET", path)["spec"]["stop"] is True
    assert "is Done" in (await run("rebalance", "stop", found["name"])).err


async def test_a_proposal_that_cannot_be_is_refused_with_the_reason(run: Run, demo: str, operated: None) -> None:
    told = await run("rebalance", "propose", "--drain", "nobody")
    assert told.code == 1
    assert "Refused" in told.out
    wrong = await run("rebalance", "propose", "--drain", "No Pod")
    assert wrong.code == 1
    assert "spec.drain[0]" in wrong.err
    missing = await run("rebalance", "approve", "nothing", "--plan", "0123456789ab")
    assert 'shardrebalances.selfhealing.bet "nothing" not found' in missing.err


async def test_a_proposal_without_an_operator_has_no_plan(run: Run, demo: str) -> None:
    told = await run("rebalance", "propose", "--wait", "1")
    assert told.code == 1
    assert "has no plan within 1 s: is the operator running?" in told.err


async def test_an_older_operator_without_the_kind_is_told(run: Run, kube_api: KubeApi, demo: str) -> None:
    kube_api.request("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}")
    try:
        while "has no shardrebalances" not in (told := await run("rebalance", "propose", "--wait", "0")).err:
            assert told.code == 1
        assert "its operator is older than this plugin, or not installed. Nothing was done." in told.err
    finally:
        kube_api.install([ROOT / "crds" / f"{NAME}.yaml"])
