"""Why pods do not run, purely, in the words of the scheduler and of their kubelets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from betting_operator.kubernetes.manifests import TEMPLATE_ANNOTATION, Manifest

CRASH_LOOP = "CrashLoopBackOff"
# Why a container does not run that will not by itself: shown with what the kubelet says.
_WAITS_FOR_A_PERSON = frozenset(
    {
        *("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", CRASH_LOOP),
    }
)
# One end may be an accident. The kubelet starts a container again at once after the first, and waits after the second.
ENDS_OF_A_CRASH_LOOP = 2
# Reasons of the kubelet that say no more than the exit code.
_PLAIN_REASONS = frozenset({"", "Error", "Completed"})
_WORDS_MAX = 200


def of_template(pods: Iterable[Manifest], template: str) -> list[Manifest]:
    """The pods that were made of a Deployment's template, by its hash, and are not being deleted."""
    return [
        pod
        for pod in pods
        if (pod["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION) == template
        and not pod["metadata"].get("deletionTimestamp")
    ]


def why_not_running(pods: Iterable[Manifest]) -> str:
    """The first reason why a pod does not run that will not go away by itself, "" while there is none."""
    return next((why for pod in pods if (why := _why_without_node(pod) or _why_waiting(pod))), "")


def why_without_node(pods: Iterable[Manifest]) -> str:
    """The first reason why the scheduler has no node for a pod, "" while there is none."""
    return next((why for pod in pods if (why := _why_without_node(pod))), "")


def why_failing(pods: Iterable[Manifest]) -> str:
    """The first reason why a pod cannot become ready: a container that cannot be started, or that has ended at least
    twice and is not ready now. "" while there is none; a pod that only has no node yet may get one."""
    for pod in pods:
        if why := _why_waiting(pod):
            return why
        for container in _containers(pod):
            if not container.get("ready") and container.get("restartCount", 0) >= ENDS_OF_A_CRASH_LOOP:
                return _crashing(pod, container)
    return ""


def has_run(pod: Manifest) -> bool:
    """Whether a container of it was started at least once: there was a node for it, and its image."""
    return any(
        {"running", "terminated"} & (each.get("state") or {}).keys() or each.get("restartCount", 0) > 0
        for each in _containers(pod)
    )


def failed_with(pod: Manifest) -> list[str]:
    """Of each container that has ended with an error, its last words or its exit code."""
    ends: list[dict[str, Any]] = [each.get("state", {}).get("terminated") or {} for each in _containers(pod)]
    return [end.get("message", "").strip() or f"exit code {end['exitCode']}" for end in ends if end.get("exitCode")]


def _containers(pod: Manifest) -> Iterator[dict[str, Any]]:
    yield from pod.get("status", {}).get("containerStatuses") or ()


def _why_without_node(pod: Manifest) -> str:
    for each in pod.get("status", {}).get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"{pod['metadata']['name']}: {each.get('reason', 'Unschedulable')}: {each.get('message', '')}"
    return ""


def _why_waiting(pod: Manifest) -> str:
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") == CRASH_LOOP:
            return _crashing(pod, container)
        if waiting.get("reason") in _WAITS_FOR_A_PERSON:
            return f"{pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}"
    return ""


def _crashing(pod: Manifest, container: dict[str, Any]) -> str:
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    # What runs now has been started once more often than it has ended.
    ends = container.get("restartCount", 0) + (0 if "running" in state else 1)
    name = pod["metadata"]["name"]
    reason, code = ended.get("reason") or "", ended.get("exitCode")
    how = [] if reason in _PLAIN_REASONS else [reason]
    how += [] if code is None else [f"exit code {code}"]
    words = last_words(str(ended.get("message") or ""))
    return (
        f"{name}: {CRASH_LOOP}: it has ended {ends} times"
        + (f", last with {', '.join(how)}" if how else "")
        + (f": {words}" if words else "")
        + f" (kubectl logs {name} --previous)"
    )


def last_words(text: str) -> str:
    """The last line that a process wrote: of a traceback, the error. A termination message of one word is the boot id,
    by which the healer knows the life that ended; it tells people nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last[:_WORDS_MAX] if " " in last else ""
