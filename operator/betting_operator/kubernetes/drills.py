"""Drills, purely: from the spec, what they have shown so far, how the platform is and the time to what to do now.

A drill begins only while everything has been well for a while, within its budget of harm. It is written down before
anything is done, so that whoever leads next knows of it: it is never done twice, and one that was left is aborted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from betting_operator.healing.maintenance import why_held
from betting_operator.kubernetes import schema_drills, status
from betting_operator.kubernetes.drill_runs import Decision, Noted, go_on
from betting_operator.kubernetes.drill_values import (
    FAULTS,
    MISSED,
    REQUEST_ANNOTATION,
    Drills,
    Pod,
    Seen,
    at,
    compact_s,
    parse,
    redis_of,
    seconds_of,
    time_of,
)
from betting_operator.kubernetes.manifests import Manifest

REQUEST = re.compile(r"([A-Za-z]{1,40})@([0-9]{8}T[0-9]{6}Z)-[a-z0-9]{4,32}")
# A request is carried out at once or never: an annotation that is left over, or restored with a backup, does nothing.
REQUEST_HOLDS_S = 300.0
DAY_S = 86_400.0


def decide(resource: Manifest, seen: Seen, noted: Noted) -> Decision:
    """What to do now. noted: of the decision before."""
    before: Manifest = (resource.get("status") or {}).get("drills") or {}
    wanted = parse(resource)
    decision = _decide(resource, wanted, before, seen, noted)
    after = {name: each for name, each in decision.status.items() if name != "faults"}
    faults = _named_since(wanted, before.get("faults", ()), seen.now_s)
    return replace(decision, status=after | {"faults": faults} if faults else after)


def _named_since(wanted: Drills | None, before: Sequence[Manifest], now_s: float) -> list[Manifest]:
    """What spec.drills names, with since when: one that never passes is overdue from then on."""
    since = {each["kind"]: each["since"] for each in before}
    kinds = () if wanted is None else wanted.objectives
    return [{"kind": each, "since": since.get(each, time_of(now_s))} for each in kinds]


def _decide(resource: Manifest, wanted: Drills | None, before: Manifest, seen: Seen, noted: Noted) -> Decision:
    text = (resource["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION, "")
    asked = text if text and text != (before.get("lastRequest") or {}).get("request") else ""
    if running := before.get("running"):
        decision = go_on(resource, wanted, running, before, seen, noted)
        if asked:
            refusal = _refusal(asked, f"{running['name']} ({running['kind']}) runs now")
            return replace(decision, status={**decision.status, "lastRequest": refusal})
        return decision
    if asked:
        return _answer(resource, wanted, asked, before, seen)
    if wanted is None:
        return Decision({name: each for name, each in before.items() if name != "next"})
    kind = whose_turn(wanted, before.get("runs", ()))
    waits = _why_not_due(wanted, before.get("runs", ()), seen.now_s) or _why_not(resource, wanted, kind, before, seen)
    if waits:
        return Decision({**before, "next": waits[: schema_drills.MESSAGE_LENGTH_MAX]})
    return _begun(resource, kind, "", before, seen)


def whose_turn(wanted: Drills, runs: Sequence[Manifest]) -> str:
    """The kind that ran the longest ago, or never; of several the first in the order of the table."""
    last = {each["kind"]: each["began"] for each in reversed(runs)}
    return min((each for each in FAULTS if each in wanted.objectives), key=lambda each: last.get(each, ""), default="")


def suspended_by(wanted: Drills, runs: Sequence[Manifest]) -> str:
    """The name of the last drill that missed its objectives, if nobody has acknowledged it; else ""."""
    missed = next((each["name"] for each in runs if each["outcome"] == MISSED), "")
    return "" if missed == wanted.acknowledged else str(missed)


def _answer(resource: Manifest, wanted: Drills | None, asked: str, before: Manifest, seen: Seen) -> Decision:
    """To the request of a person: it begins now, or is refused."""
    matched = REQUEST.fullmatch(asked)
    if matched is None:
        why = f"the annotation {REQUEST_ANNOTATION} is KIND@TIME-RANDOM: use `kubectl betting drill run KIND`"
    elif matched[1] not in FAULTS:
        why = f"there is no fault {matched[1]}: they are {', '.join(FAULTS)}"
    elif abs(seen.now_s - compact_s(matched[2])) > REQUEST_HOLDS_S:
        why = f"it was asked for at {matched[2]}, which is over {REQUEST_HOLDS_S:.0f} s from the operator's clock"
    elif wanted is None:
        why = "spec.drills is not set: it names what may be injected, and the budget"
    elif matched[1] not in wanted.objectives:
        why = f"spec.drills.faults does not name {matched[1]}"
    else:
        why = _why_not(resource, wanted, matched[1], before, seen)
        if not why:
            return _begun(resource, matched[1], asked, before, seen)
    return Decision({**before, "lastRequest": _refusal(asked, why)})


def _refusal(asked: str, why: str) -> Manifest:
    most = schema_drills.MESSAGE_LENGTH_MAX
    return {"request": asked[:most], "outcome": "Refused", "message": why[:most]}


def _why_not_due(wanted: Drills, runs: Sequence[Manifest], now_s: float) -> str:
    if not wanted.objectives:
        return "this operator knows none of spec.drills.faults"
    if not wanted.every_s:
        return "a person: there is no spec.drills.schedule"
    scheduled = [seconds_of(each["began"]) for each in runs if not each.get("request")]
    if scheduled and now_s < max(scheduled) + wanted.every_s:
        return f"its time, {time_of(max(scheduled) + wanted.every_s)}"
    held = why_held(wanted.windows, int(now_s))
    return f"spec.drills.schedule.windows: {held}" if held else ""


def _why_not(resource: Manifest, wanted: Drills, kind: str, before: Manifest, seen: Seen) -> str:
    """Why no drill of this kind may begin now, by anybody."""
    runs = before.get("runs", ())
    if wanted.suspended:
        return "spec.drills.suspended is true"
    if by := suspended_by(wanted, runs):
        return f"{by} missed its objectives: look into it, then set spec.drills.acknowledged to its name"
    within = sorted(seconds_of(each["began"]) for each in runs if seen.now_s - seconds_of(each["began"]) < DAY_S)
    if len(within) >= wanted.per_day:
        until = time_of(within[-wanted.per_day] + DAY_S)
        return f"the budget: spec.drills.budget.perDay is {wanted.per_day}, the next may begin at {until}"
    if runs and seen.now_s < (until_s := seconds_of(runs[0]["ended"]) + wanted.between_s):
        return f"spec.drills.budget.minutesBetween: the next may begin at {time_of(until_s)}"
    return _why_unwell(resource, wanted, seen) or _why_no_target(resource, kind, seen)


def _why_unwell(resource: Manifest, wanted: Drills, seen: Seen) -> str:
    found = resource.get("status") or {}
    conditions = {each["type"]: each for each in found.get("conditions") or ()}
    if found.get("observedGeneration") != resource["metadata"].get("generation", 1):
        return "the spec has changed and is not carried out yet"
    for name in (status.READY, *status.CONDITIONS, status.ROLLED_OUT, status.HEALING):
        each = conditions.get(name, {"status": "Unknown", "reason": "NotSaid"})
        if each["status"] != "True":
            return f"{name} is {each['status']} ({each['reason']})"
    since_s = max(seconds_of(each["lastTransitionTime"]) for each in conditions.values())
    if seen.now_s < since_s + wanted.well_s:
        return f"everything to be well for spec.drills.wellMinutes: until {time_of(since_s + wanted.well_s)}"
    if active := found.get("activeDiagnoses"):
        return f"{active[0]['kind']} {active[0].get('target', '')} is diagnosed now"
    return "shards are being moved by a ShardRebalance" if seen.rebalancing else ""


def _why_no_target(resource: Manifest, kind: str, seen: Seen) -> str:
    workload = FAULTS[kind].workload
    pods = [each for each in seen.pods if each.workload == workload]
    if unready := [each.name for each in pods if each.ending or not each.ready]:
        return f"{unready[0]} is not ready"
    if len(pods) < 2:
        return f"{workload} has {len(pods)} pods: another must be there for the one that is deleted"
    return "" if _target(resource, kind, seen) else f"the pod to be deleted of {workload} is not there"


def _target(resource: Manifest, kind: str, seen: Seen) -> Pod | None:
    """The primary, the leader, or else the oldest."""
    pods = [each for each in seen.pods if each.workload == FAULTS[kind].workload]
    if kind == "FailOverRedis":
        pods = [each for each in pods if each.name == redis_of(resource).get("primary")]
    if kind == "DeleteOperator":
        pods = [each for each in pods if each.name == seen.pod]
    return min(pods, key=lambda each: (each.created_s, each.name), default=None)


def _begun(resource: Manifest, kind: str, asked: str, before: Manifest, seen: Seen) -> Decision:
    pod = _target(resource, kind, seen)
    assert pod is not None
    name = f"{at(seen.now_s):%Y%m%d-%H%M%S}"
    running: Manifest = {
        "name": name,
        "kind": kind,
        "target": pod.name,
        "began": time_of(seen.now_s),
        "operator": seen.operator,
        "readyPods": sum(each.ready for each in seen.pods if each.workload == pod.workload),
    }
    if kind == "FailOverRedis":
        running["redisEpoch"] = redis_of(resource).get("epoch", 0)
    after: Manifest = {key: each for key, each in before.items() if key != "next"} | {"running": running}
    if asked:
        running["request"] = asked
        after["lastRequest"] = {"request": asked, "outcome": "Begun", "drill": name}
    return Decision(after, inject=pod)
