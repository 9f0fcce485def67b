"""Token buckets: the limit holds locally, several gateways together keep roughly one; and whose limit it is."""

from __future__ import annotations

from typing import Any

import in_process
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from betting.gateway.heads import Cors, HeadReader
from betting.gateway.limits import Bucket, Buckets, Limiter
from betting.gateway.settings import GatewaySettings, Rate

RATE = Rate(10.0, 20.0)


def test_a_burst_is_let_through_and_no_more() -> None:
    """Twenty at once, the twenty-first has to wait a tenth of a second."""
    bucket = Bucket("k", RATE, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0.0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), max_size=200))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, int]]) -> None:
    """Whatever the pattern, what got through is at most the burst plus the rate times the time."""
    bucket, now_s, taken = Bucket("k", RATE, 0.0), 0.0, 0
    for pause_s, count in steps:
        now_s += pause_s
        if bucket.take(count, now_s) == 0.0:
            taken += count
    assert taken <= RATE.burst + RATE.per_s * now_s + 1e-6


def test_a_request_larger_than_the_burst_passes_a_full_bucket_once() -> None:
    """A batch above the burst is not refused for ever: it is paid off afterwards."""
    bucket = Bucket("k", RATE, 0.0)
    assert bucket.take(50, 0.0) == 0.0
    assert bucket.take(1, 2.9) > 0.0
    assert bucket.take(1, 3.1) == 0.0


def test_gateways_together_keep_one_limit() -> None:
    """Three gateways, each asked as much as it takes, let through little more than one would."""
    buckets = [Bucket("k", RATE, 0.0) for _ in range(3)]
    total = taken = 0
    for tick in range(1, 1_001):  # 100 s in steps of 100 ms, reconciled every 500 ms
        now_s = tick / 10
        for bucket in buckets:
            while bucket.take(1, now_s) == 0.0:
                taken += 1
        if tick % 5 == 0:
            for bucket in buckets:
                count = bucket.report()
                total += count
                bucket.reconcile(count, total)
    assert taken <= 3 * RATE.burst + 1.25 * RATE.per_s * 100
    assert taken >= 0.75 * RATE.per_s * 100


def test_a_report_that_did_not_arrive_is_not_lost() -> None:
    """What could not be told to the others is told next time."""
    bucket = Bucket("k", RATE, 0.0)
    bucket.take(3, 0.0)
    bucket.give_back(bucket.report())
    assert bucket.report() == 3


@pytest.mark.parametrize("total", [5, 998, 1_001])
def test_a_counter_that_went_back_takes_nothing(total: int) -> None:
    """It expired, or a failover of Redis lost its last moments: what others took long ago is not taken again."""
    bucket = Bucket("k", RATE, 0.0)
    bucket.reconcile(0, 1_000)
    bucket.reconcile(2, total)
    assert bucket.tokens == pytest.approx(RATE.burst)
    bucket.reconcile(0, total + 3)
    assert bucket.tokens == pytest.approx(RATE.burst - 3)


def test_the_table_is_bounded() -> None:
    """Addresses cannot fill the memory: the oldest bucket goes."""
    table = Buckets("address", RATE, capacity=3)
    for number in range(10):
        table.get(str(number), 0.0)
    assert len(table) == 3


def test_only_busy_buckets_are_reported_largest_first() -> None:
    """Idle users cost Redis nothing."""
    table = Buckets("money", RATE)
    for name, count in (("idle", 0), ("some", 2), ("most", 9)):
        if count:
            table.get(name, 0.0).take(count, 0.0)
        else:
            table.get(name, 0.0)
    assert [bucket.key for bucket in table.worth_reporting(10)] == ["money:most", "money:some"]
    assert [bucket.key for bucket in table.worth_reporting(1)] == ["money:most"]


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_lets_nothing_through_is_refused(per_s: float, burst: float) -> None:
    """Such a limit is a mistake in the configuration."""
    with pytest.raises(ValueError, match="a rate needs"):
        Rate(per_s, burst)


@pytest.mark.parametrize(
    ("lines", "proxies", "source"),
    [
        ([], 1, "10.0.0.1"),
        (["198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.9, 198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7, 192.0.2.1"], 2, "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7"], 0, "10.0.0.1"),
        (["203.0.113.9"], 2, "10.0.0.1"),
    ],
)
def test_only_what_our_own_proxies_added_counts(lines: list[str], proxies: int, source: str) -> None:
    """Whether a proxy adds to the client's line or writes one of its own, what the client wrote is not believed."""
    settings = in_process.settings(GatewaySettings, trusted_proxies=proxies)
    no_caller: Any = None  # nobody is asked who it is
    reader = HeadReader({}, no_caller, Limiter(settings), Cors(), settings)
    headers = CIMultiDict([("x-forwarded-for", line) for line in lines])
    assert reader.source(headers, "10.0.0.1") == source
