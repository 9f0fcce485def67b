"""spec.drills and status.drills of a BettingPlatform: faults that it injects into itself, and what came of them."""

from __future__ import annotations

from typing import Any

from betting_operator.kubernetes.schema_healing import maintenance_window
from betting_operator.kubernetes.schema_parts import Schema, boolean, group, integer, text

# Kind: what it does to what.
KINDS = {
    "DeleteBetService": "deletes the pod of a bet-service",
    "DeleteGateway": "deletes the pod of a gateway",
    "FailOverRedis": "deletes the pod of the Redis primary",
    "DeleteOperator": "deletes the pod of the operator that leads",
}
RUNS_MAX = 20
OUTCOMES = ("Passed", "Missed", "Aborted")
MESSAGE_LENGTH_MAX = 512


def drills() -> Schema:
    """The schema of `spec.drills`."""
    fields = {
        "faults": {
            "type": "array",
            "description": "What may be injected, by schedule or by `kubectl betting drill run`; nothing else is.",
            "minItems": 1,
            "maxItems": len(KINDS),
            "items": _fault(),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["kind"],
        },
        "schedule": group(
            "When drills begin by themselves, each time the fault whose turn it is. Left out: only when a person asks.",
            {
                "everyHours": integer("From the beginning of one to the next.", least=1, most=720),
                "windows": {
                    "type": "array",
                    "description": "Times of the week in which they may begin; none: at any time.",
                    "maxItems": 21,
                    "items": maintenance_window(),
                    "default": [],
                },
            },
            required=["everyHours"],
            optional=True,
        ),
        "budget": group(
            "How much harm is accepted. Drills that people ask for count, and so do those that were aborted.",
            {
                "perDay": integer("Drills within 24 hours.", least=1, most=10),
                "minutesBetween": integer("From the end of one to the beginning of the next.", 60, least=5, most=1_440),
            },
            required=["perDay"],
            optional=True,
        ),
        "wellMinutes": integer("For so long all must have been well before a drill begins.", 10, least=1, most=60),
        "suspended": boolean("No drill begins; one that runs is aborted.", default=False),
        "acknowledged": text(
            "Name of the drill that missed its objectives and was looked into: until then no other begins.",
            "",
            maxLength=63,
        ),
    }
    rules = [
        ("has(self.budget)", "drills need a budget of harm: give budget.perDay"),
        (
            "!has(self.schedule) || !has(self.budget) || self.schedule.everyHours * self.budget.perDay >= 24",
            "schedule.everyHours asks for more drills than budget.perDay allows",
        ),
        (
            "!has(self.schedule) || !has(self.budget) || !has(self.budget.minutesBetween)"
            " || self.budget.minutesBetween <= 60 * self.schedule.everyHours",
            "budget.minutesBetween is longer than schedule.everyHours",
        ),
    ]
    return group(
        "Faults that the platform injects into itself, to measure how fast it heals: docs/operator/drills.md.",
        fields,
        required=["faults"],
        rules=rules,
        optional=True,
    )


def redis_rule() -> tuple[str, str]:
    """The rule of spec, and its message, that a failover has a node to go to."""
    return (
        "!has(self.drills) || !self.drills.faults.exists(each, each.kind == 'FailOverRedis') || !has(self.redis)"
        " || (has(self.redis.managed) && (!has(self.redis.managed.replicas) || self.redis.managed.replicas >= 2))",
        "drills: FailOverRedis needs redis.managed with at least two replicas",
    )


def status() -> Schema:
    """The schema of `status.drills`."""
    running = {
        "name": _text("Its name: when it began, in UTC."),
        "kind": _text("The fault."),
        "target": _text("The pod that is deleted."),
        "began": _time("When the operator set out to delete it."),
        "operator": _text("The life of the operator that does it."),
        "request": _text("The request of a person. Left out of what the schedule began."),
        "readyPods": _whole("Pods of the workload that were ready before."),
        "redisEpoch": _whole("The epoch of the Redis primary before."),
    }
    run = {
        "name": _text("Its name: when it began, in UTC."),
        "kind": _text("The fault."),
        "target": _text("The pod that was deleted."),
        "began": _time("When the operator set out to delete it."),
        "ended": _time("When the result was known."),
        "detectedSeconds": _number("From `began` until it was noticed. Left out where nothing had to be."),
        "repairedSeconds": _number("From `began` until it was repaired. Left out where it was not, or is not known."),
        "detectObjectiveSeconds": _number("The objective of the one."),
        "repairObjectiveSeconds": _number("The objective of the other."),
        "outcome": {
            "type": "string",
            "enum": list(OUTCOMES),
            "description": "`Missed`: later than an objective. `Aborted`: broken off, and no result.",
        },
        "message": _text("The result in words."),
        "request": _text("The request of a person. Left out of what the schedule began."),
    }
    named = {"kind": _text("The fault."), "since": _time("Since when `spec.drills` names it.")}
    request = {
        "request": _text("As the annotation selfhealing.bet/drill has it."),
        "outcome": {"type": "string", "enum": ["Begun", "Refused"], "description": "What was made of it."},
        "drill": _text("The name of the drill that it began."),
        "message": _text("Why it was refused."),
    }
    return {
        "type": "object",
        "description": "What drills have shown.",
        "properties": {
            "running": {"type": "object", "description": "The one that runs now.", "properties": running},
            "next": _text("What the next one waits for."),
            "lastRequest": {"type": "object", "description": "The last request of a person.", "properties": request},
            "faults": {
                "type": "array",
                "description": "What may be injected.",
                "maxItems": len(KINDS),
                "items": {"type": "object", "required": ["kind", "since"], "properties": named},
            },
            "runs": {
                "type": "array",
                "description": f"The last {RUNS_MAX}, the newest first.",
                "maxItems": RUNS_MAX,
                "items": {"type": "object", "required": ["name", "kind", "began", "outcome"], "properties": run},
            },
        },
    }


def _fault() -> Schema:
    kinds = ", ".join(f"{kind} {what}" for kind, what in KINDS.items())
    fields = {
        "kind": text(f"Which: {kinds}.", enum=list(KINDS)),
        "detectSeconds": integer("Objective: noticed within. Default: by kind.", least=1, most=600),
        "repairSeconds": integer("Objective: repaired within. Default: by kind.", least=1, most=600),
    }
    rule = (
        "!has(self.detectSeconds) || !has(self.repairSeconds) || self.detectSeconds <= self.repairSeconds",
        "detectSeconds must not be more than repairSeconds",
    )
    return group("A fault and its objectives.", fields, required=["kind"], rules=[rule], optional=True)


def _text(description: str) -> Schema:
    return {"type": "string", "description": description, "maxLength": MESSAGE_LENGTH_MAX}


def _time(description: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": description}


def _whole(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "number", "description": description}
