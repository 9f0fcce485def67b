"""Spec to manifests, purely: network policies with only the flows that exist, and the Ingress of the gateway."""

from __future__ import annotations

from typing import Any

from betting_operator.kubernetes.manifests import (
    INSTANCE_LABEL,
    NAME_LABEL,
    PART_OF,
    PART_OF_LABEL,
    Manifest,
    manifest,
    selector,
)
from betting_operator.kubernetes.spec import External, ManagedPostgres, ManagedRedis, Platform
from betting_operator.kubernetes.workloads import (
    GRPC_PORT,
    HEALTH_PORT,
    HTTP_PORT,
    METRICS_PORT,
    MIGRATE,
    OPERATOR,
    POSTGRES,
    POSTGRES_PORT,
    REDIS,
    REDIS_PORT,
    WORKLOADS,
    Workload,
)

DNS_PORT = 53
HTTPS_PORT = 443
# Its healer asks every pod; health-monitor asks the healer.
_OPERATOR_PODS = {"podSelector": {"matchLabels": {NAME_LABEL: OPERATOR}}}
# Where NodeLocal DNSCache answers: on the node's own network, which no selector of pods is.
NODE_LOCAL_DNS = "169.254.20.10/32"


def policies(platform: Platform) -> list[Manifest]:
    """For each workload who may connect to it and where it may connect to; at last, that nothing else may.

    In this order, because they are applied one by one. The kubelet's probes pass in any case. The operator's healer
    asks every pod.
    """
    return [
        *(_policy(platform, workload) for workload in _running(platform)),
        manifest(
            platform,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            platform.object_name("default-deny"),
            OPERATOR,
            spec={
                "podSelector": {"matchLabels": {INSTANCE_LABEL: platform.name, PART_OF_LABEL: PART_OF}},
                "policyTypes": ["Ingress", "Egress"],
            },
        ),
    ]


def ingress(platform: Platform) -> list[Manifest]:
    """The Ingress that spec.gateway.ingress describes."""
    wanted = platform.gateway.ingress
    if wanted is None:
        return []
    backend = {"service": {"name": platform.object_name("gateway"), "port": {"name": "http"}}}
    spec: Manifest = {
        "rules": [{"host": wanted.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret}]
    return [
        manifest(
            platform,
            "networking.k8s.io/v1",
            "Ingress",
            platform.object_name("gateway"),
            "api-gateway",
            annotations=wanted.annotations,
            spec=spec,
        )
    ]


def _running(platform: Platform) -> list[Workload]:
    found = [*(each.workload for each in platform.services), *(each.workload for each in platform.feeds)]
    found.append(WORKLOADS[MIGRATE])
    if isinstance(platform.postgres, ManagedPostgres):
        found.append(WORKLOADS[POSTGRES])
    if isinstance(platform.redis, ManagedRedis):
        found.append(WORKLOADS[REDIS])
    return found


def _policy(platform: Platform, workload: Workload) -> Manifest:
    return manifest(
        platform,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        platform.object_name(workload.name),
        workload.name,
        spec={
            "podSelector": {"matchLabels": selector(platform, workload.name)},
            "policyTypes": ["Ingress", "Egress"],
            # An empty list is not stored, so that every apply of one would be a change.
            **({"ingress": rules} if (rules := _ingress_rules(platform, workload)) else {}),
            **({"egress": rules} if (rules := _egress_rules(platform, workload)) else {}),
        },
    )


def _ingress_rules(platform: Platform, workload: Workload) -> list[Manifest]:
    if workload.name == MIGRATE:
        return []
    if workload.name == POSTGRES:
        clients = [each.name for each in _running(platform) if each.module or each.name == MIGRATE]
        return [_rule("from", [*_pods(platform, clients), _OPERATOR_PODS], POSTGRES_PORT)]
    if workload.name == REDIS:
        clients = [each.name for each in _running(platform) if each.uses_redis or each.name == REDIS]
        return [_rule("from", [*_pods(platform, clients), _OPERATOR_PODS], REDIS_PORT)]
    callers = [each.name for each in _running(platform) if workload.name in each.calls]
    rules = [_rule("from", [*_pods(platform, callers), _OPERATOR_PODS], GRPC_PORT)]
    rules.append(_rule("from", [_OPERATOR_PODS], HEALTH_PORT))
    if platform.scrapers:
        rules.append(_rule("from", [dict(each) for each in platform.scrapers], METRICS_PORT))
    if workload.name == "api-gateway":
        rules.append(_rule("from", [dict(each) for each in platform.gateway.sources], HTTP_PORT))
    return rules


def _egress_rules(platform: Platform, workload: Workload) -> list[Manifest]:
    dns: Manifest = {
        "ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")],
        "to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": NODE_LOCAL_DNS}}],
    }
    if workload.name == POSTGRES:
        return []
    if workload.name == REDIS:
        return [dns, _rule("to", _pods(platform, [REDIS]), REDIS_PORT)]
    running = {each.name for each in _running(platform)}
    rules = [dns, _server(platform, platform.postgres, POSTGRES, POSTGRES_PORT)]
    if workload.uses_redis:
        rules.append(_server(platform, platform.redis, REDIS, REDIS_PORT))
    if called := [name for name in workload.calls if name in running]:
        rules.append(_rule("to", _pods(platform, called), GRPC_PORT))
    if workload.name == "health-monitor" and platform.healing.enabled:
        rules.append(_rule("to", [_OPERATOR_PODS], GRPC_PORT))
    if workload.name == "the-odds-api":
        rules.append({"ports": [{"protocol": "TCP", "port": HTTPS_PORT}]})
    return rules


def _server(platform: Platform, where: object, name: str, port: int) -> Manifest:
    """To a managed server by its pods; to one of somebody else's by its networks, at any port, or anywhere."""
    if not isinstance(where, External):
        return _rule("to", _pods(platform, [name]), port)
    return {"to": [{"ipBlock": {"cidr": cidr}} for cidr in where.cidrs or ("0.0.0.0/0", "::/0")]}


def _pods(platform: Platform, names: list[str]) -> list[Manifest]:
    if not names:
        return []
    expression = {"key": NAME_LABEL, "operator": "In", "values": sorted(names)}
    return [{"podSelector": {"matchLabels": {INSTANCE_LABEL: platform.name}, "matchExpressions": [expression]}}]


def _rule(direction: str, peers: list[Any], port: int) -> Manifest:
    rule: Manifest = {"ports": [{"protocol": "TCP", "port": port}]}
    if peers:
        rule[direction] = peers
    return rule
