"""Spec to manifests, purely: the Services, autoscalers and disruption budgets beside the Deployments."""

from __future__ import annotations

from betting_operator.kubernetes.manifests import (
    LEADER_LABEL,
    NAME_LABEL,
    Manifest,
    manifest,
    selector,
)
from betting_operator.kubernetes.spec import Autoscaling, ManagedRedis, Platform, Service
from betting_operator.kubernetes.workloads import (
    GRPC_PORT,
    HEALER,
    METRICS_PORT,
    OPERATOR,
    REDIS,
    Workload,
)

# Of pods, in custom.metrics.k8s.io: prometheus-adapter makes it of betting_bets_accepted (docs/operator/scaling.md).
BETS_PER_SECOND = "betting_bets_accepted_per_second"


def network_services(platform: Platform) -> list[Manifest]:
    """The headless Service of each service and feed, whose name stands for all its pods; those of healer and bettors.

    The healer's has an address of its own: the leader behind it changes within seconds, and resolvers keep a name for
    up to a minute.
    """
    workloads = [*(each.workload for each in platform.services), *(each.workload for each in platform.feeds)]
    found = [_headless(platform, workload) for workload in workloads]
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


def _headless(platform: Platform, workload: Workload) -> Manifest:
    spec: Manifest = {
        "clusterIP": "None",
        "selector": selector(platform, workload.name),
        "ports": [
            {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP"},
            {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"},
        ],
    }
    if workload.elected:
        # Callers ask each pod whether it serves, and gRPC looks a name up again only when a connection breaks: with a
        # standby alone in the answer, because it was ready first, they would never hear of the active one.
        spec["publishNotReadyAddresses"] = True
    return manifest(platform, "v1", "Service", platform.object_name(workload.name), workload.name, spec=spec)


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


def _most_pods(service: Service) -> int:
    return service.replicas if service.autoscaling is None else service.autoscaling.most


def _autoscaler(platform: Platform, workload: Workload, scaling: Autoscaling) -> Manifest:
    def metric(resource: str, percent: int) -> Manifest:
        return {
            "type": "Resource",
            "resource": {"name": resource, "target": {"type": "Utilization", "averageUtilization": percent}},
        }

    metrics = [metric("cpu", scaling.cpu_percent), metric("memory", scaling.memory_percent)]
    if scaling.bets_per_second is not None:
        target = {"type": "AverageValue", "averageValue": str(scaling.bets_per_second)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": BETS_PER_SECOND}, "target": target}})
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
            "metrics": metrics,
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
