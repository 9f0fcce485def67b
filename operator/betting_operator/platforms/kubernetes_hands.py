"""What the healer does on Kubernetes beyond ending one life: rolling back, scaling, keeping new pods off a node.

It changes no template and no number of pods by itself: it leaves a note on a Deployment, or changes the number in the
spec, and the operator, which writes workloads, does the rest. So neither fights the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime

from betting.runtime import logs
from betting.runtime.loops import FailureLog
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import BET_SERVICE
from betting_operator.kubernetes import placeholders, rollbacks, schema
from betting_operator.kubernetes.client import Client, ConflictError, Json, KubernetesError
from betting_operator.kubernetes.kinds import PODS, Resource
from betting_operator.kubernetes.manifests import INSTANCE_LABEL
from betting_operator.kubernetes.workloads import POSTGRES
from betting_operator.platforms.port import AskStored, CannotDo

DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
PLATFORMS = Resource(schema.API_VERSION, schema.KIND, schema.PLURAL)
# Somebody else may change the object meanwhile: it is looked at again, so often.
TRIES = 3
SWEEP_EVERY_S = 10.0

_log = logs.get(__name__)


class Hands:
    """Of one platform in one namespace."""

    def __init__(self, client: Client, namespace: str, platform: str, stored: AskStored) -> None:
        self._client = client
        self._namespace = namespace
        self._platform = platform
        self._stored = stored
        self._one_at_a_time = asyncio.Lock()  # of several pods on one node one makes the placeholder

    async def roll_back(self, workload: str, template: str) -> None:
        """Names the template of a Deployment that does not work, so that the operator goes back to the one before.

        template: the name of the ReplicaSet whose pods crash. Fenced by it and by the Deployment's resourceVersion:
        what a person has corrected meanwhile is not named. A template is named once. Raises CannotDo: it is not the
        present one, no other one was ever rolled out, nobody has it any more, it differs in nothing that could help, or
        what is stored is not as its version knows it.
        """
        if workload in (REDIS_WORKLOAD, POSTGRES):
            raise CannotDo(f"{workload} is not rolled back: it has data of its version; correct the spec")
        await self._written(f"{workload} could not be rolled back", lambda: self._roll_back(workload, template))

    async def scale(self, workload: str, replicas: int) -> None:
        """Raises the number of bet-services in the platform's spec to this; the operator carries it out. Fenced by the
        platform's resourceVersion. Raises CannotDo: it is another workload, or an autoscaler decides.
        """
        if workload != BET_SERVICE:
            raise CannotDo(f"{workload} is not scaled by the healer: set spec.services of the platform")
        await self._written(f"{workload} could not be scaled to {replicas}", lambda: self._scale(replicas))

    async def keep_off(self, node: str, others: Collection[str], pod: str, *, lost: bool) -> None:
        """Keeps new pods of the platform off a node for some minutes (see `placeholders`).

        others: nodes on which pods of it run. pod: of the platform, on the node; its image and priority are used. lost:
        see `placeholders.placeholder`.
        Raises CannotDo: too many nodes would be kept free to run everything on the rest.
        """
        async with self._one_at_a_time:
            await self._written(
                f"new pods could not be kept off {node}", lambda: self._keep_off(node, others, pod, lost=lost)
            )

    async def sweep(self) -> None:
        """Deletes placeholders whose time is over, for the life of the process: on a lost node nobody else does."""
        failures = FailureLog(_log, "placeholders not deleted")
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                for each in placeholders.over(await self._placeholders(), datetime.now(UTC)):
                    metadata = each["metadata"]
                    await self._client.delete(PODS, self._namespace, metadata["name"], uid=metadata["uid"])
                failures.worked()
            except KubernetesError as error:
                failures.failed(error)

    async def _placeholders(self) -> tuple[Json, ...]:
        selector = placeholders.selector(self._platform)
        return (await self._client.list(PODS, self._namespace, selector)).objects

    async def _keep_off(self, node: str, others: Collection[str], pod: str, *, lost: bool) -> None:
        there, now = await self._placeholders(), datetime.now(UTC)
        if placeholders.keep_off(there, now).get(node, 0.0) >= placeholders.RENEWED_BEFORE_S:
            return
        if why_not := placeholders.why_not(there, now, node, others, lost=lost):
            raise CannotDo(f"new pods are not kept off {node}: {why_not}")
        beside = await self._client.get(PODS, self._namespace, pod)
        platform = await self._client.get(PLATFORMS, self._namespace, self._platform)
        uid = str(platform["metadata"]["uid"])
        made = placeholders.placeholder(self._platform, uid, node, beside, lost=lost)
        await self._client.create(PODS, self._namespace, made)
        _log.warning("new pods are kept off a node", node=node, for_s=placeholders.KEEPS_OFF_S)

    async def _written(self, undone: str, write: Callable[[], Awaitable[None]]) -> None:
        for _try in range(TRIES):
            try:
                await write()
            except ConflictError:
                continue
            except KubernetesError as error:
                raise CannotDo(f"{undone}: {error}") from None
            return
        raise CannotDo(f"{undone}: it changed {TRIES} times meanwhile")

    async def _roll_back(self, workload: str, template: str) -> None:
        name = f"{self._platform}-{workload}"
        deployment = await self._client.get(DEPLOYMENTS, self._namespace, name)
        present, named = rollbacks.template_of(deployment), rollbacks.rolled_back_from(deployment)
        if named and named == present:
            return  # the operator has not done it yet
        if named:
            raise CannotDo(f"{workload} was rolled back from template {named} already: {present} does not work either")
        selector = f"{INSTANCE_LABEL}={self._platform}"
        found = (await self._client.list(rollbacks.REPLICA_SETS, self._namespace, selector)).objects
        before, replica_set = rollbacks.earlier(deployment, found)
        if before is None:
            raise CannotDo(f"{workload} has no version that worked before: no other template was ever rolled out")
        if rollbacks.template_named(template, deployment, found) != present:
            raise CannotDo(f"{workload} has template {present} by now: the pods of ReplicaSet {template} crashed")
        if replica_set is None:
            raise CannotDo(f"{workload} cannot go back to template {before.template}: no ReplicaSet has it any more")
        await self._check(deployment["spec"]["template"], before, replica_set["spec"]["template"])
        changes: Json = {
            "metadata": {
                "resourceVersion": deployment["metadata"]["resourceVersion"],
                "annotations": {rollbacks.ROLLED_BACK_ANNOTATION: present},
            }
        }
        await self._client.patch(DEPLOYMENTS, self._namespace, name, changes)
        _log.warning("asked for a roll-back", deployment=name, template=present, before=before.template)

    async def _check(self, present: Json, before: rollbacks.RolledOut, earlier: Json) -> None:
        """Raises CannotDo. Of one image the same program runs: it knows what it has written."""
        if why := rollbacks.why_the_same(present, earlier):
            raise CannotDo(f"rolling back would not help: {why}")
        if rollbacks.image_of(present) == rollbacks.image_of(earlier):
            return
        stored = await self._stored()
        if why := rollbacks.why_moved(before, stored.migrations, stored.compatible, stored.read):
            raise CannotDo(f"rolling back from {rollbacks.image_of(present)} is not safe: {why}")

    async def _scale(self, replicas: int) -> None:
        platform = await self._client.get(PLATFORMS, self._namespace, self._platform)
        service = ((platform.get("spec") or {}).get("services") or {}).get("betService") or {}
        if service.get("autoscaling"):
            raise CannotDo(
                f"{BET_SERVICE} is not scaled to {replicas}: the autoscaler decides, within the spec's limits"
            )
        if int(service.get("replicas") or 0) >= replicas:
            return  # a person was faster; the healer only ever adds
        changes: Json = {
            "metadata": {"resourceVersion": platform["metadata"]["resourceVersion"]},
            "spec": {"replicas": replicas},
        }
        await self._client.patch(PLATFORMS, self._namespace, self._platform, changes, subresource="scale")
        _log.warning("bet-service scaled in the spec", platform=self._platform, replicas=replicas)
