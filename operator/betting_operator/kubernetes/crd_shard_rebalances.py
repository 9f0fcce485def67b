"""The CustomResourceDefinition of ShardRebalance: which shards are moved between bet-services on purpose, and how far
that is.

`hack/crds.py` writes it, to `crds/` and to a template of the chart. What the operator does with one: `rebalance`.
"""

from __future__ import annotations

from typing import Any

from betting_operator.kubernetes import crd_frame
from betting_operator.kubernetes.crd_frame import Column
from betting_operator.kubernetes.schema_parts import Schema, boolean, group, names, text

KIND = "ShardRebalance"
PLURAL = "shardrebalances"
# A plan is part of the object, which may have 1.5 MB: so many moves have half of that.
MOVES_MAX = 4_096
DRAINED_MAX = 200
PHASES = ("Proposed", "AwaitingApproval", "Running", "Stopped", "Done", "Refused", "Superseded")
_HASH = r"^([0-9a-f]{12})?$"


def spec_schema() -> Schema:
    """The schema of `spec`."""
    fixed = {"rule": "self == oldSelf", "message": "it cannot change: make another ShardRebalance"}
    drain = names("Pods of bet-service that shall own no shards. None: balance between all of them.", DRAINED_MAX)
    ended = {"rule": "self || !oldSelf", "message": "a stop cannot be taken back: make another ShardRebalance"}
    fields = {
        "platform": text("Name of the BettingPlatform, in the same namespace.", minLength=1, maxLength=63)
        | {"x-kubernetes-validations": [fixed]},
        "reason": text("Why, for whoever reads it later.", "", maxLength=200),
        "drain": drain | {"default": [], "x-kubernetes-list-type": "set", "x-kubernetes-validations": [fixed]},
        "approval": text(
            "status.plan.hash of the plan that may be carried out: nothing is done of any other. May be left out where "
            "the policy does not ask for approval.",
            "",
            pattern=_HASH,
            maxLength=12,
        ),
        "stop": boolean("Begin no further move. Hand-overs that were begun are completed.", default=False)
        | {"x-kubernetes-validations": [ended]},
    }
    return group("The moves as they should be.", fields, required=["platform"], optional=True)


def status_schema() -> Schema:
    """The schema of `status`."""
    whole: Schema = {"type": "integer", "format": "int64"}
    word: Schema = {"type": "string"}
    moment: Schema = {"type": "string", "format": "date-time"}
    move = {
        "shard": whole,
        "from": word | {"description": "The pod that owned it when the plan was made."},
        "to": word | {"description": "The pod that takes it."},
    }
    cost = {
        "shards": whole | {"description": "Shards to move."},
        "bytes": whole | {"description": "Size of their newest snapshots: what the receivers load."},
        "pauseMilliseconds": whole | {"description": "Estimate: how long a bet on the largest of them waits."},
        "seconds": whole | {"description": "Estimate: how long all of it takes."},
    }
    plan = {
        "hash": word | {"description": "Of the moves; an approval names it."},
        "moves": {
            "type": "array",
            "description": "What has to be moved, also what is done already.",
            "maxItems": MOVES_MAX,
            "items": {"type": "object", "required": ["shard", "from", "to"], "properties": move},
        },
        "cost": {"type": "object", "properties": cost},
    }
    condition: Schema = {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": word,
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": word,
            "message": word,
            "observedGeneration": whole,
            "lastTransitionTime": moment,
        },
    }
    return {
        "type": "object",
        "description": "The moves as they are.",
        "properties": {
            "observedGeneration": whole | {"description": "Generation of spec that the rest is about."},
            "phase": word | {"description": f"{', '.join(PHASES[:-1])} or {PHASES[-1]}."},
            "message": word | {"description": "How far it is, what it waits for, or why it ended."},
            "plan": {"type": "object", "properties": plan},
            "total": whole | {"description": "Moves of the plan."},
            "done": whole | {"description": "Those whose shard is with its receiver."},
            "startedAt": moment,
            "finishedAt": moment,
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    columns = [
        Column("Platform", "string", ".spec.platform"),
        Column("Phase", "string", ".status.phase"),
        Column("Moves", "integer", ".status.total"),
        Column("Done", "integer", ".status.done"),
        Column("Age", "date", ".metadata.creationTimestamp"),
        Column("Message", "string", ".status.message"),
    ]
    schema: Schema = {
        "description": "Moves of shards between bet-services: for balance, or to empty pods.",
        "required": ["spec"],
        "properties": {"spec": spec_schema(), "status": status_schema()},
    }
    return crd_frame.definition(KIND, PLURAL, "sr", columns, schema, {"status": {}})
