"""Spec to manifests, purely: Deployments, Services, autoscalers and disruption budgets of services and feeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from betting_operator.kubernetes import schema
from betting_operator.kubernetes.spec import Autoscaling, Feed, ManagedRedis, Platform, Resources, SecretKey, Service
from betting_operator.kubernetes.workloads import (
    GRPC_PORT,
    HEALER,
    HEALTH_PORT,
    HTTP_PORT,
    METRICS_PORT,
    OPERATOR,
    REDIS,
    Workload,
)

Manifest = dict[str, Any]

USER_ID = 10_001
# Of /tmp: nothing of weight is written there. The kubelet evicts a pod that exceeds it, not the others of its node.
TMP_SIZE_MIB = 128
# The pod's grace period: NOT_SERVING, this delay until load balancers have heard of it, then draining.
DRAIN_DELAY_S = 3
DRAIN_TIMEOUT_S = 20
GRACE_PERIOD_S = 45
# A pod that is not available for so long after its start stops the roll.
PROGRESS_DEADLINE_S = 180
# gRPC health name of the process itself (betting.runtime.health_server.LIVE).
LIVE = "live"

PART_OF = "betting"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
# What template a Deployment has and a pod was made of, without what counts it; and which one of all it had that is.
TEMPLATE_ANNOTATION = f"{schema.GROUP}/template"
GENERATION_ANNOTATION = f"{schema.GROUP}/template-generation"
# On the pod of the operator that leads, and on no other.
LEADER_LABEL = f"{schema.GROUP}/leader"
# Of the Secrets that a pod reads: another value makes another template, so pods start anew with it.
SECRETS_ANNOTATION = f"{schema.GROUP}/secrets"

INTERNAL_SECRET = "internal"  # noqa: S105  (names of Secrets)
OPERATOR_LOGIN_SECRET = "operator-login"  # noqa: S105
OPERATOR_EMAIL = "operator@betting.local"


@dataclass(frozen=True)
class Addresses:
    """Where Postgres and Redis are, each as a key of a Secret; hashes: of each Secret's data, by its name."""

    postgres: SecretKey
    redis: SecretKey
    hashes: Mapping[str, str] = field(default_factory=dict)


def labels(platform: Platform, workload: str) -> dict[str, str]:
    """The labels of every object of a workload."""
    return {
        NAME_LABEL: workload,
        INSTANCE_LABEL: platform.name,
        PART_OF_LABEL: PART_OF,
        MANAGED_BY_LABEL: OPERATOR,
    }


def selector(platform: Platform, workload: str) -> dict[str, str]:
    """The labels by which the pods of a workload are found. They can never change."""
    return {NAME_LABEL: workload, INSTANCE_LABEL: platform.name}


def owner_reference(platform: Platform) -> Manifest:
    """Says whose object it is: Kubernetes deletes it with its owner, and we touch no other."""
    return {
        "apiVersion": schema.API_VERSION,
        "kind": schema.KIND,
        "name": platform.name,
        "uid": platform.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def manifest(
    platform: Platform, api_version: str, kind: str, name: str, workload: str, *, owned: bool = True, **rest: Any
) -> Manifest:
    """An object of the platform: `rest` are its other fields, annotations among them."""
    metadata: Manifest = {
        "name": name,
        "namespace": platform.namespace,
        "labels": labels(platform, workload),
    }
    if owned:
        metadata["ownerReferences"] = [owner_reference(platform)]
    if annotations := rest.pop("annotations", None):
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def digest(value: object) -> str:
    """A short hash of a value of JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def secret_env(name: str, key: SecretKey) -> Manifest:
    """An environment variable from a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}


def security_context() -> Manifest:
    """Of a container under Pod Security `restricted`, with a read-only root besides."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security_context() -> Manifest:
    """Of a pod under Pod Security `restricted`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_resources(resources: Resources) -> Manifest:
    """Requests, and the memory limit: a CPU limit would throttle."""
    return {
        "requests": {"cpu": resources.cpu, "memory": resources.memory},
        "limits": {"memory": resources.memory_limit},
    }


def pod_spec(
    platform: Platform, workload: str, container: Manifest, *, tmp_size_mib: int = TMP_SIZE_MIB, **more: Any
) -> Manifest:
    """A pod of one container, with what all our pods have in common."""
    scheduling = platform.scheduling
    found: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_PERIOD_S,
        "securityContext": pod_security_context(),
        "containers": [
            {
                "name": workload,
                "image": platform.image.reference,
                "imagePullPolicy": platform.image.pull_policy,
                "securityContext": security_context(),
                **container,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *container.get("volumeMounts", ())],  # noqa: S108
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": f"{tmp_size_mib}Mi"}}],
    }
    if platform.image.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in platform.image.pull_secrets]
    if scheduling.node_selector:
        found["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        found["tolerations"] = [dict(each) for each in scheduling.tolerations]
    if scheduling.priority_class:
        found["priorityClassName"] = scheduling.priority_class
    return found | more


def spread(platform: Platform, workload: str, *, by_template: bool) -> list[Manifest]:
    """Over zones as the spec says, over nodes where it can be. by_template: the pods of one template by themselves."""
    common: Manifest = {"maxSkew": 1, "labelSelector": {"matchLabels": selector(platform, workload)}}
    if by_template:
        common["matchLabelKeys"] = ["pod-template-hash"]
    return [
        {
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": platform.scheduling.zone_spread,
            **common,
        },
        {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", **common},
    ]


def processes(platform: Platform, addresses: Addresses, live: Mapping[str, Manifest]) -> list[Manifest]:
    """The Deployment of every service and feed, by wave. live: the Deployments that exist, by name."""
    found = [
        _deployment(
            platform,
            each.workload,
            service_environment(platform, addresses, each),
            each.resources,
            replicas=each.replicas,
            autoscaling=each.autoscaling,
            secrets=_secrets_of(platform, addresses, each.workload),
            live=live.get(platform.object_name(each.workload.name)),
        )
        for each in platform.services
    ]
    for feed in platform.feeds:
        resources = Resources(*feed.workload.resources)
        names = [*_secrets_of(platform, addresses, feed.workload), *(key.name for key in feed.secrets.values())]
        found.append(
            _deployment(
                platform,
                feed.workload,
                _feed_environment(platform, addresses, feed),
                resources,
                replicas=feed.workload.replicas,
                autoscaling=None,
                secrets=_hashes(addresses, names),
                live=live.get(platform.object_name(feed.workload.name)),
            )
        )
    return found


def services(platform: Platform) -> list[Manifest]:
    """The headless Service of each service and feed, whose name stands for all its pods; those of healer and bettors.

    The healer's has an address of its own: the leader behind it changes within seconds, and resolvers keep a name for
    up to a minute.
    """
    names = [*(each.workload.name for each in platform.services), *(each.workload.name for each in platform.feeds)]
    found = [
        manifest(
            platform,
            "v1",
            "Service",
            platform.object_name(name),
            name,
            spec={
                "clusterIP": "None",
                "selector": selector(platform, name),
                "ports": [
                    {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP"},
                    {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"},
                ],
            },
        )
        for name in names
    ]
    if platform.healing.enabled:
        found.append(
            manifest(
                platform,
                "v1",
                "Service",
                platform.object_name(HEALER),
                HEALER,
                spec={
                    "type": "ClusterIP",
                    "selector": {NAME_LABEL: OPERATOR, LEADER_LABEL: "true"},
                    "ports": [
                        {"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "protocol": "TCP"},
                        {"name": "metrics", "port": METRICS_PORT, "targetPort": METRICS_PORT, "protocol": "TCP"},
                    ],
                },
            )
        )
    gateway = platform.gateway
    port: Manifest = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
    if gateway.node_port is not None:
        port["nodePort"] = gateway.node_port
    found.append(
        manifest(
            platform,
            "v1",
            "Service",
            platform.object_name("gateway"),
            "api-gateway",
            annotations=gateway.annotations,
            spec={
                "type": gateway.service_type,
                "selector": selector(platform, "api-gateway"),
                "ports": [port],
            },
        )
    )
    return found


def disruption_budgets(platform: Platform) -> list[Manifest]:
    """One pod of a service, or one Redis node, at a time may be evicted; one that does not work may always be."""
    names = [each.workload.name for each in platform.services if _most_pods(each) > 1]
    if isinstance(platform.redis, ManagedRedis) and platform.redis.replicas > 1:
        names.append(REDIS)
    return [
        manifest(
            platform,
            "policy/v1",
            "PodDisruptionBudget",
            platform.object_name(name),
            name,
            spec={
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector(platform, name)},
            },
        )
        for name in names
    ]


def autoscalers(platform: Platform) -> list[Manifest]:
    """Up at once within a minute, down slowly: each pod that goes hands its shards on."""
    return [
        _autoscaler(platform, each.workload, each.autoscaling)
        for each in platform.services
        if each.autoscaling is not None
    ]


def service_environment(platform: Platform, addresses: Addresses, service: Service) -> list[Manifest]:
    """The environment of a service's container."""
    workload = service.workload
    own: dict[str, str] = {}
    secrets: dict[str, SecretKey] = {}
    if workload.name == "api-gateway":
        own["BETTING_HTTP_ADDRESS"] = f"0.0.0.0:{HTTP_PORT}"
        own["BETTING_TRUSTED_PROXIES"] = str(platform.gateway.trusted_proxies)
    if workload.name == "wallet-service":
        own["BETTING_SANDBOX_MONEY"] = "true" if platform.play_money else "false"
    if workload.name == "health-monitor":
        own["BETTING_MONITORED"] = ",".join(f"{name}={_host(platform, name)}" for name in _monitored(platform))
    if workload.name == "user-service":
        login = platform.object_name(OPERATOR_LOGIN_SECRET)
        secrets["BETTING_OPERATOR_EMAIL"] = SecretKey(login, "email")
        secrets["BETTING_OPERATOR_PASSWORD"] = SecretKey(login, "password")
    return _environment(platform, addresses, workload, {**own, **service.settings}, secrets)


def _feed_environment(platform: Platform, addresses: Addresses, feed: Feed) -> list[Manifest]:
    return _environment(platform, addresses, feed.workload, feed.settings, feed.secrets)


def _environment(
    platform: Platform,
    addresses: Addresses,
    workload: Workload,
    own: Mapping[str, str],
    secrets: Mapping[str, SecretKey],
) -> list[Manifest]:
    peers = {
        _peer_setting(name): _host(platform, name) for name in workload.calls if _peer_setting(name) in _PEER_SETTINGS
    }
    plain = {
        "BETTING_SHARD_COUNT": str(platform.shard_count),
        "BETTING_CURRENCIES": ",".join(platform.currencies),
        "BETTING_TERMINATION_LOG": "/dev/termination-log",
        # Who calls an elected service asks each of its pods whether it serves: no load balancer needs time to hear.
        "BETTING_DRAIN_DELAY": "0" if workload.elected else str(DRAIN_DELAY_S),
        "BETTING_DRAIN_TIMEOUT": str(DRAIN_TIMEOUT_S),
        **peers,
        **own,
    }
    hidden = {
        "BETTING_INTERNAL_SECRET": SecretKey(platform.object_name(INTERNAL_SECRET), "secret"),
        "BETTING_POSTGRES_DSN": addresses.postgres,
        **({"BETTING_REDIS_URL": addresses.redis} if workload.uses_redis else {}),
        **secrets,
    }
    return [
        {"name": "BETTING_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BETTING_GRPC_ADDRESS", "value": f"$(POD_IP):{GRPC_PORT}"},
        {"name": "BETTING_HEALTH_ADDRESS", "value": f"$(POD_IP):{HEALTH_PORT}"},
        {"name": "BETTING_METRICS_ADDRESS", "value": f"$(POD_IP):{METRICS_PORT}"},
        *({"name": name, "value": value} for name, value in sorted(plain.items())),
        *(secret_env(name, key) for name, key in sorted(hidden.items())),
    ]


_PEER_SETTINGS = frozenset(
    {
        *("BETTING_USER_SERVICE", "BETTING_WALLET_SERVICE", "BETTING_EVENT_SERVICE", "BETTING_ODDS_SERVICE"),
        *("BETTING_SETTLEMENT_SERVICE", "BETTING_NOTIFICATION_SERVICE", "BETTING_HEALTH_MONITOR"),
    }
)


def _peer_setting(name: str) -> str:
    return f"BETTING_{name.upper().replace('-', '_')}"


def _host(platform: Platform, name: str) -> str:
    return f"{platform.object_name(name)}:{GRPC_PORT}"


def _monitored(platform: Platform) -> list[str]:
    """What health-monitor does not find by itself: bet-service is in the directory, peers are in its settings."""
    healer = [HEALER] if platform.healing.enabled else []
    return ["api-gateway", *(feed.workload.name for feed in platform.feeds), *healer]


def _secrets_of(platform: Platform, addresses: Addresses, workload: Workload) -> Mapping[str, str]:
    names = [platform.object_name(INTERNAL_SECRET), addresses.postgres.name]
    if workload.uses_redis:
        names.append(addresses.redis.name)
    if workload.name == "user-service":
        names.append(platform.object_name(OPERATOR_LOGIN_SECRET))
    return _hashes(addresses, names)


def _hashes(addresses: Addresses, names: Sequence[str]) -> Mapping[str, str]:
    return {name: addresses.hashes.get(name, "") for name in sorted(set(names))}


def _deployment(
    platform: Platform,
    workload: Workload,
    environment: list[Manifest],
    resources: Resources,
    *,
    replicas: int,
    autoscaling: Autoscaling | None,
    secrets: Mapping[str, str],
    live: Manifest | None,
) -> Manifest:
    name = workload.name
    template: Manifest = {
        "metadata": {
            "labels": labels(platform, name),
            "annotations": {SECRETS_ANNOTATION: digest(secrets)},
        },
        "spec": pod_spec(
            platform,
            name,
            {
                "command": ["python", "-m", "betting.runtime.launch", workload.module],
                "env": environment,
                "resources": container_resources(resources),
                # A process that ends before it writes its boot id there: its last words.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "ports": _ports(workload),
                **_probes(workload),
            },
            topologySpreadConstraints=spread(platform, name, by_template=True),
        ),
    }
    if workload.name in _RESCHEDULED_SOON:
        template["spec"]["tolerations"] = [*template["spec"].get("tolerations", ()), *_lost_node_tolerations()]
    hashed = digest(template)
    template["metadata"]["annotations"][TEMPLATE_ANNOTATION] = hashed
    generation = template_generation(hashed, live)
    if workload.name == "bet-service":  # shards move to the pods of the newest template first
        template["spec"]["containers"][0]["env"].append({"name": "BETTING_GENERATION", "value": str(generation)})
    spec: Manifest = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "selector": {"matchLabels": selector(platform, name)},
        "template": template,
    }
    applied = replicas_to_apply(replicas, autoscaling, live)
    if applied is not None:
        spec["replicas"] = applied
    return manifest(
        platform,
        "apps/v1",
        "Deployment",
        platform.object_name(name),
        name,
        annotations={TEMPLATE_ANNOTATION: hashed, GENERATION_ANNOTATION: str(generation)},
        spec=spec,
    )


# On the money path: a pod on a node that is lost is replaced after seconds, not five minutes.
_RESCHEDULED_SOON = ("odds-service", "api-gateway")
LOST_NODE_TOLERATED_S = 10


def _lost_node_tolerations() -> list[Manifest]:
    return [
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_TOLERATED_S,
        }
        for condition in ("not-ready", "unreachable")
    ]


def template_generation(hashed: str, live: Manifest | None) -> int:
    """Which template of a Deployment this is, from 1: one more than the one before whenever it changes."""
    annotations = (live or {}).get("metadata", {}).get("annotations") or {}
    before = annotations.get(GENERATION_ANNOTATION, "0")
    count = int(before) if before.isdecimal() else 0
    return max(1, count if annotations.get(TEMPLATE_ANNOTATION) == hashed else count + 1)


def replicas_to_apply(replicas: int, autoscaling: Autoscaling | None, live: Manifest | None) -> int | None:
    """The number of pods to ask for; None where the autoscaler has taken the field over.

    Until it has, the number is ours: an apply without a field that only we own would remove it, which means one pod.
    """
    if autoscaling is None:
        return replicas
    if live is None:
        return min(max(replicas, autoscaling.least), autoscaling.most)
    if any(_owns_replicas(each) for each in live["metadata"].get("managedFields") or ()):
        return None
    return int(live["spec"].get("replicas", replicas))


def _owns_replicas(entry: Manifest) -> bool:
    return entry.get("manager") != OPERATOR and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})


def _ports(workload: Workload) -> list[Manifest]:
    found = [
        {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
        {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
    ]
    if workload.name == "api-gateway":
        found.append({"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"})
    return found


def _probes(workload: Workload) -> Manifest:
    """Start and liveness are about the process itself; a pod that stands by is ready: it can take over.

    A frozen container would live for the pod's whole grace period, hence the probe's own of a second.
    """
    live = {"grpc": {"port": HEALTH_PORT, "service": LIVE}, "timeoutSeconds": 2}
    ready = live if workload.elected else {"grpc": {"port": HEALTH_PORT, "service": ""}, "timeoutSeconds": 2}
    ending = {"terminationGracePeriodSeconds": 1}
    return {
        "startupProbe": {**live, "periodSeconds": 1, "failureThreshold": 120, **ending},
        "livenessProbe": {**live, "periodSeconds": 5, "failureThreshold": 6, **ending},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 2},
    }


def _most_pods(service: Service) -> int:
    return service.replicas if service.autoscaling is None else service.autoscaling.most


def _autoscaler(platform: Platform, workload: Workload, scaling: Autoscaling) -> Manifest:
    def metric(resource: str, percent: int) -> Manifest:
        return {
            "type": "Resource",
            "resource": {"name": resource, "target": {"type": "Utilization", "averageUtilization": percent}},
        }

    return manifest(
        platform,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        platform.object_name(workload.name),
        workload.name,
        spec={
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": platform.object_name(workload.name),
            },
            "minReplicas": scaling.least,
            "maxReplicas": scaling.most,
            "metrics": [metric("cpu", scaling.cpu_percent), metric("memory", scaling.memory_percent)],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 60,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
                },
            },
        },
    )
