"""The status as Prometheus metrics: made from one picture per scrape, so that no scrape sees half a change.

Shards are summed up: one series per shard would be thousands in production.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from betting.v1 import health_pb2, odds_pb2

# "workload" and "instance" name the process that is scraped, here the monitor.
_WHO = ("watched_workload", "watched_instance")

Status = health_pb2.GetPlatformStatusResponse


class StatusCollector(Collector):
    """Collects from whatever `status` returns at the moment of the scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not collect."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All families."""
        return families(self._status())


def families(status: Status) -> list[Metric]:
    """The metric families of a status. Pure."""
    return [*_of_instances(status), *_of_shards(status), *_of_platform(status)]


def _of_instances(status: Status) -> list[Metric]:
    serving = GaugeMetricFamily("betting_platform_instance_serving", "1 if the instance reports SERVING", labels=_WHO)
    memory = GaugeMetricFamily("betting_platform_instance_resident_bytes", "Resident memory", labels=_WHO)
    breakers = GaugeMetricFamily(
        "betting_platform_instance_open_breakers", "Breakers that are open or half-open", labels=_WHO
    )
    for instance in status.instances:
        who = (instance.workload, instance.instance or instance.address)
        serving.add_metric(who, float(instance.state == health_pb2.SERVICE_STATE_SERVING))
        if instance.resident_bytes:
            memory.add_metric(who, float(instance.resident_bytes))
            breakers.add_metric(who, float(sum(breaker.state != "closed" for breaker in instance.breakers)))
    return [serving, memory, breakers]


def _of_shards(status: Status) -> list[Metric]:
    states = GaugeMetricFamily("betting_platform_shards", "Shards by state in the directory", labels=("state",))
    for state, count in {**dict.fromkeys(_SHARD_STATES, 0), **Counter(s.state for s in status.shards)}.items():
        states.add_metric((state,), float(count))
    reported = [shard for shard in status.shards if shard.reported]
    return [
        states,
        _one("betting_platform_shards_unreported", "Shards that no owner reports", len(status.shards) - len(reported)),
        _one(
            "betting_platform_open_bets",
            "Open bets in the shards that owners report",
            sum(shard.open_bets for shard in reported),
        ),
        _one(
            "betting_platform_projector_lag_entries",
            "Highest projector lag of a shard",
            _highest(s.projector_lag for s in reported),
        ),
        _one(
            "betting_platform_outbox_lag_entries",
            "Highest outbox lag of a shard",
            _highest(s.outbox_lag for s in reported),
        ),
    ]


def _of_platform(status: Status) -> list[Metric]:
    alive = GaugeMetricFamily("betting_platform_producer_alive", "1 if the producer is alive", labels=("producer",))
    for producer in status.producers:
        alive.add_metric((producer.producer_id,), float(producer.status == odds_pb2.PRODUCER_STATUS_ALIVE))
    modes = GaugeMetricFamily("betting_platform_healing_mode", "1 if this mode of healing is on", labels=("mode",))
    for mode in _HEALING_MODES:
        modes.add_metric((mode,), float(any(each.mode == mode for each in status.healing_modes)))
    return [
        alive,
        modes,
        _one(
            "betting_platform_bets_accepted",
            "Bets accepted since the platform was installed",
            status.bets_accepted_total,
        ),
        _one(
            "betting_platform_settlements_waiting",
            "Markets whose settlement waits for an operator",
            len(status.settlements_waiting),
        ),
        _one("betting_platform_unknown_parts", "Parts of the status that could not be read", len(status.unknown)),
        _one("betting_platform_status_at_seconds", "Time of the status, Unix time", status.at_us / 1_000_000),
    ]


_HEALING_MODES = ("paused", "dry-run", "approval", "absent")
_SHARD_STATES = ("free", "owned", "frozen", "quarantined")


def _one(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=float(value))


def _highest(values: Iterable[int]) -> int:
    return max(values, default=0)
