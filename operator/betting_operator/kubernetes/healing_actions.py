"""What the healer did as objects: names, labels, bounds, which are kept, and how long something took. Pure.

Names are made of the time of the flight record, so that a list is in the order in which things happened, a write that
is repeated makes nothing twice, and `betting heal log` has more about each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from betting_operator.kubernetes import crd_healing_actions as crd
from betting_operator.kubernetes import schema
from betting_operator.kubernetes.kinds import Resource
from betting_operator.kubernetes.manifests import (
    INSTANCE_LABEL,
    MANAGED_BY_LABEL,
    PART_OF,
    PART_OF_LABEL,
    Manifest,
)
from betting_operator.kubernetes.workloads import OPERATOR

HEALING_ACTIONS = Resource(crd.API_VERSION, crd.KIND, crd.PLURAL)
DIAGNOSIS_LABEL = f"{schema.GROUP}/diagnosis"
# Whichever leaves less.
KEPT_MAX = 200
KEPT_FOR = timedelta(days=7)
NO_ACTION = "None"


def name_of(platform: str, wall_us: int, place: int) -> str:
    """The name of an object. wall_us: the time of its flight record, in microseconds since 1970."""
    at = _at(wall_us)
    return f"{platform}-{at:%Y%m%d-%H%M%S}-{at.microsecond:06}-{place:03}"


def selector(platform: str) -> str:
    """Of all objects of a platform."""
    return f"{INSTANCE_LABEL}={platform},{MANAGED_BY_LABEL}={OPERATOR}"


def manifest(platform: Manifest, name: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
    """An object that Kubernetes deletes with its platform, which is given as it is in the cluster.

    spec, status: as the CRD has them, but of any length; "", () and None are left out.
    """
    metadata = platform["metadata"]
    labels = {
        INSTANCE_LABEL: metadata["name"],
        PART_OF_LABEL: PART_OF,
        MANAGED_BY_LABEL: OPERATOR,
    }
    if diagnosis := spec.get("diagnosis"):
        labels[DIAGNOSIS_LABEL] = diagnosis
    return {
        "apiVersion": crd.API_VERSION,
        "kind": crd.KIND,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": schema.API_VERSION,
                    "kind": schema.KIND,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                }
            ],
        },
        "spec": _bounded({"platform": metadata["name"], **spec}),
        "status": _bounded(status),
    }


def repaired(at_us: int, took_ms: int) -> Manifest:
    """The change of an object once its diagnosis is over. at_us: microseconds since 1970."""
    return {"status": {"repaired": time_of(at_us), "timeToRepair": duration(took_ms * 1_000)}}


def expired(objects: Iterable[Manifest], now_us: int) -> list[Manifest]:
    """Those to be deleted: older than seven days, or not of the newest 200. now_us: microseconds since 1970.

    By their names, which are in the order of time: the API server's clock may be another.
    """
    ordered = sorted(objects, key=lambda each: str(each["metadata"]["name"]), reverse=True)
    oldest = _at(now_us) - KEPT_FOR
    return [
        each
        for number, each in enumerate(ordered)
        if number >= KEPT_MAX or datetime.fromisoformat(each["metadata"]["creationTimestamp"]) < oldest
    ]


def time_of(at_us: int) -> str:
    """A time as Kubernetes writes it, to the microsecond."""
    return _at(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def duration(us: int) -> str:
    """So many microseconds for people: 0ms, 35ms, 1.2s, 4m10s."""
    if us < 1_000_000:
        return f"{us // 1_000}ms"
    seconds = us / 1e6
    if seconds < 100:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m"


def short(text: str, most: int = crd.TEXT_LENGTH_MAX) -> str:
    """A text within the bounds of the schema."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _bounded(value: Mapping[str, Any]) -> Manifest:
    return {name: _bound(name, each) for name, each in value.items() if each not in ("", None, (), [])}


def _bound(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return short(value)
    if isinstance(value, Mapping):
        return _bounded(value)
    if isinstance(value, Sequence):
        most = crd.SHARDS_MAX if name == "shards" else crd.EVIDENCE_MAX
        return [short(each) if isinstance(each, str) else each for each in value[:most]]
    return value


def _at(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
