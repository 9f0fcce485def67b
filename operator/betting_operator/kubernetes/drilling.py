"""The operator's loop for drills: looks, writes down what `drills` decides, deletes the pod, and tells the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from betting.runtime import logs, metrics
from betting.runtime.loops import FailureLog
from betting_operator.kubernetes import drills, events, healing_actions, schema
from betting_operator.kubernetes.client import Client, ConflictError, KubernetesError
from betting_operator.kubernetes.drill_runs import Decision, Noted
from betting_operator.kubernetes.drill_values import (
    FAULTS,
    GRACE_S,
    PASSED,
    REQUEST_ANNOTATION,
    Pod,
    Seen,
    actions_of,
    parse,
    pod_of,
    seconds_of,
)
from betting_operator.kubernetes.elector import NotLeadingError
from betting_operator.kubernetes.kinds import PLATFORMS, PODS
from betting_operator.kubernetes.manifests import INSTANCE_LABEL, NAME_LABEL, Manifest
from betting_operator.kubernetes.reconcile import Key
from betting_operator.kubernetes.reconciler import living
from betting_operator.kubernetes.watching import Watching
from betting_operator.kubernetes.workloads import OPERATOR

LOOK_S = 1.0
# While a drill runs: what is seen here is measured no finer.
LOOK_CLOSELY_S = 0.25
# How often what the next drill waits for is written at most.
STATUS_EVERY_S = 5.0

_log = logs.get(__name__)


class Driller:
    """Of one namespace. operator: the life of this process; pod: its pod. rebalancing: whether shards are being moved
    on purpose. healer_tells: whether its healer has reported. wall_s: seconds since 1970."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        operator: str,
        pod: str,
        *,
        rebalancing: Callable[[], bool],
        healer_tells: Callable[[], bool],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._operator = operator
        self._pod = pod
        self._rebalancing = rebalancing
        self._healer_tells = healer_tells
        self._wall_s = wall_s
        self._leading_s = wall_s()
        self._noted = Noted()
        self._injected = self._problem = ""
        self._looked: tuple[str, float] = "", float("-inf")  # the request at the last look at all, and when that was
        self._waits_written_s = float("-inf")
        self._seconds = metrics.gauge(
            "betting_operator_drill_seconds", "Of the last drill of a kind that was measured", ("kind", "what")
        )
        self._drills = metrics.counter("betting_operator_drills_total", "Drills that ended", ("kind", "outcome"))
        self._passed = metrics.gauge(
            "betting_operator_drill_last_success_timestamp_seconds", "When one of the kind passed last", ("kind",)
        )
        self._named = metrics.gauge(
            "betting_operator_drill_named_timestamp_seconds", "Since when spec.drills names the kind", ("kind",)
        )
        self._suspended = metrics.gauge(
            "betting_operator_drills_suspended", "1 while no drill begins since one has missed its objectives"
        )

    async def run(self, watching: Watching) -> None:
        """For as long as this process leads."""
        failures = FailureLog(_log, "drills not looked at")
        await watching.listed()
        runs = False
        while True:
            try:
                pods = {Key(PODS.kind, name): each for name, each in watching.objects(PODS).items()}
                runs = await self.round(list(watching.objects(PLATFORMS).values()), pods)
                failures.worked()
            except (KubernetesError, NotLeadingError) as error:  # the elector ends the process where it lost the Lease
                failures.failed(error)
            except Exception as error:  # a fault of ours: the operator must not end with it
                failures.failed(error, exc_info=error)
            await asyncio.sleep(LOOK_CLOSELY_S if runs else LOOK_S)

    async def round(self, resources: list[Manifest], objects: Mapping[Key, Manifest]) -> bool:
        """One look; whether a drill runs. resources, objects: as the watch has them. Raises KubernetesError.

        What is decided is decided again on the resource as it is, and written for that version of it alone.
        """
        owned = living(resources)
        if not owned or not _concerns(owned[0]):
            return False
        name = owned[0]["metadata"]["name"]
        seen = self._seen(name, objects)
        self._show(owned[0])
        running = _state(owned[0]).get("running")
        if running is None and drills.decide(owned[0], seen, Noted()).status == _state(owned[0]):
            return False  # nothing is asked for at rest
        asked = (owned[0]["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION, "")
        if running is None and asked == self._looked[0] and time.monotonic() - self._looked[1] < STATUS_EVERY_S:
            return False
        resource = await self._client.get(PLATFORMS, self._namespace, name)
        if resource["metadata"]["uid"] != owned[0]["metadata"]["uid"]:
            return False
        decision = drills.decide(resource, await self._completed(resource, seen), self._noted)
        self._noted = decision.noted if decision.status.get("running") else Noted()
        self._looked = asked, time.monotonic()
        if decision.status != _state(resource):
            await self._write(resource, decision)
        return "running" in decision.status

    def _seen(self, platform: str, objects: Mapping[Key, Manifest]) -> Seen:
        """As far as the watch knows it. Of the operator, whose pods it does not have, its own stands for two."""
        own = Pod(self._pod, "", "", OPERATOR, ready=True, ending=False, created_s=0.0)
        pods = [own, own]
        for each in objects.values():
            labels = each["metadata"].get("labels") or {}
            if each.get("kind", PODS.kind) == PODS.kind and labels.get(INSTANCE_LABEL) == platform:
                pods.append(pod_of(each, labels.get(NAME_LABEL, "")))
        return Seen(
            *(self._wall_s(), self._leading_s, self._operator, self._pod),
            pods=tuple(pods),
            injected=self._injected,
            problem=self._problem,
            rebalancing=self._rebalancing(),
            healer_tells=self._healer_tells(),
        )

    async def _completed(self, resource: Manifest, seen: Seen) -> Seen:
        """With what has to be asked for: the pods of the operator, and what the healer did since a drill began."""
        running = _state(resource).get("running")
        wanted = parse(resource)
        if running is None or running["kind"] == "DeleteOperator":
            if running is None and (wanted is None or "DeleteOperator" not in wanted.objectives):
                return seen
            found = await self._client.list(PODS, self._namespace, f"{NAME_LABEL}={OPERATOR}")
            others = (each for each in seen.pods if each.workload != OPERATOR)
            return replace(seen, pods=(*others, *(pod_of(each, OPERATOR) for each in found.objects)))
        fault = FAULTS.get(running["kind"])
        if fault is None or not fault.diagnoses:
            return seen
        label = f"{healing_actions.DIAGNOSIS_LABEL} in ({','.join(fault.diagnoses)})"
        selector = f"{healing_actions.selector(resource['metadata']['name'])},{label}"
        actions = await self._client.list(healing_actions.HEALING_ACTIONS, self._namespace, selector)
        return replace(seen, actions=actions_of(actions.objects))

    async def _write(self, resource: Manifest, decision: Decision) -> None:
        """status.drills, and only then what it says is done."""
        before, after = _state(resource), decision.status
        begins, now_s = decision.inject is not None, time.monotonic()
        if not begins and {**before, "next": ""} == {**after, "next": ""}:
            if now_s - self._waits_written_s < STATUS_EVERY_S:
                return
            self._waits_written_s = now_s
        try:
            written = await self._write_state(resource, before, after)
        except ConflictError:
            self._looked = "", float("-inf")
            return  # it has changed: looked at anew in the next round
        if decision.ended is not None:
            await self._tell_ended(resource, decision.ended)
        if decision.inject is not None and _state(written).get("running") == after["running"]:
            await self._inject(written, decision)
        elif decision.inject is not None:
            _log.error("no drill begins: the CRD of an older release does not keep status.drills")

    async def _inject(self, resource: Manifest, decision: Decision) -> None:
        pod, running = decision.inject, decision.status["running"]
        assert pod is not None
        about = f"{running['kind']}: deletes {pod.name} ({running['name']})"
        _log.info("drill begins", name=running["name"], kind=running["kind"], target=pod.name)
        await self._tell(resource, "DrillBegan", about, running)
        try:
            await self._client.delete(
                *(PODS, self._namespace, pod.name), uid=pod.uid, resource_version=pod.version, grace_s=GRACE_S
            )
        except KubernetesError as error:  # without an answer it may be deleted all the same: it is not repeated
            self._problem = str(error)
        else:
            self._injected = running["name"]

    async def _write_state(self, resource: Manifest, before: Manifest, after: Manifest) -> Manifest:
        metadata = resource["metadata"]
        changes = {"drills": _merge_patch(before, after)}
        return await self._client.patch_status(
            *(PLATFORMS, self._namespace, metadata["name"], changes), resource_version=metadata["resourceVersion"]
        )

    async def _tell_ended(self, resource: Manifest, run: Manifest) -> None:
        _log.info("drill ended", **run)
        self._drills.labels(run["kind"], run["outcome"]).inc()
        times = [f"{what} after {run[each]:g} s" for what, each in _TIMES.items() if each in run]
        about = f"{run['kind']} of {run['target']}: {'; '.join([run['message'], *times])} ({run['name']})"
        await self._tell(resource, f"Drill{run['outcome']}", about, run)

    async def _tell(self, resource: Manifest, reason: str, message: str, drill: Manifest) -> None:
        kind = "Normal" if reason in ("DrillBegan", f"Drill{PASSED}") else "Warning"
        event = events.Event(kind, reason, message, (reason, drill["kind"]), drill["name"])
        about = {"apiVersion": schema.API_VERSION, "kind": schema.KIND, **resource}
        try:
            await events.write(self._client, self._namespace, about, event)
        except KubernetesError as error:  # the status says the same
            _log.warning("event not written", problem=str(error))

    def _show(self, resource: Manifest) -> None:
        """What the status says of drills before, also by leaders of before, as metrics."""
        runs, wanted = _state(resource).get("runs") or (), parse(resource)
        self._suspended.set(1 if wanted is not None and drills.suspended_by(wanted, runs) else 0)
        self._passed.clear()  # what the spec names no more is not overdue
        self._named.clear()
        for each in _state(resource).get("faults") or ():
            if wanted is not None and each["kind"] in wanted.objectives:
                self._named.labels(each["kind"]).set(seconds_of(each["since"]))
        for run in reversed(runs):
            for what, name in _TIMES.items():
                if name in run:
                    self._seconds.labels(run["kind"], what).set(run[name])
            if run["outcome"] == PASSED and wanted is not None and run["kind"] in wanted.objectives:
                self._passed.labels(run["kind"]).set(seconds_of(run["ended"]))


def _merge_patch(before: Manifest, after: Manifest) -> Manifest:
    """What makes the one of the other."""
    found: Manifest = dict.fromkeys(before.keys() - after.keys())
    for name, each in after.items():
        old = before.get(name)
        found[name] = _merge_patch(old, each) if isinstance(each, dict) and isinstance(old, dict) else each
    return found


_TIMES = {"detected": "detectedSeconds", "repaired": "repairedSeconds"}


def _concerns(resource: Manifest) -> bool:
    """Whether there are drills, or were, or a person asks for one."""
    annotations = resource["metadata"].get("annotations") or {}
    return bool("drills" in (resource.get("spec") or {}) or _state(resource) or REQUEST_ANNOTATION in annotations)


def _state(resource: Manifest) -> Manifest:
    found: Manifest = (resource.get("status") or {}).get("drills") or {}
    return found
