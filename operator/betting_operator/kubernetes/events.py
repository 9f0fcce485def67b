"""Events: one for each thing that may happen to an object, counted when it happens again. They are best effort."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from betting_operator.kubernetes.client import Client, ConflictError, Json, NotFoundError
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import digest
from betting_operator.kubernetes.workloads import OPERATOR

EVENTS = Resource("v1", "Event", "events")
MESSAGE_LENGTH_MAX = 1_000
# What was counted last: a write that is repeated counts once.
_LAST_ANNOTATION = "selfhealing.bet/last"


@dataclass(frozen=True)
class Event:
    """kind: Normal or Warning. reason: one word. same: with the object, what makes it the same event again.

    occasion: names this time that it happened, so that writing it again counts once; "": every call counts.
    """

    kind: str
    reason: str
    message: str
    same: tuple[str, ...]
    occasion: str = ""


async def write(client: Client, namespace: str, about: Json, event: Event) -> None:
    """Writes an event, or counts it. about: the object, as the API server gives it. Raises KubernetesError."""
    metadata = about["metadata"]
    name = f"{metadata['name']}.{digest([metadata['uid'], *event.same])}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        found = await client.get(EVENTS, namespace, name)
    except NotFoundError:
        try:
            await client.create(EVENTS, namespace, _new(name, namespace, about, event, now))
            return
        except ConflictError:  # made meanwhile, by a request of ours that seemed lost
            found = await client.get(EVENTS, namespace, name)
    if event.occasion and _last(found) == event.occasion:
        return
    changes: Json = {"count": found.get("count", 1) + 1, "lastTimestamp": now, "message": _short(event.message)}
    if event.occasion:
        changes["metadata"] = {"annotations": {_LAST_ANNOTATION: event.occasion}}
    await client.patch(EVENTS, namespace, name, changes)


def _new(name: str, namespace: str, about: Json, event: Event, now: str) -> Json:
    metadata: Json = {"name": name, "namespace": namespace}
    if event.occasion:
        metadata["annotations"] = {_LAST_ANNOTATION: event.occasion}
    return {
        "metadata": metadata,
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": about["metadata"]["name"],
            "namespace": namespace,
            "uid": about["metadata"]["uid"],
        },
        "reason": event.reason,
        "message": _short(event.message),
        "type": event.kind,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": OPERATOR},
    }


def _last(found: Json) -> str:
    return str((found["metadata"].get("annotations") or {}).get(_LAST_ANNOTATION, ""))


def _short(message: str) -> str:
    return message[:MESSAGE_LENGTH_MAX]
