"""The spec of a BettingPlatform: every field with its type, unit, default and rules.

The one source of the CRD (`crd`), of the defaults, and of docs/operator/reference.md. The rules are CEL
(x-kubernetes-validations): the API server refuses what breaks them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from betting.runtime.currencies import DECIMALS
from betting_operator.healing.signals import BET_SERVICE
from betting_operator.kubernetes.schema_drills import drills, redis_rule
from betting_operator.kubernetes.schema_healing import SERVICES, enough_replicas, healing
from betting_operator.kubernetes.schema_parts import (
    Schema,
    boolean,
    cidrs,
    group,
    integer,
    names,
    peers,
    quantity,
    resources,
    secret_key,
    string_map,
    text,
    toleration,
)
from betting_operator.kubernetes.workloads import REDIS_QUORUM, WORKLOADS, Workload

GROUP = "selfhealing.bet"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "BettingPlatform"
PLURAL = "bettingplatforms"
SETTINGS_MAX = 64
_DIGEST = r"^sha256:[0-9a-f]{64}$"
_TAG = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
_SEASON = r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"
# Environment variables that the operator decides, most of them by other fields of the spec: settings may not have them.
DECIDED_SETTINGS = (
    *("BETTING_INSTANCE", "BETTING_BOOT_ID", "BETTING_GENERATION", "BETTING_TERMINATION_LOG"),
    *("BETTING_GRPC_ADDRESS", "BETTING_ADVERTISED_ADDRESS", "BETTING_METRICS_ADDRESS", "BETTING_HEALTH_ADDRESS"),
    *("BETTING_HTTP_ADDRESS", "BETTING_TRUSTED_PROXIES", "BETTING_MONITORED", "BETTING_POLL_INTERVAL"),
    *("BETTING_USER_SERVICE", "BETTING_WALLET_SERVICE", "BETTING_EVENT_SERVICE", "BETTING_ODDS_SERVICE"),
    *("BETTING_SETTLEMENT_SERVICE", "BETTING_NOTIFICATION_SERVICE", "BETTING_HEALTH_MONITOR"),
    *("BETTING_POSTGRES_DSN", "BETTING_REDIS_URL", "BETTING_INTERNAL_SECRET"),
    *("BETTING_OPERATOR_EMAIL", "BETTING_OPERATOR_PASSWORD"),
    *("BETTING_SHARD_COUNT", "BETTING_CURRENCIES", "BETTING_SANDBOX_MONEY"),
    *("BETTING_DRAIN_DELAY", "BETTING_DRAIN_TIMEOUT"),
)


def _autoscaling(workload: Workload) -> Schema:
    fields = {
        "minReplicas": integer("Fewest pods.", 2, least=1, most=1_000),
        "maxReplicas": integer("Most pods.", 10, least=1, most=1_000),
        "cpuPercent": integer("Wanted CPU use, in percent of the request.", 60, least=1, most=1_000),
        "memoryPercent": integer("Wanted memory use, in percent of the request.", 70, least=1, most=1_000),
    }
    if workload.name == BET_SERVICE:
        fields["betsPerSecond"] = integer(
            "Wanted accepted bets per second of a pod. Needs prometheus-adapter (docs/operator/scaling.md).",
            least=1,
            most=1_000_000,
        )
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
        "resources": resources(workload),
        "settings": _settings(),
    }
    if workload.scales:
        fields["autoscaling"] = _autoscaling(workload)
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
            "resources": resources(WORKLOADS["postgres"]),
        },
        rules=[
            (
                "!has(self.storage) || !has(oldSelf.storage) || self.storage == oldSelf.storage",
                "the size of the volume cannot change",
            ),
            (
                "!has(self.storageClassName) || !has(oldSelf.storageClassName)"
                " || self.storageClassName == oldSelf.storageClassName",
                "the storage class of the volume cannot change: see docs/operator/install.md#a-wrong-storage-class",
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
                    "dsnSecret": secret_key(
                        "Its address: postgresql://user:password@host:5432/database. The role owns the schema.", "dsn"
                    ),
                    "cidrs": cidrs(),
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
                    "replicas": integer(
                        "Number of nodes, the primary included. Three or more for production: the primary then takes a "
                        "write only while a replica acknowledges, so that one whose node is lost can be replaced "
                        "without two of them taking writes. With two it takes writes alone, as the loss of either "
                        "would stop them all, and a primary whose node is lost waits until that node is back or a "
                        "person removes its pod. Pods that run keep how they began when the number passes three: "
                        "delete them one by one, the primary last.",
                        2,
                        least=1,
                        most=5,
                    ),
                    "maxMemoryMiB": integer("Data that one node may hold, in MiB.", 256, least=16, most=1_048_576),
                    "resources": resources(WORKLOADS["redis"]),
                },
                rules=[
                    (
                        "!has(self.maxMemoryMiB) || !has(self.resources) || !has(self.resources.memoryLimit)"
                        " || quantity(self.resources.memoryLimit).asApproximateFloat()"
                        " > double(self.maxMemoryMiB) * 1048576.0",
                        "maxMemoryMiB must be less than resources.memoryLimit: a node that fills up would be killed",
                    ),
                    (
                        "!has(self.replicas) || !has(oldSelf.replicas)"  # defaults are checked before they are complete
                        f" || self.replicas >= {REDIS_QUORUM} || oldSelf.replicas < {REDIS_QUORUM}",
                        "a Redis of three or more nodes keeps at least three: its primary waits for a replica's "
                        "acknowledgement, and with fewer nodes the loss of one would stop all writes",
                    ),
                ],
                optional=True,
            ),
            "external": group(
                "A Redis or Valkey of yours, 7.2 or newer. Its failover is yours.",
                {
                    "urlSecret": secret_key("Its address: redis://:password@host:6379/0.", "url"),
                    "cidrs": cidrs(),
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
                    "season": text("Name of a shipped season.", "E0-2024-25", pattern=_SEASON),
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
                    "keySecret": secret_key("The API key.", "key"),
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
                    "annotations": string_map("Its annotations, for the cloud's load balancer."),
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
                    "annotations": string_map("Its annotations, for the ingress controller."),
                },
                required=["host"],
                optional=True,
            ),
            "trustedProxies": integer(
                "Number of proxies in front that append to X-Forwarded-For.", 0, least=0, most=10
            ),
            "from": peers("from", "Who may reach it: peers of a NetworkPolicy; empty: everybody."),
        },
    )


def _metrics() -> Schema:
    field = "scrapeFrom"
    who = "Who may read the metrics of every service and feed: peers of a NetworkPolicy; empty: nobody."
    return group("Prometheus metrics, at port 7102 of every pod of a service or feed.", {field: peers(field, who)})


def _scheduling() -> Schema:
    return group(
        "Where pods run.",
        {
            "zoneSpread": text(
                "Whether pods of a service must be spread over zones, or only should.",
                "ScheduleAnyway",
                enum=["ScheduleAnyway", "DoNotSchedule"],
            ),
            "nodeSelector": string_map("Labels that a node must have."),
            "tolerations": {
                "type": "array",
                "description": "Taints that pods tolerate.",
                "maxItems": 16,
                "items": toleration(),
                "default": [],
            },
            "priorityClassName": text("Priority class of the pods; empty: the cluster's default.", ""),
        },
    )


def spec_schema() -> Schema:
    """The schema of `spec`."""
    services = {each.field: _service(each) for each in SERVICES}
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
            "healing": healing(),
            "drills": drills(),
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
        rules=[*(enough_replicas(each) for each in SERVICES), redis_rule()],
    )


def defaulted(value: Mapping[str, Any] | None, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A spec with the defaults of its schema filled in, as the API server does it: a copy."""
    schema = spec_schema() if schema is None else schema
    found: dict[str, Any] = copy.deepcopy(dict(value or {}))
    for name, field in schema.get("properties", {}).items():
        if name not in found and "default" in field:
            found[name] = copy.deepcopy(field["default"])
        if isinstance(found.get(name), dict) and field.get("type") == "object":
            found[name] = defaulted(found[name], field)
        inner = field.get("additionalProperties", field.get("items"))
        if name in found and isinstance(inner, Mapping) and "properties" in inner:
            found[name] = _each_defaulted(found[name], inner)
    return found


def _each_defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """Of a map of objects or a list of them."""
    if isinstance(value, dict):
        return {name: defaulted(each, schema) for name, each in value.items()}
    return [defaulted(each, schema) for each in value]
