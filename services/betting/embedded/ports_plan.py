"""Which port everything listens on. Pure but for asking the system for free ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from betting.embedded.ports import held_ports

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


@contextmanager
def held(instances: Sequence[str]) -> Iterator[dict[str, int]]:
    """A port map of free ports, which nobody else is given while the block lasts (`held_ports`)."""
    names = list(fixed(instances))
    with held_ports(len(names)) as ports:
        yield dict(zip(names, ports, strict=True))
