"""What the objects of pods say: which instance each is, in which phase, and which lives in it have ended. Pure.

A pod of the platform runs one container, named as its workload. What has no container that always runs (a Job's pod:
the migration) is no instance.

| in the pod                                    | phase                                              |
| --------------------------------------------- | -------------------------------------------------- |
| deletionTimestamp                             | stopping, also on a node that is lost              |
| the container runs, its startup probe passed  | running                                            |
| it runs, and has not passed it yet            | starting                                           |
| it has ended, or waits after an end           | down (CrashLoopBackOff)                            |
| it has never run                              | starting (unscheduled, its image is pulled …)      |
| phase Failed or Succeeded                     | no instance: its owner makes another pod           |

An end is proven by the kubelet's word on the container, with the boot id that the process wrote to its termination log:
nothing else writes there, and the kubelet shows the end of the container's log only where that is empty. What ends
before it has written one is named after its container. A pod that has
gone from the API proves nothing by that: who deletes it with grace 0 does not wait for its end, and a node that is
removed takes its pods' objects with it. "ContainerStatusUnknown" is no end either: there the message is the kubelet's
own, that it cannot find the container.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from betting.life import Life
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import Phase
from betting_operator.kubernetes.manifests import INSTANCE_LABEL, LIFE_ANNOTATION, MANAGED_BY_LABEL, NAME_LABEL
from betting_operator.kubernetes.workloads import GRPC_PORT, HEALTH_PORT, OPERATOR, POSTGRES, REDIS, REDIS_PORT

_SIGNAL_BASE = 128
_OF_THE_KUBELET = frozenset({"", "Error", "Completed"})  # reasons that say no more than the exit code
_UNKNOWN = "ContainerStatusUnknown"
CONTAINER_NAME_LENGTH = 12
# As our processes write it: a sentence is somebody else's.
_BOOT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A life that has ended. how: for people. at_s: by the clock of its node, seconds since 1970; None: not said.
    ordered: its pod was being deleted.
    """

    life: Life
    how: str
    at_s: float | None
    ordered: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of the platform as its object says.

    is_instance: whether it is something that should run. container: the id of the container that runs, "": none does.
    address, health_address: host:port, "" while it has none, or where nobody asks it. node: "" while unscheduled.
    noted: boot id of the life in that container as a healer noted it on the pod, "": none did.
    """

    uid: str
    name: str
    workload: str
    is_instance: bool
    phase: Phase
    container: str
    address: str
    health_address: str
    node: str
    restarts: int
    ended: tuple[Ended, ...]
    noted: str = ""


def selector(platform: str) -> str:
    """The label selector of everything that the operator made for a platform; the operator itself is not in it."""
    return f"{INSTANCE_LABEL}={platform},{MANAGED_BY_LABEL}={OPERATOR}"


def read(pod: Json) -> Pod | None:
    """What a pod's object says; None: it is nothing that the healer watches."""
    metadata, spec, status = _part(pod, "metadata"), _part(pod, "spec"), _part(pod, "status")
    label = _part(metadata, "labels").get(NAME_LABEL)
    # Of a Deployment's or StatefulSet's pods it must be Always, of a Job's it must not.
    if not label or spec.get("restartPolicy", "Always") != "Always":
        return None
    workload = REDIS_WORKLOAD if label == REDIS else str(label)
    name = str(metadata.get("name", ""))
    container: Json = next((each for each in status.get("containerStatuses") or () if each.get("name") == label), {})
    state = _part(container, "state")
    runs = "running" in state
    running = str(container.get("containerID", "")) if runs else ""
    host = _host(str(status.get("podIP") or ""))
    return Pod(
        uid=str(metadata.get("uid", "")),
        name=name,
        workload=workload,
        is_instance=status.get("phase") not in ("Failed", "Succeeded"),
        phase=_phase(metadata, container, state),
        container=running,
        address=_address(workload, host),
        health_address=f"{host}:{HEALTH_PORT}" if host and workload not in (REDIS_WORKLOAD, POSTGRES) else "",
        node=str(spec.get("nodeName") or ""),
        restarts=int(container.get("restartCount", 0)),
        ended=tuple(_ended(workload, name, container, deleted=bool(metadata.get("deletionTimestamp")))),
        noted=_noted(metadata, running),
    )


def last_life(pod: Pod, running: str) -> Life | None:
    """The life in its container, `running` by its boot id; where none runs the one that ended last. None: not known."""
    if pod.container:
        return Life(pod.workload, pod.name, running) if running else None
    return pod.ended[-1].life if pod.ended else None


def why_not_ended(life: Life, known: Pod, found: Pod | None, *, also_ended: bool = False) -> str:
    """Why this life is not ended by deleting the pod of its name as it is now; "": it is.

    known: the pod that was known to have this life; found: what the API server has now, None: nothing. also_ended: also
    where no container runs, and this life was the last one.
    """
    if not (known.container or also_ended):
        return f"{life} is over"
    if found is None or (found.uid, found.container) != (known.uid, known.container):
        return f"{life} is over: its pod or container is another one now"
    if not found.container and found.ended[-1:] != known.ended[-1:]:
        return f"{life} is over: another one has ended after it"
    return ""


def life_note(pod: Pod, boot_id: str) -> dict[str, str]:
    """The annotation that tells the next healer which life runs in the pod, should it not answer any more then."""
    return {LIFE_ANNOTATION: f"{pod.container} {boot_id}"}


def _noted(metadata: Json, container: str) -> str:
    of, _, boot_id = str(_part(metadata, "annotations").get(LIFE_ANNOTATION, "")).partition(" ")
    return boot_id if container and of == container and _BOOT_ID.fullmatch(boot_id) else ""


def _phase(metadata: Json, container: Json, state: Json) -> Phase:
    if metadata.get("deletionTimestamp"):
        return Phase.STOPPING
    if "running" in state:
        return Phase.STARTING if container.get("started") is False else Phase.RUNNING
    has_run = "terminated" in state or bool(_part(container, "lastState")) or bool(container.get("restartCount"))
    return Phase.DOWN if has_run else Phase.STARTING


def _address(workload: str, host: str) -> str:
    if not host or workload == POSTGRES:
        return ""
    return f"{host}:{REDIS_PORT if workload == REDIS_WORKLOAD else GRPC_PORT}"


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _ended(workload: str, name: str, container: Json, *, deleted: bool) -> Iterator[Ended]:
    """The one before last first: if the pod is being deleted, that one ended before."""
    for which in ("lastState", "state"):
        terminated = _part(_part(container, which), "terminated")
        boot_id = str(terminated.get("message") or "").strip()
        if not _BOOT_ID.fullmatch(boot_id):
            boot_id = _unnamed(terminated)
        if boot_id:
            at_s = _at_s(terminated.get("finishedAt"))
            yield Ended(Life(workload, name, boot_id), _how(terminated), at_s, deleted and which == "state")


def _unnamed(terminated: Json) -> str:
    """The name of a life that ended before it wrote its own, as a program does that cannot even start: its container's.

    Nobody else is known by that name, so such an end proves that of no other life, but it is one of a crash loop.
    """
    container = str(terminated.get("containerID") or "").rpartition("/")[2]
    if not container or terminated.get("reason") == _UNKNOWN:
        return ""
    return f"container-{container[:CONTAINER_NAME_LENGTH]}"


def _how(terminated: Json) -> str:
    code = int(terminated.get("exitCode", 0))
    number = int(terminated.get("signal") or max(0, code - _SIGNAL_BASE))
    try:
        how = f"killed by {signal.Signals(number).name}" if number else f"exit code {code}"
    except ValueError:
        how = f"exit code {code}"
    reason = str(terminated.get("reason") or "")
    return how if reason in _OF_THE_KUBELET else f"{reason}, {how}"


def _at_s(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _part(of: Json, name: str) -> Json:
    """A part of an object that may be missing or null."""
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
