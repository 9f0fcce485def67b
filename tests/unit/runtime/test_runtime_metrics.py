"""Metrics: the lean histogram counts like the ordinary one, definitions can be repeated, samples carry the process."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from betting.runtime import metrics
from betting.runtime.metrics import LATENCY_BUCKETS_S, Latencies


def _samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.one_of(st.floats(0, 20, allow_nan=False), st.sampled_from(LATENCY_BUCKETS_S)), max_size=50))
def test_the_lean_histogram_counts_like_the_ordinary_one(observations: list[float]) -> None:
    """Same buckets, same counts, same sum, edges included."""
    plain, lean = CollectorRegistry(), CollectorRegistry()
    reference = Histogram("x_seconds", "x", ["method"], buckets=LATENCY_BUCKETS_S, registry=plain).labels("m")
    latencies = Latencies("x_seconds", "x", ["method"])
    lean.register(latencies)
    series = latencies.series("m")
    for seconds in observations:
        reference.observe(seconds)
        series.observe(seconds)
    assert _samples(lean) == _samples(plain)


def test_defining_a_metric_twice_gives_the_same_one() -> None:
    """A module set up twice in one process must not fail on its own metrics."""
    first = metrics.counter("betting_test_twice_total", "x", ["kind"])
    assert metrics.counter("betting_test_twice_total", "x", ["kind"]) is first
    assert metrics.latencies("betting_test_twice_seconds", "x", ["k"]) is metrics.latencies(
        "betting_test_twice_seconds", "x", ["k"]
    )


def test_served_samples_carry_service_and_instance() -> None:
    """What Prometheus scrapes names the process on every sample, also of counters defined anywhere."""
    metrics.counter("betting_test_served_total", "x", ["kind"]).labels("a").inc()
    exposition = metrics.serve("127.0.0.1:0", workload="wallet-service", instance="wallet-service-1")
    try:
        url = f"http://127.0.0.1:{exposition.server.server_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            text = response.read().decode()
    finally:
        exposition.close()
    assert 'betting_test_served_total{instance="wallet-service-1",kind="a",workload="wallet-service"} 1.0' in text
    assert 'process_resident_memory_bytes{instance="wallet-service-1",workload="wallet-service"}' in text


def test_silent_connections_hold_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a thread only until it has been silent for too long; those beyond the bound are closed at once."""
    monkeypatch.setattr(metrics._Handler, "timeout", 0.5)
    exposition = metrics.serve("127.0.0.1:0", workload="s", instance="i")
    port = exposition.server.server_port
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3 * metrics.CONNECTIONS_MAX)]
    try:
        closed_at_once = [connection for connection in silent[-metrics.CONNECTIONS_MAX :] if connection.recv(1) == b""]
        assert len(closed_at_once) == metrics.CONNECTIONS_MAX
        assert threading.active_count() - before <= metrics.CONNECTIONS_MAX
        assert all(connection.recv(1) == b"" for connection in silent)  # the silent ones are closed, too
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            assert response.status == 200
    finally:
        for connection in silent:
            connection.close()
        exposition.close()


def test_a_connection_that_never_ends_its_request_does_not_keep_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says something all the time, so it is never silent; the next scrape is answered all the same."""
    monkeypatch.setattr(metrics, "OPEN_MAX_S", 0.5)
    exposition = metrics.serve("127.0.0.1:0", workload="s", instance="i")
    port = exposition.server.server_port
    dripping = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(metrics.CONNECTIONS_MAX)]
    ended = 0
    until_s = time.monotonic() + 30
    try:
        while ended < len(dripping) and time.monotonic() < until_s:
            ended = sum(not _drips(connection) for connection in dripping)
            time.sleep(0.05)  # a drip, not a flood
        assert ended == len(dripping)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            assert response.status == 200
    finally:
        for connection in dripping:
            connection.close()
        exposition.close()


def _drips(connection: socket.socket) -> bool:
    """Whether another byte could be said."""
    try:
        connection.send(b"x")
    except OSError:
        return False
    return True
