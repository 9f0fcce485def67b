"""What the healer tells of the present: from a small file that its process writes to the status of the platform. Pure.

The file is about one term of the healer. The status goes on from what the terms before have told, so a new leader
forgets no failover and no repair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from betting_operator.kubernetes.schema_parts import Schema

# Beside the folder of the flight record.
FILE = "healing.json"
ACTIVE_MAX = 32
FAILOVERS_MAX = 5
MESSAGE_LENGTH_MAX = 512
# Fields of the status. All but the first stay while no healer runs.
_ACTIVE, _FAILOVERS, _REPAIRS, _LAST = "activeDiagnoses", "lastFailovers", "meanTimeToRepair", "lastAction"
_KEPT = (_FAILOVERS, _REPAIRS, _LAST)
_KINDS = {_ACTIVE: list, _FAILOVERS: list, _REPAIRS: list, _LAST: dict}

Report = dict[str, Any]


def parse(text: str) -> Report | None:
    """What the file says; None when it is not whole or not one of ours."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("term"), int):
        return None
    if any(not isinstance(found[name], kind) for name, kind in _KINDS.items() if name in found):
        return None
    return found


class Told:
    """The fields of the status that come from the healer, over all its terms."""

    def __init__(self) -> None:
        self._uid = ""
        self._term = -1
        self._base: Report = {}
        self._last: Report | None = None

    def fields(self, uid: str, before: Mapping[str, Any], report: Report | None) -> Report:
        """uid: of the platform. before: its present status. report: None while no healer runs, or it has told nothing:
        then nothing is known to be wrong, or to be well."""
        if uid != self._uid:
            self._uid, self._term, self._last = uid, -1, None
        if self._last is None:
            self._last = {name: before[name] for name in _KEPT if name in before}
        if report is None:
            return dict(self._last)
        if report["term"] != self._term:
            self._term, self._base = report["term"], self._last
        found = merged(self._base, report)
        self._last = {name: found[name] for name in _KEPT if name in found}
        return found


def merged(base: Mapping[str, Any], report: Mapping[str, Any]) -> Report:
    """The fields of the status. base: those of the terms before; report: of this term."""
    failovers = [*report.get(_FAILOVERS, ()), *base.get(_FAILOVERS, ())]
    newest = {each["epoch"]: each for each in reversed(failovers)}
    repairs = {each["diagnosis"]: each for each in base.get(_REPAIRS, ())}
    for each in report.get(_REPAIRS, ()):
        before = repairs.get(each["diagnosis"])
        repairs[each["diagnosis"]] = each if before is None else _summed(before, each)
    found: Report = {
        _ACTIVE: list(report.get(_ACTIVE, ()))[:ACTIVE_MAX],
        _FAILOVERS: [newest[epoch] for epoch in sorted(newest, reverse=True)][:FAILOVERS_MAX],
        _REPAIRS: [repairs[name] for name in sorted(repairs)],
        _LAST: report.get(_LAST) or base.get(_LAST),
    }
    return {name: value for name, value in found.items() if value}


def repair(diagnosis: str, took_s: float, last: str, before: Report | None = None) -> Report:
    """An element of meanTimeToRepair with one repair more. last: when it was over."""
    found = {
        "diagnosis": diagnosis,
        "count": 1,
        "meanSeconds": round(took_s, 3),
        "longestSeconds": round(took_s, 3),
        "lastSeconds": round(took_s, 3),
        "lastRepaired": last,
    }
    return found if before is None else _summed(before, found)


def _summed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Report:
    count = before["count"] + after["count"]
    total = before["count"] * before["meanSeconds"] + after["count"] * after["meanSeconds"]
    longest = max(before["longestSeconds"], after["longestSeconds"])
    return {**after, "count": count, "meanSeconds": round(total / count, 3), "longestSeconds": longest}


def schema() -> dict[str, Schema]:
    """The schemas of the fields, for the CRD."""
    active = {
        "kind": _text("A diagnosis, as docs/runbooks names it."),
        "target": _text("A pod, shard, workload or part."),
        "certainty": _text("`confirmed` is acted on; `suspected` and `cannot-tell` are not."),
        "severity": _text("`page`, `warn` or `note`. Left out where nobody has to be told."),
        "since": _time("When its evidence began."),
        "message": _text("What it means, and the evidence when it was confirmed, or began."),
    }
    failover = {
        "from": _text("The node that was primary."),
        "to": _text("The node that became it."),
        "epoch": _whole("Goes up with every new primary."),
        "ended": _time("When the new primary was recorded."),
        "seconds": _number("From the beginning of the evidence until then."),
    }
    repairs = {
        "diagnosis": _text("As docs/runbooks names it."),
        "count": _whole("Times it was confirmed and then over."),
        "meanSeconds": _number("From the beginning of the evidence until it was over: the mean of all."),
        "longestSeconds": _number("The longest."),
        "lastSeconds": _number("The last."),
        "lastRepaired": _time("When the last one was over."),
    }
    last = {
        "action": _text("As the HealingAction has it."),
        "diagnosis": _text("What it answered."),
        "target": _text("To whom it was done."),
        "outcome": _text("`Done`, `Unchanged` or `Failed`."),
        "ended": _time("When it ended."),
        "name": _text("The HealingAction with the rest."),
    }
    return {
        _ACTIVE: _list(f"What is wrong now, the most urgent first, at most {ACTIVE_MAX}.", active, ACTIVE_MAX, "kind"),
        _FAILOVERS: _list("The last failovers of Redis, the newest first.", failover, FAILOVERS_MAX, "epoch"),
        _REPAIRS: _list(
            "How long repairs take, by diagnosis, since the platform was made.",
            repairs,
            64,
            *("diagnosis", "count", "meanSeconds", "longestSeconds"),
        ),
        _LAST: {"type": "object", "description": "What the healer did last.", "properties": last},
    }


def _list(description: str, fields: Mapping[str, Schema], most: int, *required: str) -> Schema:
    items: Schema = {"type": "object", "required": list(required), "properties": dict(fields)}
    return {"type": "array", "description": description, "maxItems": most, "items": items}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _time(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def _whole(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "description": description}


def _number(description: str) -> Schema:
    return {"type": "number", "description": description}
