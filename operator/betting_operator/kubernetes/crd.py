"""The CustomResourceDefinition of BettingPlatform: its spec (`schema`), its status, and the columns of kubectl.

`hack/crds.py` writes it, to `crds/` and to the chart's template.
"""

from __future__ import annotations

from typing import Any

from betting_operator.kubernetes import crd_frame, healing_report, schema_drills
from betting_operator.kubernetes.crd_frame import Column
from betting_operator.kubernetes.schema import KIND, PLURAL, spec_schema
from betting_operator.kubernetes.schema_parts import Schema

# With the longest suffix that a name of ours gets ("-notification-service-", then hash and pod) within 63 characters.
NAME_LENGTH_MAX = 20
_PLATFORM_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"  # of Services too, which are stricter than other objects


def status_schema() -> Schema:
    """The schema of `status`."""
    whole: Schema = {"type": "integer", "format": "int64"}
    word: Schema = {"type": "string"}
    condition: Schema = {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": word,
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": word,
            "message": word,
            "observedGeneration": whole,
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    }
    return {
        "type": "object",
        "description": "The platform as it is.",
        "properties": {
            "observedGeneration": whole | {"description": "Generation of spec that the rest is about."},
            "phase": word | {"description": "Installing, Migrating, Rolling, Ready, NotApplied, Degraded or Refused."},
            "message": word | {"description": "What it waits for, and why."},
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "shards": {
                "type": "object",
                "properties": {
                    "summary": word | {"description": "Owned and all, as 16/16."},
                    "owned": whole | {"description": "Those whose owner is a bet-service that runs."},
                    "total": whole,
                    "frozen": whole,
                },
            },
            "redis": {
                "type": "object",
                "properties": {"primary": word, "phase": word, "epoch": whole, "nodes": whole, "readyNodes": whole},
            },
            "image": word | {"description": "The image that runs, once it was rolled out."},
            "database": {
                "type": "object",
                "properties": {
                    "installation": word
                    | {
                        "description": "The id of the platform in the database. While the database has another one, "
                        "nothing is changed; removing this accepts it."
                    }
                },
            },
            "schemaVersion": word | {"description": "The newest migration of the database."},
            "betService": {
                "type": "object",
                "properties": {"replicas": whole, "readyReplicas": whole, "selector": word},
            },
            **healing_report.schema(),
            "drills": schema_drills.status(),
        },
    }


def root_rules() -> list[Schema]:
    """The rules about the name: of what is beside spec and status, CEL sees no more."""
    return [
        {
            "rule": f"self.metadata.name.size() <= {NAME_LENGTH_MAX}",
            "message": f"the name of a platform has at most {NAME_LENGTH_MAX} characters: names of pods are made of it",
        },
        {
            "rule": f"self.metadata.name.matches('{_PLATFORM_NAME}')",
            "message": "the name of a platform begins with a letter and has only a-z, 0-9 and -: Services are named so",
        },
    ]


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    columns = [
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        Column("Shards", "string", ".status.shards.summary", 0),
        Column("Redis", "string", ".status.redis.primary", 0),
        Column("Age", "date", ".metadata.creationTimestamp", 0),
        Column("Image", "string", ".status.image", 1),
        Column("Message", "string", ".status.message", 1),
    ]
    schema: Schema = {
        "description": "A betting platform: everything that runs, in one namespace.",
        "properties": {"spec": spec_schema(), "status": status_schema()},
        "x-kubernetes-validations": root_rules(),
    }
    scale = {
        "specReplicasPath": ".spec.services.betService.replicas",
        "statusReplicasPath": ".status.betService.replicas",
        "labelSelectorPath": ".status.betService.selector",
    }
    return crd_frame.definition(KIND, PLURAL, "bp", columns, schema, {"status": {}, "scale": scale})
