"""What the healer does on Kubernetes beyond ending one life: rolling back, scaling.

It changes no template and no number of pods by itself: it leaves a note on a Deployment, or changes the number in the
spec, and the operator, which writes workloads, does the rest. So neither fights the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from betting.runtime import logs
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import BET_SERVICE
from betting_operator.kubernetes import rollbacks, schema
from betting_operator.kubernetes.client import Client, ConflictError, Json, KubernetesError
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import INSTANCE_LABEL
from betting_operator.kubernetes.workloads import POSTGRES
from betting_operator.platforms.port import AskStored, CannotDo

DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
PLATFORMS = Resource(schema.API_VERSION, schema.KIND, schema.PLURAL)
# Somebody else may change the object meanwhile: it is looked at again, so often.
TRIES = 3

_log = logs.get(__name__)


class Hands:
    """Of one platform in one namespace."""

    def __init__(self, client: Client, namespace: str, platform: str, stored: AskStored) -> None:
        self._client = client
        self._namespace = namespace
        self._platform = platform
        self._stored = stored

    async def roll_back(self, workload: str) -> None:
        """Names the template of a Deployment that does not work, so that the operator goes back to the one before.

        Fenced by the Deployment's resourceVersion; a template is named once. Raises CannotDo: no other template was
        ever rolled out, nobody has it any more, it differs in nothing that could help, or what is stored is not as its
        version knows it.
        """
        if workload in (REDIS_WORKLOAD, POSTGRES):
            raise CannotDo(f"{workload} is not rolled back: it has data of its version; correct the spec")
        await self._written(f"{workload} could not be rolled back", lambda: self._roll_back(workload))

    async def scale(self, workload: str, replicas: int) -> None:
        """Sets the number of bet-services in the platform's spec, which the operator carries out. Raises CannotDo: it
        is another workload, or an autoscaler decides.
        """
        if workload != BET_SERVICE:
            raise CannotDo(f"{workload} is not scaled by the healer: set spec.services of the platform")
        await self._written(f"{workload} could not be scaled to {replicas}", lambda: self._scale(replicas))

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

    async def _roll_back(self, workload: str) -> None:
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
        if service.get("replicas") == replicas:
            return
        changes: Json = {
            "metadata": {"resourceVersion": platform["metadata"]["resourceVersion"]},
            "spec": {"replicas": replicas},
        }
        await self._client.patch(PLATFORMS, self._namespace, self._platform, changes, subresource="scale")
        _log.warning("bet-service scaled in the spec", platform=self._platform, replicas=replicas)
