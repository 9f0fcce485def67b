"""Requests to a real API server, and each way in which it can refuse or not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from kube_api import KubeApi

from betting_operator.kubernetes.client import (
    FIELD_MANAGER,
    AwayError,
    Client,
    ConflictError,
    EvictionBlockedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    configuration,
)
from betting_operator.kubernetes.kinds import PODS, Resource
from betting_operator.kubernetes.reconciler import PLATFORMS

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
BUDGETS = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
PATIENCE_S = 0.5


@pytest.fixture
async def client(kube_api: KubeApi) -> AsyncIterator[Client]:
    """As the admin."""
    async with Client(configuration(kube_api.kubeconfig())) as found:
        yield found


def config_map(name: str, value: str = "1", **labels: str) -> dict[str, Any]:
    """A manifest."""
    return {"metadata": {"name": name, "labels": labels}, "data": {"key": value}}


def pod(name: str) -> dict[str, Any]:
    """A pod that never starts: there are no nodes."""
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "one", "image": "localhost/one:1"}]},
    }


async def test_an_unchanged_apply_writes_nothing(client: Client, namespace: str) -> None:
    """The resourceVersion stays; the fields belong to the operator's field manager."""
    first = await client.apply(CONFIG_MAPS, namespace, config_map("a"))
    again = await client.apply(CONFIG_MAPS, namespace, config_map("a"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [each["manager"] for each in again["metadata"]["managedFields"]] == [FIELD_MANAGER]


async def test_another_managers_field_is_taken_only_by_force(client: Client, kube_api: KubeApi, namespace: str) -> None:
    """Without force the conflict names manager and field."""
    path = CONFIG_MAPS.path(namespace, "a")
    kube_api.apply(path, {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a", "theirs")})
    with pytest.raises(ConflictError, match=r'(?s)conflicts with "test".*\.data\.key'):
        await client.apply(CONFIG_MAPS, namespace, config_map("a", "ours"))
    forced = await client.apply(CONFIG_MAPS, namespace, config_map("a", "ours"), force=True)
    assert forced["data"] == {"key": "ours"}


async def test_a_dry_run_stores_nothing(client: Client, namespace: str) -> None:
    """It answers with defaults filled in."""
    shown = await client.apply(PODS, namespace, pod("a"), dry_run=True)
    assert shown["spec"]["restartPolicy"] == "Always"
    with pytest.raises(NotFoundError, match='pods "a" not found'):
        await client.get(PODS, namespace, "a")


async def test_a_list_has_every_page_and_only_what_is_selected(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More objects than a page holds; each has its kind, which items of a list lack."""
    monkeypatch.setattr("betting_operator.kubernetes.client.PAGE_OBJECTS", 2)
    for number in range(5):
        await client.create(CONFIG_MAPS, namespace, config_map(f"a{number}", part="yes"))
    await client.create(CONFIG_MAPS, namespace, config_map("other"))
    listed = await client.list(CONFIG_MAPS, namespace, "part=yes")
    assert [each["metadata"]["name"] for each in listed.objects] == ["a0", "a1", "a2", "a3", "a4"]
    assert {(each["apiVersion"], each["kind"]) for each in listed.objects} == {("v1", "ConfigMap")}
    assert int(listed.resource_version) >= max(int(each["metadata"]["resourceVersion"]) for each in listed.objects)


async def test_create_refuses_what_exists(client: Client, namespace: str) -> None:
    """A Secret that was made once is not made again."""
    await client.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(ConflictError, match="already exists"):
        await client.create(CONFIG_MAPS, namespace, config_map("a", "2"))


async def test_what_is_created_is_of_the_kind_that_was_named(client: Client, namespace: str) -> None:
    """The API server does not guess it for a custom resource."""
    made = await client.create(PLATFORMS, namespace, {"metadata": {"name": "a"}, "spec": {}})
    assert (made["apiVersion"], made["kind"]) == (PLATFORMS.api_version, PLATFORMS.kind)


async def test_a_patch_may_expect_a_version(client: Client, namespace: str) -> None:
    """Null removes; a stale resourceVersion is a conflict."""
    made = await client.create(CONFIG_MAPS, namespace, config_map("a"))
    patched = await client.patch(CONFIG_MAPS, namespace, "a", {"data": {"key": None, "other": "1"}})
    assert patched["data"] == {"other": "1"}
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"key": "2"}}
    with pytest.raises(ConflictError, match="has been modified"):
        await client.patch(CONFIG_MAPS, namespace, "a", stale)


async def test_status_and_scale_are_patched_apart(client: Client, namespace: str) -> None:
    """Each through its subresource."""
    template = {"metadata": {"labels": {"app": "d"}}, "spec": pod("d")["spec"]}
    manifest = {
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": template},
    }
    await client.apply(DEPLOYMENTS, namespace, manifest)
    await client.patch(DEPLOYMENTS, namespace, "d", {"spec": {"replicas": 3}}, subresource="scale")
    await client.patch_status(DEPLOYMENTS, namespace, "d", {"observedGeneration": 7})
    found = await client.get(DEPLOYMENTS, namespace, "d")
    assert (found["spec"]["replicas"], found["status"]["observedGeneration"]) == (3, 7)


async def test_a_delete_never_hits_a_successor(client: Client, namespace: str) -> None:
    """Neither one with another uid nor a changed object."""
    made = await client.create(CONFIG_MAPS, namespace, config_map("a"))
    uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    await client.patch(CONFIG_MAPS, namespace, "a", {"data": {"key": "2"}})
    with pytest.raises(ConflictError, match="the ResourceVersion in the precondition"):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=uid, resource_version=version)
    await client.delete(CONFIG_MAPS, namespace, "a", uid=uid)
    await client.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(ConflictError, match="the UID in the precondition"):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=uid)


async def test_an_eviction_obeys_budgets(client: Client, namespace: str) -> None:
    """A budget that was not computed yet allows none; without a budget the pod goes; another life is not hit."""
    made = await client.create(PODS, namespace, pod("a"))
    await client.patch_status(PODS, namespace, "a", {"phase": "Running"})
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    budget = await client.create(BUDGETS, namespace, {"metadata": {"name": "a"}, "spec": spec})
    with pytest.raises(EvictionBlockedError, match="disruption budget"):
        await client.evict(namespace, "a", uid=made["metadata"]["uid"])
    await client.delete(BUDGETS, namespace, "a", uid=budget["metadata"]["uid"])
    with pytest.raises(ConflictError, match="the UID in the precondition"):
        await client.evict(namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    await client.evict(namespace, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await client.get(PODS, namespace, "a")


async def test_forbidden_says_what_is_missing(kube_api: KubeApi, namespace: str) -> None:
    """With the rights of a ServiceAccount: what its Role has works, the rest names verb, resource and namespace."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]
    async with Client(configuration(kube_api.service_account(namespace, "operator", rules))) as client:
        await client.create(CONFIG_MAPS, namespace, config_map("a"))
        missing = f'cannot get resource "configmaps" in API group "" in the namespace "{namespace}"'
        with pytest.raises(ForbiddenError, match=missing):
            await client.get(CONFIG_MAPS, namespace, "a")


async def test_a_wrong_object_names_its_field(client: Client, namespace: str) -> None:
    """And a kind that is not installed is not found."""
    with pytest.raises(InvalidError, match=r"spec\.containers"):
        await client.create(PODS, namespace, {"metadata": {"name": "a"}, "spec": {"containers": []}})
    with pytest.raises(NotFoundError, match="thing"):
        await client.list(Resource("example.com/v1", "Thing", "things"), namespace)


async def test_names_cannot_leave_their_path(client: Client, namespace: str) -> None:
    """A name is one segment of the path, whatever is in it."""
    with pytest.raises((NotFoundError, InvalidError)):
        await client.get(CONFIG_MAPS, namespace, "../../../../api/v1/nodes")


@pytest.mark.parametrize("fault", ["killed", "paused", "silent", "slow"])
async def test_an_api_server_that_does_not_answer_is_away(kube_api: KubeApi, namespace: str, fault: str) -> None:
    """Refused, hanging after or before the handshake, or slower than the request may take: within the timeouts."""
    async with CuttingProxy(f"https://127.0.0.1:{kube_api.port}") as proxy:
        url = f"https://{proxy.address}"
        async with Client(configuration(kube_api.kubeconfig(url=url)), timeout_s=PATIENCE_S) as client:
            await client.list(CONFIG_MAPS, namespace)
            if fault == "killed":
                kube_api.kill()
            elif fault == "paused":
                kube_api.pause()
            elif fault == "silent":
                proxy.answers.clear()
            else:
                proxy.delay_s = 2 * PATIENCE_S
            with pytest.raises(AwayError, match="no answer from the API server to GET /api/v1/namespaces/"):
                await client.list(CONFIG_MAPS, namespace)
            proxy.answers.set()


async def test_a_request_that_fails_is_not_repeated(kube_api: KubeApi, namespace: str) -> None:
    """Callers are loops; and a write whose answer was lost must not be sent twice."""
    connections = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(configuration(kube_api.kubeconfig(url=url))) as client:
            with pytest.raises(AwayError):
                await client.list(CONFIG_MAPS, namespace)
            with pytest.raises(AwayError):
                await client.create(CONFIG_MAPS, namespace, config_map("a"))
    assert connections == 2


async def test_the_guard_is_asked_right_before_each_write(kube_api: KubeApi, namespace: str) -> None:
    """What it raises ends the request before it is sent; reads do not ask."""

    class NotNow(Exception):
        pass

    def guard() -> None:
        raise NotNow

    async with Client(configuration(kube_api.kubeconfig()), before_write=guard) as client:
        with pytest.raises(NotNow):
            await client.create(CONFIG_MAPS, namespace, config_map("a"))
        assert (await client.list(CONFIG_MAPS, namespace, "none=none")).objects == ()
        with pytest.raises(NotFoundError):
            await client.get(CONFIG_MAPS, namespace, "a")
