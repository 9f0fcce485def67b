"""The operator's reconciler against a real API server, one round at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import platforms
from kube_api import KubeApi

from betting_operator.kubernetes.client import Client, configuration
from betting_operator.kubernetes.kinds import PLATFORMS, PODS
from betting_operator.kubernetes.manifests import MANAGED_BY_LABEL
from betting_operator.kubernetes.reconcile import KINDS, Key, key_of
from betting_operator.kubernetes.reconciler import Reconciler
from betting_operator.kubernetes.status import Healer
from betting_operator.kubernetes.workloads import OPERATOR

PLATFORMS_PATH = "/apis/selfhealing.bet/v1alpha1/namespaces/{}/bettingplatforms"
MERGE = "application/merge-patch+json"


class Operator:
    """A reconciler of one namespace, one round at a time."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.reconciler = Reconciler(client, namespace, platforms.OWN_IMAGE)

    async def round(self) -> None:
        """Reconciles with all that is there."""
        resources = list((await self.client.list(PLATFORMS, self.namespace)).objects)
        await self.reconciler.reconcile(resources, await self.objects())

    async def restarted(self) -> None:
        """The next round is that of another leader, which writes the status at once."""
        await self.reconciler.close()
        self.reconciler = Reconciler(self.client, self.namespace, platforms.OWN_IMAGE)

    async def objects(self) -> dict[Key, Any]:
        """Every object with the operator's label, pods among them."""
        found: dict[Key, Any] = {}
        for kind in (*KINDS.values(), PODS):
            listed = await self.client.list(kind, self.namespace, f"{MANAGED_BY_LABEL}={OPERATOR}")
            found |= {key_of(each): each for each in listed.objects}
        return found


def make_secret(kube_api: KubeApi, namespace: str, dsn: str) -> None:
    """The Secret `mine`, which has the address of an external database."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"dsn": dsn}}
    kube_api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)


@asynccontextmanager
async def operator_in(kubeconfig: Path, namespace: str) -> AsyncIterator[Operator]:
    """One with the rights of a kubeconfig, for as long as the block lasts."""
    async with Client(configuration(kubeconfig)) as client:
        made = Operator(client, namespace)
        try:
            yield made
        finally:
            await made.reconciler.close()


@asynccontextmanager
async def going_round(operator: Operator, healer: Healer) -> AsyncIterator[None]:
    """The operator goes round and round, with such a healer."""
    operator.reconciler.heal = lambda _platform, _objects: healer

    async def go_round() -> None:
        while True:
            await operator.round()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(go_round())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a resource, by its type."""
    found: dict[str, Any] = next(each for each in resource["status"]["conditions"] if each["type"] == kind)
    return found


def counted(client: Client) -> list[str]:
    """The paths of all writes of a client from now on."""
    writes: list[str] = []
    write = client._write  # the one place that all writes go through

    async def counted(method: str, path: str, *arguments: Any, **more: Any) -> Any:
        writes.append(path)
        return await write(method, path, *arguments, **more)

    client._write = counted  # type: ignore[method-assign]
    return writes
