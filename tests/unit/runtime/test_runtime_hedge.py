"""Hedging: the percentile is the observed one, and nothing is hedged on too little knowledge."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from betting.runtime.hedge import SAMPLES_MIN, WINDOW, LatencyWindow


def test_nothing_is_hedged_before_twenty_samples() -> None:
    """Nineteen calls say nothing about the twentieth percent."""
    window = LatencyWindow()
    for _ in range(SAMPLES_MIN - 1):
        window.observe(0.001)
    assert window.hedge_after_s(None) is None
    window.observe(0.001)
    assert window.hedge_after_s(None) == 0.001


def test_no_hedge_when_the_deadline_comes_first() -> None:
    """A second attempt that starts after the deadline helps nobody."""
    window = LatencyWindow()
    for _ in range(SAMPLES_MIN):
        window.observe(0.1)
    assert window.hedge_after_s(0.1) is None
    assert window.hedge_after_s(0.2) == 0.1


def test_old_latencies_are_forgotten() -> None:
    """After a window of fast calls a slow past does not count."""
    window = LatencyWindow()
    for _ in range(WINDOW):
        window.observe(1.0)
    for _ in range(WINDOW):
        window.observe(0.001)
    assert window.statistics().p95_s == 0.001
    assert window.statistics().samples == WINDOW


@given(st.lists(st.floats(0.0001, 10, allow_nan=False), min_size=SAMPLES_MIN, max_size=SAMPLES_MIN))
def test_the_percentile_leaves_at_most_a_twentieth_above(latencies: list[float]) -> None:
    """At least 95 % of the samples lie at or below it, and it is one of them."""
    window = LatencyWindow()
    for latency in latencies:
        window.observe(latency)
    p95_s = window.statistics().p95_s
    assert p95_s in latencies
    assert sum(latency <= p95_s for latency in latencies) >= 0.95 * len(latencies)
    assert p95_s >= statistics.median(latencies)
