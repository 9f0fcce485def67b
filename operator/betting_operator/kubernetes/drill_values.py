"""What drills are about, as values: faults and their objectives, spec.drills, and what is known of a platform. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from betting_operator.healing.maintenance import Window
from betting_operator.kubernetes import schema_drills
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.schema import GROUP, defaulted
from betting_operator.kubernetes.spec import window
from betting_operator.kubernetes.workloads import OPERATOR, REDIS

# On the platform, by a person: KIND@TIME-RANDOM, TIME as 20261130T001500Z.
REQUEST_ANNOTATION = f"{GROUP}/drill"
# A process gets so long to end: as good as killed, and the kubelet still says how it ended. Less would be two seconds
# too (`minimumGracePeriodInSeconds` of the kubelet).
GRACE_S = 2
PASSED, MISSED, ABORTED = schema_drills.OUTCOMES


@dataclass(frozen=True)
class Fault:
    """What can be injected. workload: whose pod is deleted. diagnoses: what the healer notices it as; none: it has
    nothing to do. detect_s, repair_s: the objectives, from the deletion on: the grace period of two seconds and twice
    the budget of `make e2e-heal`, or, of gateways, the start of another one."""

    workload: str
    diagnoses: tuple[str, ...]
    detect_s: float
    repair_s: float


FAULTS = {
    "DeleteBetService": Fault("bet-service", ("owner-died",), 3, 4),
    "DeleteGateway": Fault("api-gateway", (), 5, 60),
    "FailOverRedis": Fault(REDIS, ("redis-primary-gone", "redis-primary-hung"), 6, 10),
    "DeleteOperator": Fault(OPERATOR, (), 10, 18),
}


@dataclass(frozen=True)
class Objective:
    """Of one fault of a platform, in seconds from the deletion on."""

    kind: str
    detect_s: float
    repair_s: float


@dataclass(frozen=True)
class Drills:
    """spec.drills. every_s: 0: only when a person asks."""

    objectives: Mapping[str, Objective]
    every_s: float
    windows: tuple[Window, ...]
    per_day: int
    between_s: float
    well_s: float
    suspended: bool
    acknowledged: str


@dataclass(frozen=True)
class Pod:
    """created_s: seconds since 1970."""

    name: str
    uid: str
    version: str
    workload: str
    ready: bool
    ending: bool
    created_s: float


@dataclass(frozen=True)
class Action:
    """A HealingAction. began_s, repaired_s: seconds since 1970; None: what it was about lasts."""

    diagnosis: str
    about: str
    began_s: float
    repaired_s: float | None


@dataclass(frozen=True)
class Seen:
    """What is known now. now_s, leading_s: seconds since 1970, of now and of when this operator began to lead.

    operator: its life; pod: its pod. pods: those that exist, the operator's only where a drill is about it. actions: of
    this drill. injected: the name of the last drill whose pod this operator has deleted; problem: why that of another
    could not be deleted. rebalancing: whether shards are being moved on purpose. healer_tells: whether this operator's
    healer has written its first report.
    """

    now_s: float
    leading_s: float
    operator: str
    pod: str
    pods: tuple[Pod, ...] = ()
    actions: tuple[Action, ...] = ()
    injected: str = ""
    problem: str = ""
    rebalancing: bool = False
    healer_tells: bool = False


def parse(resource: Manifest) -> Drills | None:
    """spec.drills; None: there are none."""
    found = defaulted(resource.get("spec")).get("drills")
    if found is None:
        return None
    schedule = found.get("schedule") or {"everyHours": 0, "windows": []}
    known = [each for each in found["faults"] if each["kind"] in FAULTS]  # the CRD may be newer than the operator
    return Drills(
        objectives={each["kind"]: _objective(each) for each in known},
        every_s=3_600.0 * schedule["everyHours"],
        windows=tuple(window(each) for each in schedule["windows"]),
        per_day=found["budget"]["perDay"],
        between_s=60.0 * found["budget"]["minutesBetween"],
        well_s=60.0 * found["wellMinutes"],
        suspended=found["suspended"],
        acknowledged=found["acknowledged"],
    )


def _objective(found: Mapping[str, Any]) -> Objective:
    default = default_objective(found["kind"])
    repair_s = float(found.get("repairSeconds", max(default.repair_s, found.get("detectSeconds", 0))))
    return Objective(found["kind"], float(found.get("detectSeconds", min(default.detect_s, repair_s))), repair_s)


def default_objective(kind: str) -> Objective:
    """Where spec.drills has none; none at all of a kind that this operator does not know."""
    fault = FAULTS.get(kind)
    return Objective(kind, 0.0, 0.0) if fault is None else Objective(kind, fault.detect_s, fault.repair_s)


def redis_of(resource: Manifest) -> Manifest:
    """What the status says of it."""
    found: Manifest = (resource.get("status") or {}).get("redis") or {}
    return found


def time_of(at_s: float) -> str:
    """A time as Kubernetes writes it, to the millisecond."""
    return at(at_s).isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000Z", "Z")


def actions_of(objects: Iterable[Manifest]) -> tuple[Action, ...]:
    """HealingActions, as far as drills need them."""
    return tuple(
        Action(
            each["spec"].get("diagnosis", ""),
            each["spec"].get("about", ""),
            seconds_of(each["status"]["began"]),
            seconds_of(each["status"]["repaired"]) if "repaired" in each["status"] else None,
        )
        for each in objects
    )


def pod_of(found: Manifest, workload: str) -> Pod:
    """A pod as the API server has it."""
    metadata = found["metadata"]
    conditions = (found.get("status") or {}).get("conditions") or ()
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        workload=workload,
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in conditions),
        ending=bool(metadata.get("deletionTimestamp")),
        created_s=seconds_of(metadata["creationTimestamp"]),
    )


def seconds_of(time: str) -> float:
    """A time of Kubernetes, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


def compact_s(time: str) -> float:
    """Of digits alone; what is no time at all is long past."""
    try:
        return datetime.strptime(time, "%Y%m%dT%H%M%S%z").timestamp()
    except ValueError:
        return 0.0


def at(at_s: float) -> datetime:
    """So many seconds after 1970."""
    return datetime.fromtimestamp(at_s, UTC)
