"""spec.healing of a BettingPlatform: what the healer may do. A policy that cannot work is refused by its rules."""

from __future__ import annotations

from betting_operator.healing.maintenance import DAYS
from betting_operator.healing.policy import Policy
from betting_operator.kubernetes.schema_parts import Schema, boolean, group, integer, text
from betting_operator.kubernetes.workloads import WORKLOADS, Workload

SERVICES = [each for each in WORKLOADS.values() if each.field]
# In which the budget counts.
WINDOW_S = Policy().window_ms // 1_000
# Half of 2,048 shards are handed over in seconds; a window that a person has mistyped is mostly shorter than this.
WINDOW_MIN_MINUTES = 15


def healing() -> Schema:
    """The schema of `spec.healing`."""
    return group(
        "What the healer may do: docs/operator/healing-policy.md. Shards of dead owners go to others whatever it says.",
        {
            "enabled": boolean("Whether the healer runs.", default=True),
            "paused": text("Why healing is paused; empty: it is not. Nothing is killed, drained or moved.", "")
            | {"maxLength": 200}
            | _rule(
                "self == '' || (self.trim() == self && !self.contains('\\n'))",
                "paused is the reason of the pause, in one line, without blanks around it; empty: no pause",
            ),
            "dryRun": boolean("The healer says what it would do, and does nothing.", default=False),
            "budget": integer(
                "Repeated disruptive actions on one service within five minutes.", 10, least=1, most=10_000
            ),
            "coolDownSeconds": integer("Between two disruptive actions on one service.", 5, least=0, most=3_600)
            | _rule(
                f"self < {WINDOW_S}",
                f"coolDownSeconds must be less than {WINDOW_S}: budget counts the actions of five minutes",
            ),
            "services": _services(),
            "rebalancing": text(
                "Whether moves of shards for balance begin by themselves, or once a person has approved them.",
                "Automatic",
                enum=["Automatic", "Approve"],
            ),
            "maintenanceWindows": {
                "type": "array",
                "description": "When moves of shards for balance may begin; none: at any time. Repairs never wait.",
                "maxItems": 21,
                "items": maintenance_window(),
                "default": [],
            },
        },
    )


def enough_replicas(workload: Workload) -> tuple[str, str]:
    """The rule of spec, and its message, that a service can have its minHealthyPercent without one of its pods."""
    service, limits = f"self.services.{workload.field}", f"self.healing.services['{workload.field}']"
    least = f"(has({service}.replicas) ? {service}.replicas : {workload.replicas})"
    if workload.scales:
        least = f"(has({service}.autoscaling) ? {service}.autoscaling.minReplicas : {least})"
    return (
        f"!has(self.healing) || !has(self.healing.services) || !('{workload.field}' in self.healing.services)"
        f" || !has({limits}.minHealthyPercent) || !has(self.services) || !has({service}) || {least} == 1"
        f" || {limits}.minHealthyPercent * {least} <= 100 * ({least} - 1)",
        f"healing.services.{workload.field}.minHealthyPercent is more than all of its replicas (with autoscaling: "
        "minReplicas) but one are, so that nothing would be done about one that fails. With 2 replicas it is at most "
        "50, with 3 at most 66, with 4 at most 75",
    )


def _services() -> Schema:
    names = [each.field for each in SERVICES]
    limits = {
        "budget": integer("In place of healing.budget.", least=1, most=10_000),
        "minHealthyPercent": integer(
            "An instance is killed, drained or moved only while so much of the service is healthy without it.",
            0,
            least=0,
            most=100,
        )
        | _rule(
            "self < 100",
            "minHealthyPercent must be less than 100: an instance that needs an action is not healthy itself, so "
            "nothing would be done; to have that, set paused",
        ),
    }
    return {
        "type": "object",
        "description": "Limits of single services, by their names in spec.services.",
        "maxProperties": len(names),
        "additionalProperties": group("Of one service.", limits, optional=True),
        "default": {},
    } | _rule(f"self.all(name, name in {names})", f"healing.services has names of spec.services: {', '.join(names)}")


def maintenance_window() -> Schema:
    """The schema of a time of the week."""
    days = {
        "type": "array",
        "description": "Days that it begins on.",
        "minItems": 1,
        "maxItems": 7,
        "items": {"type": "string", "enum": list(DAYS)},
        "x-kubernetes-list-type": "set",
        "default": list(DAYS),
    }
    fields = {
        "days": days,
        "start": text("When it begins, in UTC: HH:MM.", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", maxLength=5),
        "durationMinutes": integer("How long it lasts; it may end on the next day.", least=0, most=1_440)
        | _rule(
            f"self >= {WINDOW_MIN_MINUTES}",
            f"durationMinutes must be at least {WINDOW_MIN_MINUTES}: a shorter window may close before it was used",
        ),
    }
    return group("A time of the week.", fields, required=["start", "durationMinutes"], optional=True)


def _rule(rule: str, message: str) -> Schema:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}
