"""Accepted bets in all, Prometheus metrics, and what may be configured."""

from __future__ import annotations

import in_process
import pytest
from pydantic import ValidationError

from betting.health import exposition
from betting.health.accepted import AcceptedBets
from betting.health.observations import MonitoredInstance
from betting.health.settings import HealthSettings
from betting.v1 import health_pb2, odds_pb2


def test_bets_are_counted_once_and_then_followed() -> None:
    """A count includes what owners said before it; afterwards their counters add up."""
    bets = AcceptedBets()
    bets.owners_say({"one@1": 10, "two@1": 5})
    bets.counted(1000)
    assert bets.total == 1000
    bets.owners_say({"one@1": 12, "two@1": 5})
    assert bets.total == 1002


def test_a_restarted_owner_loses_no_bets() -> None:
    """The old life keeps what it said, the new one starts at nothing."""
    bets = AcceptedBets()
    bets.counted(100)
    bets.owners_say({"one@1": 10})
    bets.owners_say({"one@2": 3})
    assert bets.total == 113
    bets.counted(113)
    bets.owners_say({"one@2": 4})
    assert bets.total == 114


def test_the_total_never_runs_backwards() -> None:
    """A count that lags behind the owners does not take bets away; an owner that is silent once keeps its word."""
    bets = AcceptedBets()
    bets.counted(100)
    bets.owners_say({"one@1": 50})
    bets.counted(120)
    assert bets.total == 150
    bets.owners_say({})
    assert bets.total == 150


def _samples(status: health_pb2.GetPlatformStatusResponse) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in exposition.families(status)
        for sample in family.samples
    }


def test_metrics_say_what_the_status_says() -> None:
    """One picture in, every family out."""
    status = health_pb2.GetPlatformStatusResponse(
        at_us=2_500_000,
        instances=[
            health_pb2.InstanceStatus(
                workload="user-service",
                instance="user-service",
                state=health_pb2.SERVICE_STATE_SERVING,
                resident_bytes=7,
                breakers=[health_pb2.BreakerStatus(state="open"), health_pb2.BreakerStatus(state="closed")],
            ),
            health_pb2.InstanceStatus(
                workload="odds-service", address="h:1", state=health_pb2.SERVICE_STATE_UNREACHABLE
            ),
        ],
        shards=[
            health_pb2.ShardStatus(state="owned", reported=True, open_bets=3, projector_lag=2, outbox_lag=1),
            health_pb2.ShardStatus(state="owned", reported=True, open_bets=4, projector_lag=9),
            health_pb2.ShardStatus(state="free"),
        ],
        producers=[odds_pb2.Producer(producer_id="replay", status=odds_pb2.PRODUCER_STATUS_ALIVE)],
        bets_accepted_total=12,
        unknown=["producers"],
    )
    samples = _samples(status)
    assert samples["betting_platform_instance_serving", ("user-service", "user-service")] == 1
    assert samples["betting_platform_instance_serving", ("odds-service", "h:1")] == 0
    assert samples["betting_platform_instance_open_breakers", ("user-service", "user-service")] == 1
    assert ("betting_platform_instance_resident_bytes", ("odds-service", "h:1")) not in samples
    assert samples["betting_platform_shards", ("owned",)] == 2
    assert samples["betting_platform_shards", ("frozen",)] == 0
    assert samples["betting_platform_shards_unreported", ()] == 1
    assert samples["betting_platform_open_bets", ()] == 7
    assert samples["betting_platform_projector_lag_entries", ()] == 9
    assert samples["betting_platform_outbox_lag_entries", ()] == 1
    assert samples["betting_platform_producer_alive", ("replay",)] == 1
    assert samples["betting_platform_bets_accepted", ()] == 12
    assert samples["betting_platform_unknown_parts", ()] == 1
    assert samples["betting_platform_status_at_seconds", ()] == 2.5


def test_metrics_of_an_empty_platform_are_zeros() -> None:
    """Before the first answer there is something to scrape."""
    samples = _samples(health_pb2.GetPlatformStatusResponse())
    assert samples["betting_platform_projector_lag_entries", ()] == 0


def test_everybody_configured_is_asked_once() -> None:
    """Peers by their settings, others by BETTING_MONITORED, several instances of one service too."""
    settings = in_process.settings(
        HealthSettings,
        user_service="127.0.0.1:7001",
        monitored=" api-gateway=127.0.0.1:7009, user-service=127.0.0.1:7001 ,user-service=127.0.0.1:7002,",
    )
    assert settings.watched() == [
        MonitoredInstance("user-service", "127.0.0.1:7001"),
        MonitoredInstance("api-gateway", "127.0.0.1:7009"),
        MonitoredInstance("user-service", "127.0.0.1:7002"),
    ]


@pytest.mark.parametrize("monitored", ["user-service", "user-service=", "=127.0.0.1:1", "a=127.0.0.1", "a=b:99999"])
def test_what_is_not_a_list_of_addresses_is_refused(monitored: str) -> None:
    """At the start, not at the first probe."""
    with pytest.raises(ValidationError):
        in_process.settings(HealthSettings, monitored=monitored)
