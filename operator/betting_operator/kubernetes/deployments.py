"""Spec to manifests, purely: the Deployment of every service and feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from betting_operator.kubernetes import schema
from betting_operator.kubernetes.manifests import (
    INTERNAL_SECRET,
    OPERATOR_LOGIN_SECRET,
    SECRETS_ANNOTATION,
    TEMPLATE_ANNOTATION,
    Addresses,
    Manifest,
    container_resources,
    digest,
    labels,
    manifest,
    pod_spec,
    secret_env,
    selector,
    spread,
)
from betting_operator.kubernetes.spec import Autoscaling, Feed, Platform, Resources, SecretKey, Service
from betting_operator.kubernetes.workloads import (
    GRPC_PORT,
    HEALER,
    HEALTH_PORT,
    HTTP_PORT,
    METRICS_PORT,
    OPERATOR,
    Workload,
)

# Within the pod's grace period: NOT_SERVING, this delay until load balancers have heard of it, then draining.
DRAIN_DELAY_S = 3
DRAIN_TIMEOUT_S = 20
# A pod that is not available for so long after its start stops the roll.
PROGRESS_DEADLINE_S = 180
# Callers find these services by name, and resolvers keep an answer, CoreDNS five seconds. A new pod is ready for so
# long before one that the callers know stops: the active odds-service would hand over to one that nobody finds.
KNOWN_AFTER_S = 10
_WAVE_FOUND_BY_NAME = 1
# gRPC health name of the process itself (betting.runtime.health_server.LIVE).
LIVE = "live"
# That of a process that can do its work, now or when the active one goes (betting.runtime.health_server.READY).
READY = "ready"
# Which one of all templates that a Deployment had its present one is.
GENERATION_ANNOTATION = f"{schema.GROUP}/template-generation"


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
        own["BETTING_POLL_INTERVAL"] = "1"  # the healer needs its word on who hangs within three seconds
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
    if workload.wave == _WAVE_FOUND_BY_NAME:
        spec["minReadySeconds"] = KNOWN_AFTER_S
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
    """Start and liveness are about the process itself. A pod that stands by is ready once it could take over, a gateway
    once it can check tokens and knows who owns the shards (/readyz).

    A frozen container would live for the pod's whole grace period, hence the probe's own of a second.
    """
    live = {"grpc": {"port": HEALTH_PORT, "service": LIVE}, "timeoutSeconds": 2}
    if workload.name == "api-gateway":
        ready: Manifest = {"httpGet": {"path": "/readyz", "port": "http"}, "timeoutSeconds": 2}
    else:
        ready = {"grpc": {"port": HEALTH_PORT, "service": READY if workload.elected else ""}, "timeoutSeconds": 2}
    ending = {"terminationGracePeriodSeconds": 1}
    return {
        "startupProbe": {**live, "periodSeconds": 1, "failureThreshold": 120, **ending},
        "livenessProbe": {**live, "periodSeconds": 5, "failureThreshold": 6, **ending},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 2},
    }
