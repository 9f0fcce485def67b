"""The BettingPlatform resource: every field with its type, unit, default and rules.

The one source of the CRD (`crds/`, and the chart's template), of the defaults, and of docs/operator/reference.md;
`hack/crds.py` writes them. The rules are CEL (x-kubernetes-validations): the API server refuses what breaks them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from betting.runtime.currencies import DECIMALS
from betting_operator.kubernetes.workloads import WORKLOADS, Workload

GROUP = "selfhealing.bet"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "BettingPlatform"
PLURAL = "bettingplatforms"
# With the longest suffix that a name of ours gets ("-notification-service-", then hash and pod) within 63 characters.
NAME_LENGTH_MAX = 20
SETTINGS_MAX = 64

Schema = dict[str, Any]

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_PLATFORM_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"  # of Services too, which are stricter than other objects
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
_DIGEST = r"^sha256:[0-9a-f]{64}$"
_TAG = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
_SEASON = r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_CIDR = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"

# Environment variables that the operator decides, most of them by other fields of the spec: settings may not have them.
DECIDED_SETTINGS = (
    *("BETTING_INSTANCE", "BETTING_BOOT_ID", "BETTING_GENERATION", "BETTING_TERMINATION_LOG"),
    *("BETTING_GRPC_ADDRESS", "BETTING_ADVERTISED_ADDRESS", "BETTING_METRICS_ADDRESS", "BETTING_HEALTH_ADDRESS"),
    *("BETTING_HTTP_ADDRESS", "BETTING_TRUSTED_PROXIES", "BETTING_MONITORED"),
    *("BETTING_USER_SERVICE", "BETTING_WALLET_SERVICE", "BETTING_EVENT_SERVICE", "BETTING_ODDS_SERVICE"),
    *("BETTING_SETTLEMENT_SERVICE", "BETTING_NOTIFICATION_SERVICE", "BETTING_HEALTH_MONITOR"),
    *("BETTING_POSTGRES_DSN", "BETTING_REDIS_URL", "BETTING_INTERNAL_SECRET"),
    *("BETTING_OPERATOR_EMAIL", "BETTING_OPERATOR_PASSWORD"),
    *("BETTING_SHARD_COUNT", "BETTING_CURRENCIES", "BETTING_SANDBOX_MONEY"),
    *("BETTING_DRAIN_DELAY", "BETTING_DRAIN_TIMEOUT"),
)


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


def _secret_key(description: str, key: str) -> Schema:
    fields = {
        "name": text("Name of the Secret, in the platform's namespace.", pattern=_NAME),
        "key": text("Key in the Secret.", key),
    }
    return group(description, fields, required=["name"], optional=True)


def _cidrs(
    field: str = "cidrs",
    description: str = "Where it may be, as 10.20.0.0/16: network policies let only these addresses through.",
) -> Schema:
    found = names(description, 16, pattern=_CIDR)
    rule = {"rule": "self.all(each, isCIDR(each))", "message": f"each of {field} is a network, as 10.20.0.0/16"}
    found["items"]["maxLength"] = 49
    return found | {"x-kubernetes-validations": [rule]}


def _resources(workload: Workload) -> Schema:
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


def _autoscaling() -> Schema:
    fields = {
        "minReplicas": integer("Fewest pods.", 2, least=1, most=1_000),
        "maxReplicas": integer("Most pods.", 10, least=1, most=1_000),
        "cpuPercent": integer("Wanted CPU use, in percent of the request.", 60, least=1, most=1_000),
        "memoryPercent": integer("Wanted memory use, in percent of the request.", 70, least=1, most=1_000),
    }
    rule = ("self.minReplicas <= self.maxReplicas", "minReplicas must not be more than maxReplicas")
    return group("Scales the pods with their load; replicas is then what it starts with.", fields, rules=[rule])


def _settings() -> Schema:
    decided = ", ".join(f"'{name}'" for name in DECIDED_SETTINGS)
    return {
        "type": "object",
        "description": "Further settings (docs/operating/settings.md), such as BETTING_LOG_LEVEL: debug.",
        "maxProperties": SETTINGS_MAX,
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "default": {},
        "x-kubernetes-validations": [
            {
                "rule": "self.all(name, name.matches('^BETTING_[A-Z0-9_]{1,64}$'))",
                "message": "settings are named BETTING_…: docs/operating/settings.md has them",
            },
            {
                "rule": f"self.all(name, !(name in [{decided}]))",
                # A message with just the name that is wrong (messageExpression) is beyond the API server's budget.
                "message": f"the operator decides {', '.join(DECIDED_SETTINGS)}",
            },
        ],
    }


def _service(workload: Workload) -> Schema:
    fields = {
        "replicas": integer("Number of pods.", workload.replicas, least=1, most=1_000),
        "resources": _resources(workload),
        "settings": _settings(),
    }
    if workload.scales:
        fields["autoscaling"] = _autoscaling()
        del fields["autoscaling"]["default"]  # off unless it is there
    return group(f"{workload.name}: {workload.purpose}", fields)


def _image() -> Schema:
    return group(
        "The one image of every pod. Nothing given: the image of the operator, so that its upgrade rolls the platform.",
        {
            "repository": text("Registry and repository, such as registry.example.com:5000/betting.", ""),
            "tag": text("Tag; empty: the operator's own version.", "", pattern=f"^$|{_TAG}"),
            "digest": text("Digest, instead of a tag: sha256:….", pattern=_DIGEST),
            "pullPolicy": text("When it is pulled.", "IfNotPresent", enum=["Always", "IfNotPresent", "Never"]),
            "pullSecrets": names("Secrets with the registry's credentials, besides those of the operator.", 8),
        },
        rules=[
            ("!has(self.digest) || !has(self.tag) || self.tag == ''", "give either tag or digest"),
            (
                "(has(self.repository) && self.repository != '')"
                " || ((!has(self.tag) || self.tag == '') && !has(self.digest))",
                "tag and digest are of a repository: give repository too",
            ),
        ],
    )


def _database() -> Schema:
    managed = group(
        "One Postgres made by the operator: for development. It has no standby.",
        {
            "storage": quantity("Size of its volume.", "2Gi"),
            "storageClassName": text("Its storage class; empty: the cluster's default.", ""),
            "maxConnections": integer("Connections it takes.", 200, least=20, most=10_000),
            "resources": _resources(WORKLOADS["postgres"]),
        },
        rules=[
            (
                "!has(self.storage) || !has(oldSelf.storage) || self.storage == oldSelf.storage",
                "the size of the volume cannot change",
            ),
            (
                "!has(self.storageClassName) || !has(oldSelf.storageClassName)"
                " || self.storageClassName == oldSelf.storageClassName",
                "the storage class of the volume cannot change",
            ),
        ],
        optional=True,
    )
    return group(
        "Where the journal is. Exactly one of managed and external.",
        {
            "managed": managed,
            "external": group(
                "A Postgres (16 or newer) of yours, with a database that is empty or was used by this platform.",
                {
                    "dsnSecret": _secret_key(
                        "Its address: postgresql://user:password@host:5432/database. The role owns the schema.", "dsn"
                    ),
                    "cidrs": _cidrs(),
                },
                required=["dsnSecret"],
                optional=True,
            ),
        },
        rules=[
            ("has(self.managed) != has(self.external)", "give exactly one of managed and external"),
            (
                "has(self.managed) == has(oldSelf.managed)",
                "a platform cannot change between a managed and an external database: its money is in the old one",
            ),
        ],
    ) | {"default": {"managed": {}}}


def _redis() -> Schema:
    return group(
        "Streams, sessions and rate limits. Nothing in it is kept: all of it can be made again from Postgres.",
        {
            "managed": group(
                "Nodes made by the operator; the healer says which is primary.",
                {
                    "replicas": integer("Number of nodes, the primary included.", 2, least=1, most=5),
                    "maxMemoryMiB": integer("Data that one node may hold, in MiB.", 256, least=16, most=1_048_576),
                    "resources": _resources(WORKLOADS["redis"]),
                },
                rules=[
                    (
                        "!has(self.maxMemoryMiB) || !has(self.resources) || !has(self.resources.memoryLimit)"
                        " || quantity(self.resources.memoryLimit).asApproximateFloat()"
                        " > double(self.maxMemoryMiB) * 1048576.0",
                        "maxMemoryMiB must be less than resources.memoryLimit: a node that fills up would be killed",
                    )
                ],
                optional=True,
            ),
            "external": group(
                "A Redis or Valkey of yours, 7.2 or newer. Its failover is yours.",
                {
                    "urlSecret": _secret_key("Its address: redis://:password@host:6379/0.", "url"),
                    "cidrs": _cidrs(),
                },
                required=["urlSecret"],
                optional=True,
            ),
        },
        rules=[("has(self.managed) != has(self.external)", "give exactly one of managed and external")],
    ) | {"default": {"managed": {}}}


def _feeds() -> Schema:
    return group(
        "Where events, prices and results come from.",
        {
            "seasonReplay": group(
                "Replays a season of real matches.",
                {
                    "season": text(
                        "Name of a shipped season.", "E0-2024-25", pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"
                    ),
                    "speed": text(
                        "Seconds of the season per real second, as a decimal number from 0.001 to 1000000.",
                        "1",
                        pattern=r"^[0-9]{1,7}(\.[0-9]{1,3})?$",
                        maxLength=11,
                    )
                    | {
                        "x-kubernetes-validations": [
                            {
                                "rule": "double(self) >= 0.001 && double(self) <= 1000000.0",
                                "message": "speed is from 0.001 to 1000000",
                            }
                        ]
                    },
                },
                optional=True,
            ),
            "theOddsApi": group(
                "Real odds of The Odds API. Its pod may reach the Internet.",
                {
                    "keySecret": _secret_key("The API key.", "key"),
                    "sports": text(
                        "Keys of sports, comma-separated.",
                        "soccer_epl",
                        pattern=r"^[a-z0-9_]{1,40}( *, *[a-z0-9_]{1,40})*$",
                    ),
                },
                required=["keySecret"],
                optional=True,
            ),
        },
    )


def _gateway_access() -> Schema:
    return group(
        "How bettors reach the gateway.",
        {
            "service": group(
                "The Service in front of the gateway.",
                {
                    "type": text("Its type.", "ClusterIP", enum=["ClusterIP", "NodePort", "LoadBalancer"]),
                    "nodePort": integer("Its port on every node.", least=1, most=65_535),
                    "annotations": _annotations("Its annotations, for the cloud's load balancer."),
                },
                rules=[
                    (
                        "!has(self.nodePort) || (has(self.type) && self.type != 'ClusterIP')",
                        "nodePort needs type NodePort or LoadBalancer",
                    )
                ],
            ),
            "ingress": group(
                "An Ingress; leave it out where you make a route of your own.",
                {
                    "className": text("Ingress class; empty: the cluster's default.", ""),
                    "host": text("Host name of the API.", pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
                    "tlsSecret": text("Secret with the certificate; empty: no TLS here.", ""),
                    "annotations": _annotations("Its annotations, for the ingress controller."),
                },
                required=["host"],
                optional=True,
            ),
            "trustedProxies": integer(
                "Number of proxies in front that append to X-Forwarded-For.", 0, least=0, most=10
            ),
            "from": _peers("from", "Who may reach it: peers of a NetworkPolicy; empty: everybody."),
        },
    )


def _metrics() -> Schema:
    field = "scrapeFrom"
    who = "Who may read the metrics of every service and feed: peers of a NetworkPolicy; empty: nobody."
    return group("Prometheus metrics, at port 7102 of every pod of a service or feed.", {field: _peers(field, who)})


def _peers(field: str, description: str) -> Schema:
    """A list of peers of a NetworkPolicy. field: its name, for the message."""
    return {"type": "array", "description": description, "maxItems": 16, "items": _peer(field), "default": []}


def _peer(field: str) -> Schema:
    """A NetworkPolicyPeer of Kubernetes."""
    block = {
        "cidr": text("A network, as 10.20.0.0/16.", pattern=_CIDR, maxLength=49)
        | {"x-kubernetes-validations": [{"rule": "isCIDR(self)", "message": "cidr is a network, as 10.20.0.0/16"}]},
        "except": _cidrs("except", "Networks in it that may not."),
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


def _toleration() -> Schema:
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


def _annotations(description: str) -> Schema:
    return {
        "type": "object",
        "description": description,
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 4096},
        "default": {},
    }


def _healing() -> Schema:
    return group(
        "What the healer may do. Steals of shards from owners that are dead are never limited.",
        {
            "enabled": boolean("Whether the healer runs.", default=True),
            "budget": integer("Kills and moves of one service within five minutes.", 10, least=1, most=10_000),
        },
    )


def _scheduling() -> Schema:
    return group(
        "Where pods run.",
        {
            "zoneSpread": text(
                "Whether pods of a service must be spread over zones, or only should.",
                "ScheduleAnyway",
                enum=["ScheduleAnyway", "DoNotSchedule"],
            ),
            "nodeSelector": _annotations("Labels that a node must have."),
            "tolerations": {
                "type": "array",
                "description": "Taints that pods tolerate.",
                "maxItems": 16,
                "items": _toleration(),
                "default": [],
            },
            "priorityClassName": text("Priority class of the pods; empty: the cluster's default.", ""),
        },
    )


def spec_schema() -> Schema:
    """The schema of `spec`."""
    services = {each.field: _service(each) for each in WORKLOADS.values() if each.field}
    return group(
        "The platform as it should be.",
        {
            "image": _image(),
            "shardCount": integer("Number of shards; it can never change.", 16, least=1, most=65_536)
            | {"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "shardCount can never change"}]},
            "currencies": {
                "type": "array",
                "description": "ISO 4217 codes that accounts may be in. Keep a code while any account uses it.",
                "minItems": 1,
                "maxItems": 64,
                "items": {"type": "string", "pattern": "^[A-Z]{3}$", "maxLength": 3},
                "x-kubernetes-list-type": "set",
                "x-kubernetes-validations": [
                    {
                        "rule": f"self.all(code, code in {sorted(DECIMALS)})",
                        "message": "each of currencies is a code of ISO 4217 in capitals, as GBP",
                    }
                ],
                "default": ["GBP", "EUR", "USD"],
            },
            "playMoney": boolean("Anybody may deposit any amount, nothing is paid in or out.", default=False),
            "services": group("The services.", services),
            "database": _database(),
            "redis": _redis(),
            "feeds": _feeds(),
            "gateway": _gateway_access(),
            "healing": _healing(),
            "scheduling": _scheduling(),
            "metrics": _metrics(),
            "networkPolicies": boolean("Denies every connection that is not part of the platform.", default=True),
            "paused": boolean("The operator changes nothing; the healer goes on.", default=False),
            "deletionPolicy": text(
                "What happens to volumes and generated Secrets when this resource is deleted.",
                "Retain",
                enum=["Retain", "Delete"],
            ),
        },
    )


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
            "schemaVersion": word | {"description": "The newest migration of the database."},
            "betService": {
                "type": "object",
                "properties": {"replicas": whole, "readyReplicas": whole, "selector": word},
            },
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


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    columns = [
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        ("Shards", "string", ".status.shards.summary", 0),
        ("Redis", "string", ".status.redis.primary", 0),
        ("Age", "date", ".metadata.creationTimestamp", 0),
        ("Image", "string", ".status.image", 1),
        ("Message", "string", ".status.message", 1),
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "bettingplatform",
                "shortNames": ["bp"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.services.betService.replicas",
                            "statusReplicasPath": ".status.betService.replicas",
                            "labelSelectorPath": ".status.betService.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in columns
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "A betting platform: everything that runs, in one namespace.",
                            "properties": {"spec": spec_schema(), "status": status_schema()},
                            "x-kubernetes-validations": root_rules(),
                        }
                    },
                }
            ],
        },
    }


def defaulted(value: Mapping[str, Any] | None, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A spec with the defaults of its schema filled in, as the API server does it: a copy."""
    schema = spec_schema() if schema is None else schema
    found: dict[str, Any] = copy.deepcopy(dict(value or {}))
    for name, field in schema.get("properties", {}).items():
        if name not in found and "default" in field:
            found[name] = copy.deepcopy(field["default"])
        if isinstance(found.get(name), dict) and field.get("type") == "object":
            found[name] = defaulted(found[name], field)
    return found
