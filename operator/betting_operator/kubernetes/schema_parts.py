"""What the schema of a BettingPlatform is made of: fields with bounds and defaults, parts of objects of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from betting_operator.kubernetes.workloads import Workload

Schema = dict[str, Any]
# Of a Secret: a DNS subdomain (RFC 1123), which may have dots.
_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_CIDR = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"


def text(description: str, default: str | None = None, **more: Any) -> Schema:
    """A string; `more` are keywords of OpenAPI (pattern, enum, maxLength)."""
    return _with_default({"type": "string", "description": description, "maxLength": 253, **more}, default)


def integer(description: str, default: int | None = None, *, least: int, most: int) -> Schema:
    """An integer within bounds."""
    bounds = {"type": "integer", "description": description, "minimum": least, "maximum": most}
    return _with_default(bounds, default)


def boolean(description: str, *, default: bool) -> Schema:
    """A boolean."""
    return _with_default({"type": "boolean", "description": description}, default)


def quantity(description: str, default: str | None = None) -> Schema:
    """A Kubernetes quantity, such as 500m or 2Gi."""
    return text(description, default, pattern=_QUANTITY, maxLength=20)


def names(description: str, most: int, *, pattern: str = _NAME) -> Schema:
    """A list of names."""
    return {
        "type": "array",
        "description": description,
        "maxItems": most,
        "items": {"type": "string", "pattern": pattern, "maxLength": 253},
    }


def group(
    description: str,
    fields: Mapping[str, Schema],
    *,
    required: Sequence[str] = (),
    rules: Sequence[tuple[str, str]] = (),
    optional: bool = False,
) -> Schema:
    """An object with fields. Unless it is optional it is always there, with the defaults of its fields.

    rules: pairs of a CEL expression and the message for whoever breaks it. The default {} is checked by them before
    the defaults of its fields are filled in, so they ask with has().
    """
    found: Schema = {"type": "object", "description": description, "properties": dict(fields)}
    if required:
        found["required"] = list(required)
    if rules:
        found["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    if not optional:
        found["default"] = {}
    return found


def _with_default(schema: Schema, default: object) -> Schema:
    return schema if default is None else schema | {"default": default}


def secret_key(description: str, key: str) -> Schema:
    """A key of a Secret. key: the default of its name."""
    fields = {
        "name": text("Name of the Secret, in the platform's namespace.", pattern=_NAME),
        "key": text("Key in the Secret.", key),
    }
    return group(description, fields, required=["name"], optional=True)


def cidrs(
    field: str = "cidrs",
    description: str = "Where it may be, as 10.20.0.0/16: network policies let only these addresses through.",
) -> Schema:
    """Networks of a NetworkPolicy. field: its name, for the message."""
    found = names(description, 16, pattern=_CIDR)
    rule = {"rule": "self.all(each, isCIDR(each))", "message": f"each of {field} is a network, as 10.20.0.0/16"}
    found["items"]["maxLength"] = 49
    return found | {"x-kubernetes-validations": [rule]}


def resources(workload: Workload) -> Schema:
    """The resources of each pod of a workload, which has the defaults."""
    cpu, memory, memory_limit = workload.resources
    fields = {
        "cpu": quantity("CPU request.", cpu),
        "memory": quantity("Memory request.", memory),
        "memoryLimit": quantity("Memory limit; there is no CPU limit, which would throttle.", memory_limit),
    }
    rule = (
        "!has(self.memory) || !has(self.memoryLimit)"
        " || quantity(self.memory).compareTo(quantity(self.memoryLimit)) <= 0",
        "memory must not be more than memoryLimit",
    )
    return group("Resources of each pod.", fields, rules=[rule])


def peers(field: str, description: str) -> Schema:
    """A list of peers of a NetworkPolicy. field: its name, for the message."""
    return {"type": "array", "description": description, "maxItems": 16, "items": _peer(field), "default": []}


def _peer(field: str) -> Schema:
    """A NetworkPolicyPeer of Kubernetes."""
    block = {
        "cidr": text("A network, as 10.20.0.0/16.", pattern=_CIDR, maxLength=49)
        | {"x-kubernetes-validations": [{"rule": "isCIDR(self)", "message": "cidr is a network, as 10.20.0.0/16"}]},
        "except": cidrs("except", "Networks in it that may not."),
    }
    fields = {
        "podSelector": _label_selector("Pods with these labels."),
        "namespaceSelector": _label_selector("Namespaces with these labels."),
        "ipBlock": group("Addresses.", block, required=["cidr"], optional=True),
    }
    rule = (
        "has(self.ipBlock) ? !has(self.podSelector) && !has(self.namespaceSelector)"
        " : has(self.podSelector) || has(self.namespaceSelector)",
        f"each of {field} has podSelector, namespaceSelector or both, or else ipBlock",
    )
    return group("A peer.", fields, rules=[rule], optional=True)


def _label_selector(description: str) -> Schema:
    expression = {
        "key": text("Name of the label."),
        "operator": text("How it is compared.", enum=["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": names("For In and NotIn.", 32, pattern=_LABEL_VALUE),
    }
    fields = {
        "matchLabels": {
            "type": "object",
            "description": "Labels and their values.",
            "maxProperties": 32,
            "additionalProperties": {"type": "string", "maxLength": 63},
        },
        "matchExpressions": {
            "type": "array",
            "description": "All of them must hold.",
            "maxItems": 16,
            "items": group("One of them.", expression, required=["key", "operator"], optional=True),
        },
    }
    return group(description, fields, optional=True)


def toleration() -> Schema:
    """A Toleration of Kubernetes."""
    fields = {
        "key": text("Key of the taint; none: every taint."),
        "operator": text("How the value is compared.", enum=["Exists", "Equal"]),
        "value": text("Value of the taint."),
        "effect": text(
            "Effect of the taint; none: every effect.", enum=["NoSchedule", "PreferNoSchedule", "NoExecute"]
        ),
        "tolerationSeconds": {
            "type": "integer",
            "format": "int64",
            "description": "For NoExecute: for how many seconds; none: for good.",
        },
    }
    return group("A toleration.", fields, optional=True)


def string_map(description: str) -> Schema:
    """Names and values, such as annotations and labels."""
    return {
        "type": "object",
        "description": description,
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 4096},
        "default": {},
    }
