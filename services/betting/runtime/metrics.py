"""Prometheus metrics of this process: defining them, and serving them over HTTP.

`counter`, `gauge` and `histogram` may be called again with the same name and give the same metric, so that a module
can be set up twice in one process (tests do). Every sample has the labels workload and instance.
"""

from __future__ import annotations

import bisect
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import prometheus_client
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from betting.runtime.settings import split_address

# From a bet's round trip (about a millisecond) to a deadline.
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# A connection that sends nothing is closed after a while, one that does not end a little later; above the maximum, new
# ones are closed at once.
SILENT_MAX_S = 5.0
OPEN_MAX_S = 10.0
CONNECTIONS_MAX = 16
BACKLOG = 64

_Made = TypeVar("_Made")
_made: dict[str, Any] = {}


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> prometheus_client.Counter:
    """A number that only grows; `name` ends in `_total`."""
    return _once(name, lambda: prometheus_client.Counter(name, documentation, labels))


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> prometheus_client.Gauge:
    """A number that goes up and down; the unit is last in `name`."""
    return _once(name, lambda: prometheus_client.Gauge(name, documentation, labels))


def histogram(
    name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
) -> prometheus_client.Histogram:
    """How often something was how large; the unit is last in `name`. buckets: upper bounds."""
    return _once(name, lambda: prometheus_client.Histogram(name, documentation, labels, buckets=buckets))


def latencies(name: str, documentation: str, labels: Sequence[str]) -> Latencies:
    """A histogram of seconds for hot paths: see Latencies."""
    return _once(name, lambda: _registered(Latencies(name, documentation, labels)))


def _once(name: str, make: Callable[[], _Made]) -> _Made:
    if name not in _made:
        _made[name] = make()
    made: _Made = _made[name]
    return made


def _registered(collector: Latencies) -> Latencies:
    prometheus_client.REGISTRY.register(collector)
    return collector


class Series:
    """One label combination of Latencies: counts per bucket and the sum of seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one observation."""
        self.counts[bisect.bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class Latencies(Collector):
    """A histogram without locks, written by one thread: a fraction of what an observation costs prometheus_client."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}

    def series(self, *values: str) -> Series:
        """The series of these label values; callers on a hot path keep it."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Series()
        return found

    def describe(self) -> Iterable[Metric]:
        """The family without samples, so that registering does not collect."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """The family with all samples. Runs in the exposition's thread; a scrape may miss an observation being made."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in list(self._series.items()):
            family.add_metric(values, _cumulative(series.counts), series.sum_s)
        yield family


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), list(counts), strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


class _WithProcessLabels(Collector):
    """What the registry collects, with the labels of this process on every sample."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        for metric in prometheus_client.REGISTRY.collect():
            metric.samples = [self._labelled(sample) for sample in metric.samples]
            yield metric

    def _labelled(self, sample: Sample) -> Sample:
        return sample._replace(labels={**self._labels, **sample.labels})


class _Handler(WSGIRequestHandler):
    """One connection; standard error is the log of the service, not of its scrapes."""

    timeout = SILENT_MAX_S

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, and a bound on both."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._until_s: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread, if there is a place for it."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._until_s[request] = time.monotonic() + OPEN_MAX_S
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers, in the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def service_actions(self) -> None:
        """Twice a second: ends what has been open too long, whatever it says meanwhile."""
        super().service_actions()
        now_s = time.monotonic()
        for request, until_s in list(self._until_s.items()):
            if until_s < now_s:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def _leave(self, request: Any) -> None:
        self._until_s.pop(request, None)
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whatever a stranger sends is not worth a traceback."""


@dataclass(frozen=True)
class Exposition:
    """A running HTTP server with /metrics."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.server.server_name}:{self.server.server_port}"

    def close(self) -> None:
        """Stops answering and frees the port."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5)


def serve(address: str, *, workload: str, instance: str) -> Exposition:
    """Serves the metrics at http://address/metrics in a thread. Raises OSError when the port is taken."""
    host, port = split_address(address)
    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    registry.register(_WithProcessLabels({"workload": workload, "instance": instance}))
    server = _Server((host, port))
    server.set_app(prometheus_client.make_wsgi_app(registry))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    return Exposition(server, thread)
