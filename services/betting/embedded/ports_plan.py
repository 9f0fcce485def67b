"""Which port everything listens on. Pure but for asking the system for free ones."""

from __future__ import annotations

from collections.abc import Sequence

from betting.embedded.ports import free_ports

HTTP = "http"
POSTGRES = "postgres"
VALKEYS = ("valkey-1", "valkey-2")
SUPERVISOR = "supervisor"
_FIXED = {HTTP: 8080, SUPERVISOR: 7000, POSTGRES: 55432, VALKEYS[0]: 56379, VALKEYS[1]: 56380}
_GRPC_FIRST = 7001
_METRICS_FIRST = 9101
_HEALTH_FIRST = 7201


def grpc_name(instance: str) -> str:
    """The key of an instance's gRPC port in the port map."""
    return f"{instance}.grpc"


def metrics_name(instance: str) -> str:
    """The key of an instance's metrics port in the port map."""
    return f"{instance}.metrics"


def health_name(instance: str) -> str:
    """The name of the port on which an instance answers beside its work."""
    return f"{instance}.health"


def fixed(instances: Sequence[str]) -> dict[str, int]:
    """The ports of a plain `betting up`: the same every time, so that bookmarks and dashboards keep working."""
    ports = dict(_FIXED)
    for number, instance in enumerate(instances):
        ports[grpc_name(instance)] = _GRPC_FIRST + number
        ports[metrics_name(instance)] = _METRICS_FIRST + number
        ports[health_name(instance)] = _HEALTH_FIRST + number
    return ports


def free(instances: Sequence[str]) -> dict[str, int]:
    """A port map of ports that are free at the moment. Raises PlatformError."""
    names = list(fixed(instances))
    return dict(zip(names, free_ports(len(names)), strict=True))
