"""The CustomResourceDefinition of HealingAction: what a healer did, or declined to do, once and for all.

It has no status subresource: an object is written whole with one request, or it is not there.
"""

from __future__ import annotations

from typing import Any

from betting_operator.kubernetes import crd_frame
from betting_operator.kubernetes.crd_frame import Column
from betting_operator.kubernetes.schema import API_VERSION
from betting_operator.kubernetes.schema_parts import Schema

KIND = "HealingAction"
PLURAL = "healingactions"
# What is longer is cut off; the flight record has all of it.
TEXT_LENGTH_MAX = 1_024
EVIDENCE_MAX = 16
SHARDS_MAX = 256
OUTCOMES = ("Done", "Unchanged", "Failed", "Declined")

__all__ = ["API_VERSION", "KIND", "PLURAL", "definition"]


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    columns = [
        Column("Age", "date", ".status.ended", 0),
        Column("Diagnosis", "string", ".spec.diagnosis", 0),
        Column("Target", "string", ".spec.target.name", 0),
        Column("Action", "string", ".spec.decision.action", 0),
        Column("Outcome", "string", ".status.outcome", 0),
        Column("Duration", "string", ".status.duration", 0),
        Column("Repaired", "string", ".status.timeToRepair", 0),
        Column("Decision", "string", ".spec.decision.description", 1),
        Column("Message", "string", ".status.message", 1),
        Column("Term", "integer", ".spec.term", 1),
    ]
    schema: Schema = {
        "description": "One action of the healer of a platform, or one that it declined. The "
        "healer writes it, for people.",
        "required": ["spec", "status"],
        "properties": {"spec": _spec(), "status": _status()},
    }
    return crd_frame.definition(KIND, PLURAL, "ha", columns, schema)


def _spec() -> Schema:
    fields = {
        "platform": _text("Name of the BettingPlatform."),
        "term": _whole("The term of the healer: it goes up with every healer that begins."),
        "healer": _text("The life of the healer: pod of the operator and boot id."),
        "diagnosis": _text("What it was about, as docs/runbooks names it. Left out where it answers no diagnosis."),
        "about": _text("Whom the diagnosis was about."),
        "certainty": _text("`confirmed`, but for what was declined.", enum=["confirmed", "suspected", "cannot-tell"]),
        "evidence": {
            "type": "array",
            "description": "What the diagnosis rests on.",
            "maxItems": EVIDENCE_MAX,
            "items": {"type": "string", "maxLength": TEXT_LENGTH_MAX},
        },
        "evidenceSince": _time("When the evidence began: an exit, a silence."),
        "target": {
            "type": "object",
            "description": "To whom it was done.",
            "required": ["name"],
            "properties": {
                "name": _text("The same in a few words."),
                "workload": _text("A workload, as `bet-service`."),
                "instance": _text("A pod."),
                "bootId": _text("The life of the process in it: nothing is ever done to another one."),
                "shards": {
                    "type": "array",
                    "description": "Shards, at most so many as fit.",
                    "maxItems": SHARDS_MAX,
                    "items": {"type": "integer", "format": "int64"},
                },
            },
        },
        "decision": {
            "type": "object",
            "description": "What was decided, and why.",
            "required": ["action", "description"],
            "properties": {
                "action": _text("`MarkDead`, `Place`, `Kill`, `Alert` and so on; `None`: nothing was done."),
                "description": _text("In words."),
                "reason": _text("The rule; of what was declined: why."),
            },
        },
    }
    return {
        "type": "object",
        "description": "What was decided. It never changes.",
        "required": ["platform", "term", "target", "decision"],
        "properties": fields,
        "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "what a healer has done does not change afterwards"}
        ],
    }


def _status() -> Schema:
    fields = {
        "outcome": _text(
            "`Unchanged`: there was nothing to do any more; `Declined`: it was not begun.", enum=list(OUTCOMES)
        ),
        "message": _text("The outcome in words."),
        "began": _time("When the action began."),
        "ended": _time("When it ended."),
        "duration": _text("From the one to the other, as `35ms`."),
        "repaired": _time("When the diagnosis was over. Left out while it lasts."),
        "timeToRepair": _text("From `evidenceSince` until then, as `1.2s`."),
    }
    return {
        "type": "object",
        "description": "What came of it.",
        "required": ["outcome", "began", "ended", "duration"],
        "properties": fields,
    }


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, "maxLength": TEXT_LENGTH_MAX, **more}


def _time(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def _whole(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "description": description}
