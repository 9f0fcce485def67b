"""Watches of a real API server: what they tell, in which order, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from kube_api import KubeApi

from betting_operator.kubernetes.client import AwayError, Client, Event, ForbiddenError, GoneError, configuration
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.list_watch import watch

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
PATIENCE_S = 0.5


@pytest.fixture
async def client(kube_api: KubeApi) -> AsyncIterator[Client]:
    """As the admin."""
    async with Client(configuration(kube_api.kubeconfig())) as found:
        yield found


def config_map(name: str, **labels: str) -> dict[str, Any]:
    """A manifest."""
    return {"metadata": {"name": name, "labels": labels}, "data": {"key": "1"}}


async def test_a_watch_tells_what_changes_after_a_list_until_its_time_is_over(client: Client, namespace: str) -> None:
    """Only what the selector chooses; what was deleted as it was last; then it ends by itself."""
    await client.create(CONFIG_MAPS, namespace, config_map("before", team="a"))
    listed = await client.list(CONFIG_MAPS, namespace, "team=a")
    async with watch(client, CONFIG_MAPS, namespace, "team=a", listed.resource_version, for_s=2) as events:
        made = await client.create(CONFIG_MAPS, namespace, config_map("one", team="a"))
        await client.create(CONFIG_MAPS, namespace, config_map("other", team="b"))
        await client.patch(CONFIG_MAPS, namespace, "one", {"data": {"key": "2"}})
        await client.delete(CONFIG_MAPS, namespace, "one", uid=made["metadata"]["uid"])
        told = [event async for event in events]
    assert [shown(each) for each in told if each.type != "BOOKMARK"] == [
        ("ADDED", "one", "1"),
        ("MODIFIED", "one", "2"),
        ("DELETED", "one", "2"),
    ]


async def test_a_watch_that_cannot_go_on_says_that_it_must_be_listed_again(
    client: Client, kube_api: KubeApi, namespace: str
) -> None:
    """The API server keeps changes for a while only, and none from before its own start."""
    await client.create(CONFIG_MAPS, namespace, config_map("a"))
    kube_api.restart()
    with pytest.raises(GoneError):
        await watched(client, namespace, "1")


async def test_a_watch_that_is_refused_or_cut_says_so(kube_api: KubeApi, namespace: str) -> None:
    """Before it begins, or while nothing comes."""
    async with Client(configuration(kube_api.kubeconfig("nobody"))) as nobody:
        with pytest.raises(ForbiddenError, match="cannot watch resource"):
            await watched(nobody, namespace, "0")
    async with CuttingProxy(f"https://127.0.0.1:{kube_api.port}") as proxy:
        kubeconfig = kube_api.kubeconfig(url=f"https://{proxy.address}")
        async with Client(configuration(kubeconfig), timeout_s=PATIENCE_S) as client:
            listed = await client.list(CONFIG_MAPS, namespace)
            with pytest.raises(AwayError, match="no answer from the API server to watch of /api/v1/namespaces/"):
                await watched(client, namespace, listed.resource_version, opened=proxy.cut)


async def watched(client: Client, namespace: str, version: str, opened: Callable[[], None] = lambda: None) -> None:
    """To its end."""
    async with watch(client, CONFIG_MAPS, namespace, "", version, for_s=30) as events:
        opened()
        async for _event in events:
            pass


def shown(event: Event) -> tuple[str, str, str]:
    """Its type, and the name and value of its object."""
    return event.type, event.object["metadata"]["name"], event.object["data"]["key"]
