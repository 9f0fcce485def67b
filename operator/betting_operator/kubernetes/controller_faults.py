"""Why there are no pods to look at, purely, in the words of their controllers: a quota, a LimitRange, Pod Security, an
admission webhook or a PriorityClass that does not exist refuses them before they are made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from betting_operator.kubernetes import pod_faults
from betting_operator.kubernetes.manifests import NAME_LABEL, Manifest
from betting_operator.kubernetes.reconcile import Objects, is_complete, is_of_newest_template, pods_of, template_of

# The reasons of the events by which controllers of Jobs and StatefulSets tell that they could not make a pod, or did.
FAILED_CREATE, SUCCESSFUL_CREATE = "FailedCreate", "SuccessfulCreate"
# As they name a pod that was refused: of a Job another one each time.
_POD_NAME = re.compile(r"""\b(pods?) "[^"]*\"""", re.IGNORECASE)
_WORDS_MAX = 300


def is_paused(deployment: Manifest) -> bool:
    """Whether somebody has paused a Deployment (`kubectl rollout pause`) whose roll is not over."""
    return bool(deployment["spec"].get("paused")) and not is_of_newest_template(deployment)


def why_stuck(deployment: Manifest, objects: Objects) -> str:
    """Why the pods of a Deployment's newest template do not become ready: one of them keeps failing, or cannot be made,
    or none of them was available within the progress deadline. "" while there is no such reason."""
    if is_of_newest_template(deployment):
        return ""
    pods = pods_of(objects, deployment["metadata"]["labels"][NAME_LABEL])
    new = pod_faults.of_template(pods, template_of(deployment))
    if why := pod_faults.why_failing(new) or why_not_created(deployment):
        return why
    progressing = _conditions(deployment).get("Progressing", {})
    if progressing.get("status") == "False":
        return pod_faults.why_not_running(new) or str(progressing.get("message", "no progress"))
    return ""


def why_without_node(deployment: Manifest, objects: Objects) -> str:
    """Why a pod of a Deployment's newest template has no node, "" while all have one. It may get one yet."""
    pods = pods_of(objects, deployment["metadata"]["labels"][NAME_LABEL])
    return pod_faults.why_without_node(pod_faults.of_template(pods, template_of(deployment)))


def why_not_created(deployment: Manifest) -> str:
    """Why a pod of a Deployment, or all its new ones, could not be made when that was tried last, "" if they were."""
    conditions = _conditions(deployment)
    refused = conditions.get("ReplicaFailure", {})
    if refused.get("status") == "True":
        return _shortened(f"{refused.get('reason', FAILED_CREATE)}: {refused.get('message', '')}")
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == "ReplicaSetCreateError":
        return _shortened(f"{progressing['reason']}: {progressing.get('message', '')}")
    return ""


def without_pods(objects: Objects) -> list[Manifest]:
    """The Jobs and StatefulSets that should have a pod and have none: only events tell why their pods are refused."""
    jobs = {_labels(each).get("job-name") for key, each in objects.items() if key.kind == "Pod"}
    return [
        found
        for key, found in sorted(objects.items())
        if (key.kind == "Job" and not is_complete(found) and key.name not in jobs)
        or (key.kind == "StatefulSet" and not pods_of(objects, _labels(found).get(NAME_LABEL, "")))
    ]


def newest_refusal(events: Iterable[Manifest]) -> str:
    """Why a pod could not be made when that was tried last, by the events of its owner; "" if it was made."""
    tries = [each for each in events if each.get("reason") in (FAILED_CREATE, SUCCESSFUL_CREATE)]
    newest = max(tries, key=_time, default=None)
    if newest is None or newest["reason"] == SUCCESSFUL_CREATE:
        return ""
    words = _POD_NAME.sub(r"\1", str(newest.get("message", "")))
    return _shortened(f"{FAILED_CREATE}: {words}")


def _time(event: Manifest) -> str:
    """All in UTC and of the same form, to the second: what differs in the rest is told at the same time."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((str(each)[:19] for each in times if each), default=str(event["metadata"].get("creationTimestamp")))


def _conditions(found: Manifest) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in found.get("status", {}).get("conditions") or ()}


def _labels(found: Manifest) -> dict[str, str]:
    return found["metadata"].get("labels") or {}


def _shortened(words: str) -> str:
    return words if len(words) <= _WORDS_MAX else words[: _WORDS_MAX - 1] + "…"
