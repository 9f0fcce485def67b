"""What the leader runs: rounds of reconciliation for as long as it leads, and the healer beside them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import platforms
import pytest
from kube_api import KubeApi
from operator_rounds import MERGE, PLATFORMS_PATH, Operator, condition, make_secret

from betting_operator.healing.policy import Policy
from betting_operator.kubernetes import main
from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.elector import NotLeadingError
from betting_operator.kubernetes.healer_process import HealerProcess
from betting_operator.kubernetes.kinds import PODS
from betting_operator.kubernetes.main import _reconcile, healing
from betting_operator.kubernetes.reconcile import KINDS
from betting_operator.kubernetes.reconciler import PLATFORMS, Reconciler
from betting_operator.kubernetes.settings import OperatorSettings
from betting_operator.kubernetes.watching import Watched, Watching


class NotedHealer(HealerProcess):
    """Remembers what was wanted of it; nobody runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[Mapping[str, str] | None] = []

    def want(self, environment: Mapping[str, str] | None, policy: Policy | None = None) -> None:
        self.wanted.append(environment)
        super().want(environment, policy)


async def test_the_healer_of_a_platform_with_external_databases_gets_their_addresses(
    kube_api: KubeApi, namespace: str, operator: Operator
) -> None:
    """Their Secrets are not ours and do not have our labels."""
    spec = {
        "database": {"external": {"dsnSecret": {"name": "mine"}}},
        "redis": {"external": {"urlSecret": {"name": "mine"}}},
        "healing": {"rebalancing": "Approve"},
    }
    resource = platforms.resource(namespace, "demo", **spec)
    resource["metadata"].pop("uid")
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine"},
        "stringData": {"dsn": "postgresql://u:p@127.0.0.1:1/d", "url": "redis://127.0.0.1:1"},
    }
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    healer, told = NotedHealer(), []
    operator.reconciler.heal = healing(_settings(namespace), healer, told.append)
    await operator.round()
    assert healer.wanted == [], "the Secret of this platform's own that the healer needs was made in this round"
    await operator.round()
    [environment] = healer.wanted
    assert environment is not None
    assert environment["BETTING_POSTGRES_DSN"] == "postgresql://u:p@127.0.0.1:1/d"
    assert environment["BETTING_REDIS_URL"] == "redis://127.0.0.1:1"
    dsns = [(each.platform, each.dsn, each.heals) for each in told]
    assert dsns == [("demo", "", True), ("demo", "postgresql://u:p@127.0.0.1:1/d", True)], "rebalances read it there"
    assert all(each.needs_approval for each in told)


async def test_the_healer_goes_on_when_a_secret_that_it_was_started_with_goes_away(
    kube_api: KubeApi, namespace: str, operators_rights: Path
) -> None:
    """So do the services: all have the operator's copy of it."""
    spec = {"database": {"external": {"dsnSecret": {"name": "mine"}}}}
    resource = platforms.resource(namespace, "demo", **spec)
    resource["metadata"].pop("uid")
    path = f"{PLATFORMS_PATH.format(namespace)}/demo"
    kube_api.request("POST", PLATFORMS_PATH.format(namespace), resource)
    make_secret(kube_api, namespace, "postgresql://u:p@127.0.0.1:1/d")
    healer = NotedHealer()
    wanted = healer.wanted
    async with _reconciling(operators_rights, namespace, healer):
        while not wanted:  # noqa: ASYNC110  (the operator adds to it)
            await asyncio.sleep(0.02)
        kube_api.request("DELETE", f"/api/v1/namespaces/{namespace}/secrets/mine")
        while condition(kube_api.request("GET", path), "Accepted")["reason"] != "SecretMissing":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert all(each == wanted[0] for each in wanted)
        assert wanted[0] is not None
        kube_api.request("PATCH", path, {"spec": {"healing": {"enabled": False}}}, MERGE)
        while wanted[-1] is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_write_that_came_too_late_for_the_lease_leaves_the_end_to_the_elector(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """It makes the process anew in its container: one that ended would be started later and later by the kubelet."""
    refused = 0

    def not_leading() -> None:
        nonlocal refused
        refused += 1
        raise NotLeadingError("too late")

    async with _reconciling(operators_rights, namespace, HealerProcess(), before_write=not_leading):
        while refused < 2:  # noqa: ASYNC110  (a thread counts)
            await asyncio.sleep(0.02)


async def test_a_fault_of_the_operator_in_one_round_ends_neither_it_nor_the_healer(
    kube_api: KubeApi, demo: str, namespace: str, operators_rights: Path
) -> None:
    """The next round looks anew."""
    failed = 0

    def fails_at_first() -> None:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise LookupError("a fault of ours")

    async with _reconciling(operators_rights, namespace, HealerProcess(), before_write=fails_at_first):
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        while not kube_api.request("GET", path)["items"]:  # noqa: ASYNC110  (the operator makes them)
            await asyncio.sleep(0.1)
    assert failed > 2


async def test_a_kind_that_cannot_be_listed_is_named_by_the_platform_until_it_can(
    kube_api: KubeApi,
    demo: str,
    namespace: str,
    chart: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is made without knowing what exists, and what the leader of before has said may hold no more."""
    monkeypatch.setattr(main, "LISTED_WITHIN_S", 0.1)
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 1}
    said = {"conditions": [ready | {"lastTransitionTime": "2026-01-01T00:00:00Z"}], "shards": {"summary": "16/16"}}
    said |= {"database": {"installation": "a"}, "image": "localhost/betting:1.0.0"}
    kube_api.request("PATCH", f"{demo}/status", {"status": said}, MERGE)
    role = next(each for each in chart(namespace, "--set", "crds.install=false") if each["kind"] == "Role")
    less = copy.deepcopy(role["rules"])
    next(each for each in less if each["resources"] == ["poddisruptionbudgets"])["verbs"].remove("list")
    kubeconfig = kube_api.service_account(namespace, "trimmed", less)
    healer = NotedHealer()
    async with _reconciling(kubeconfig, namespace, healer):
        while (accepted := _accepted(kube_api, demo)).get("reason") != "NotListed":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        resource = kube_api.request("GET", demo)
        assert 'cannot list resource "poddisruptionbudgets"' in accepted["message"]
        assert condition(resource, "Ready")["status"] == "Unknown"
        assert condition(resource, "Healing")["status"] == "False"
        assert "shards" not in resource["status"]
        assert resource["status"]["database"] == {"installation": "a"}
        assert healer.wanted == []
        assert kube_api.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"] == []
        kube_api.service_account(namespace, "trimmed", role["rules"])
        while _accepted(kube_api, demo).get("status") != "True":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    events = kube_api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    assert [each["count"] for each in events if each["reason"] == "NotListed"] == [1], "Ready was True before"


def _accepted(kube_api: KubeApi, path: str) -> dict[str, Any]:
    conditions = kube_api.request("GET", path).get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == "Accepted"), {})


@asynccontextmanager
async def _reconciling(
    kubeconfig: Path, namespace: str, healer: HealerProcess, before_write: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """What the leader runs, without the healer's process, for as long as the block lasts."""
    read = partial(configuration, kubeconfig)
    wake = asyncio.Event()
    async with Client(read(), before_write=before_write) as client, asyncio.TaskGroup() as group:
        watched = [Watched(each) for each in (PLATFORMS, *KINDS.values(), PODS)]
        watching = Watching(client, read, namespace, watched, lambda _key: wake.set())
        heal = healing(_settings(namespace), healer, lambda _told: None)
        reconciler = Reconciler(client, namespace, platforms.OWN_IMAGE, heal=heal)
        running = [
            group.create_task(watching.run()),
            group.create_task(_reconcile(watching, wake, reconciler)),
        ]
        yield
        for each in running:
            each.cancel()


def _settings(namespace: str) -> OperatorSettings:
    return OperatorSettings(pod="o", namespace=namespace, pod_ip="10.0.0.1", image="betting:1")
