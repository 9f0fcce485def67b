"""Composition root of health-monitor. It starts whatever else is down: reporting that is its purpose."""

from __future__ import annotations

import prometheus_client

from betting.health.exposition import StatusCollector
from betting.health.monitor import Monitor, Producers
from betting.health.probing import Prober, Resolver
from betting.health.servicer import HealthMonitorServicer
from betting.health.settings import HealthSettings
from betting.health.store import PlatformStore
from betting.runtime.service import Composition, ServiceContext, Servicer
from betting.v1 import health_pb2_grpc


async def compose(context: ServiceContext[HealthSettings]) -> Composition:
    """Waits for the first round of probes, whatever their results."""
    settings = context.settings
    interval_s = settings.poll_interval.total_seconds()
    timeout_s = settings.probe_timeout.total_seconds()
    store = PlatformStore(
        lambda: context.postgres(max_size=2),
        interval_s=interval_s,
        recount_interval_s=settings.recount_interval.total_seconds(),
    )
    prober = Prober(timeout_s, context.service_token, context.peer_records)
    odds = context.target("odds-service", settings.odds_service) if settings.odds_service else None
    monitor = Monitor(
        settings.watched(),
        prober,
        Resolver(timeout_s),
        store,
        Producers(odds, timeout_s),
        interval_s=interval_s,
        now_us=context.clock.now_us,
    )
    await monitor.look()
    collector = StatusCollector(monitor.status)
    prometheus_client.REGISTRY.register(collector)

    async def close() -> None:
        prometheus_client.REGISTRY.unregister(collector)
        await prober.close()

    return Composition(
        servicers=[
            Servicer(
                health_pb2_grpc.add_HealthMonitorServiceServicer_to_server,
                HealthMonitorServicer(monitor),
                "betting.v1.HealthMonitorService",
                quiet_methods=frozenset({"GetPlatformStatus"}),
            )
        ],
        background=[monitor.run, store.run_directory, lambda: store.run_counts(monitor.counted)],
        on_close=[close],
    )
