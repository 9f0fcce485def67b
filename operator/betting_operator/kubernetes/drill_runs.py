"""The drill that runs: whether it is to be aborted, what has been measured, and its result. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from betting.life import Life
from betting_operator.kubernetes import schema_drills, status
from betting_operator.kubernetes.drill_values import (
    ABORTED,
    FAULTS,
    MISSED,
    PASSED,
    Action,
    Drills,
    Objective,
    Pod,
    Seen,
    default_objective,
    redis_of,
    seconds_of,
    time_of,
)
from betting_operator.kubernetes.manifests import Manifest
from betting_operator.kubernetes.workloads import REDIS

# What is not repaired after so long, or three times its objective, has missed it.
GIVE_UP_S = 120.0
# How much later than the repair the healer's own record of it may come, which is more exact than what is seen here.
RECORD_WITHIN_S = 15.0
_SWITCHED_OFF = ("Disabled", "Paused", "DryRun")


@dataclass(frozen=True)
class Noted:
    """What was seen of the drill that runs, and when it was first, in seconds since 1970."""

    sign_s: float | None = None
    well_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """status: status.drills as it should be. inject: the pod to be deleted once that is written. ended: the result of
    the drill that is over with it. noted: to be remembered while one runs."""

    status: Manifest
    inject: Pod | None = None
    ended: Manifest | None = None
    noted: Noted = field(default_factory=Noted)


def go_on(
    resource: Manifest, wanted: Drills | None, running: Manifest, before: Manifest, seen: Seen, noted: Noted
) -> Decision:
    """What to do about it now. running: as the status (before) has it."""
    kind, took_s = running["kind"], seen.now_s - seconds_of(running["began"])
    objective = (wanted.objectives.get(kind) if wanted is not None else None) or default_objective(kind)
    if why := _why_aborted(resource, wanted, running, seen):
        return _ended(before, running, objective, seen.now_s, ABORTED, why)
    noted = _noted(resource, running, seen, noted)
    detected_s, repaired_s = _measured(running, seen, noted)
    if repaired_s is None:
        if took_s > max(GIVE_UP_S, 3 * objective.repair_s):
            why = f"not repaired within {took_s:.0f} s"
            return _ended(before, running, objective, seen.now_s, MISSED, why, detected_s)
        return Decision(before, noted=noted)
    late = [] if detected_s is None or detected_s <= objective.detect_s else ["detected"]
    late += [] if repaired_s <= objective.repair_s else ["repaired"]
    why = f"{' and '.join(late)} later than the objective" if late else "within the objectives"
    if detected_s is None:
        why += "; the pod gave over its work by itself, so that nothing had to be detected"
    return _ended(before, running, objective, seen.now_s, MISSED if late else PASSED, why, detected_s, repaired_s)


def _ended(
    before: Manifest,
    running: Manifest,
    objective: Objective,
    now_s: float,
    outcome: str,
    message: str,
    detected_s: float | None = None,
    repaired_s: float | None = None,
) -> Decision:
    """The drill that runs is over, with this result."""
    kept = ("name", "kind", "target", "began", "request")
    run: Manifest = {name: running[name] for name in kept if name in running}
    run |= {
        "ended": time_of(now_s),
        "detectObjectiveSeconds": objective.detect_s,
        "repairObjectiveSeconds": objective.repair_s,
        "outcome": outcome,
        "message": message[: schema_drills.MESSAGE_LENGTH_MAX],
    }
    if detected_s is not None:
        run["detectedSeconds"] = round(detected_s, 3)
    if repaired_s is not None:
        run["repairedSeconds"] = round(repaired_s, 3)
    after = {name: each for name, each in before.items() if name != "running"}
    after["runs"] = [run, *before.get("runs", ())][: schema_drills.RUNS_MAX]
    return Decision(after, ended=run)


def _why_aborted(resource: Manifest, wanted: Drills | None, running: Manifest, seen: Seen) -> str:
    if running["operator"] != seen.operator:
        if running["kind"] != "DeleteOperator":
            return "the operator that ran it leads no more: nobody knows how it went on"
        if any(each.name == running["target"] and not each.ending for each in seen.pods):
            return "the operator's pod was not deleted: another leads all the same"
    elif running["name"] != seen.injected:
        return f"the pod was not deleted, or nobody knows: {seen.problem or 'the API server did not answer'}"
    if wanted is None or wanted.suspended:
        return "spec.drills was removed" if wanted is None else "spec.drills.suspended is true"
    if running["kind"] not in FAULTS:
        return "this operator does not know the fault"
    found = resource.get("status") or {}
    healing: Manifest = next((each for each in found.get("conditions") or () if each["type"] == status.HEALING), {})
    if healing.get("reason") in _SWITCHED_OFF:
        return f"healing was switched off meanwhile: {healing.get('message', '')}"
    for each in found.get("activeDiagnoses") or ():
        if each.get("severity") == "page" and each.get("certainty") == "confirmed":
            return f"something calls for a person: {each['kind']} {each.get('target', '')}"
    return ""


def _noted(resource: Manifest, running: Manifest, seen: Seen, noted: Noted) -> Noted:
    sign, well = _looks(resource, running, seen)
    return Noted(
        noted.sign_s if noted.sign_s is not None or not sign else seen.now_s,
        None if not well else noted.well_s if noted.well_s is not None else seen.now_s,
    )


def _looks(resource: Manifest, running: Manifest, seen: Seen) -> tuple[bool, bool]:
    """Whether it has been noticed, as far as that is to be seen from here, and whether all is well again."""
    kind, found = running["kind"], resource.get("status") or {}
    of_workload = [each for each in seen.pods if each.workload == FAULTS[kind].workload]
    others = [each for each in of_workload if each.name != running["target"]]
    if kind == "DeleteBetService":
        shards = found.get("shards") or {}
        return False, len(others) == len(of_workload) and shards.get("total", -1) == shards.get("owned")
    if kind == "DeleteGateway":
        began_s = int(seconds_of(running["began"]))  # the API server's times are whole seconds
        ready = sum(each.ready and not each.ending for each in others)
        return any(each.created_s >= began_s for each in others), ready >= running["readyPods"]
    if kind == "FailOverRedis":
        redis = redis_of(resource)
        newer = redis.get("epoch", 0) > running.get("redisEpoch", 0)
        return newer or redis.get("phase") != "steady", newer and redis.get("phase") == "steady"
    return False, running["operator"] != seen.operator and seen.healer_tells


def _measured(running: Manifest, seen: Seen, noted: Noted) -> tuple[float | None, float | None]:
    """Seconds until it was noticed, and until it was repaired; None: it is not, or that is not known yet.

    By the healer's own records, which are exact to the millisecond; by what was seen from here where it has none.
    """
    began_s, fault = seconds_of(running["began"]), FAULTS[running["kind"]]
    actions = [each for each in seen.actions if _is_about(each, running) and each.began_s >= began_s]
    sign_s = seen.leading_s if running["kind"] == "DeleteOperator" else noted.sign_s
    if actions:
        sign_s = min(each.began_s for each in actions)
    detected_s = None if sign_s is None else max(0.0, sign_s - began_s)
    if noted.well_s is None:
        return detected_s, None
    repaired = [each.repaired_s for each in actions if each.repaired_s is not None]
    if repaired:
        return detected_s, max(0.0, max(repaired) - began_s)
    if fault.diagnoses and seen.now_s - noted.well_s < RECORD_WITHIN_S:
        return detected_s, None
    return detected_s, max(0.0, noted.well_s - began_s)


def _is_about(action: Action, running: Manifest) -> bool:
    fault = FAULTS[running["kind"]]
    if action.diagnosis not in fault.diagnoses:
        return False
    return fault.workload == REDIS or _instance(fault.workload, action.about) == running["target"]


def _instance(workload: str, about: str) -> str:
    """The pod that a HealingAction is about: it names a pod, or a life in one."""
    try:
        return Life.parse(workload, about).instance
    except ValueError:
        return about
