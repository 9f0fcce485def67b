"""Probes all instances at a fixed interval and keeps the latest status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import chain

from betting.health import merge
from betting.health.accepted import AcceptedBets
from betting.health.observations import InstanceHealth, MonitoredInstance, PlatformSnapshot
from betting.health.probing import Prober, Resolver
from betting.health.store import PlatformStore
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import health_pb2, odds_pb2, odds_pb2_grpc

DIRECTORY = "directory"
BETS_ACCEPTED = "bets_accepted_total"


class Producers:
    """The producers as last reported by odds-service. target: odds-service; None if there is none."""

    def __init__(self, target: Target | None, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._last: tuple[odds_pb2.Producer, ...] = ()
        self.known = False

    async def read(self) -> tuple[odds_pb2.Producer, ...]:
        """The producers of the latest reply; `known` is whether it is current."""
        if self._target is None:
            return ()
        method = self._target.stub(odds_pb2_grpc.OddsServiceStub).ListProducers
        request = odds_pb2.ListProducersRequest()
        try:
            response = await self._target.call(method, request, timeout_s=self._timeout_s, idempotent=False)
        except ServiceError:
            self.known = False
            return self._last
        self.known = True
        self._last = tuple(response.producers)
        return self._last


class Monitor:
    """The latest status of the platform.

    configured: what is probed besides the bet-service instances in the directory.
    """

    def __init__(
        self,
        configured: Sequence[MonitoredInstance],
        prober: Prober,
        resolver: Resolver,
        store: PlatformStore,
        producers: Producers,
        *,
        interval_s: float,
        now_us: Callable[[], int],
    ) -> None:
        self._configured = tuple(configured)
        self._prober = prober
        self._resolver = resolver
        self._store = store
        self._producers = producers
        self._interval_s = interval_s
        self._now_us = now_us
        self._accepted = AcceptedBets()
        self._was_counted = False
        self._instance_healths: dict[MonitoredInstance, InstanceHealth] = {}
        self.snapshot = PlatformSnapshot(now_us(), (), (), (), 0, (DIRECTORY, merge.PRODUCERS, BETS_ACCEPTED))

    def status(self) -> health_pb2.GetPlatformStatusResponse:
        """The latest status, as the public API returns it."""
        return merge.status_of(self.snapshot)

    def counted(self, bets: int) -> None:
        """Takes in a new count of all bets."""
        self._accepted.counted(bets)
        self._was_counted = True

    async def look(self) -> None:
        """Probes every instance once, in parallel; takes as long as the slowest, at most two timeouts of a probe."""
        resolved = await asyncio.gather(*(self._resolver.each(each) for each in self._configured))
        watched = list(dict.fromkeys([*chain.from_iterable(resolved), *merge.owners(self._store.directory)]))
        probes, producers = await asyncio.gather(
            asyncio.gather(*(self._prober.probe(each) for each in watched)), self._producers.read()
        )
        before = self._instance_healths
        self._instance_healths = {
            each: merge.after(before.get(each) or merge.initial_health(each), probe)
            for each, probe in zip(watched, probes, strict=True)
        }
        await self._prober.keep_only(each.address for each in watched)
        self._accepted.owners_say(self._counters())
        self.snapshot = PlatformSnapshot(
            at_us=self._now_us(),
            instance_healths=tuple(self._instance_healths.values()),
            shards=merge.shards_of(self._store.directory),
            producers=producers,
            bets_accepted_total=self._accepted.total,
            unknown=tuple(self._unknown()),
            redis=self._store.redis,
            settlements_waiting=self._store.settlements_waiting,
            healing=merge.healing_modes(self._store.switch, self._store.directory.healer_beat_age_s, self._now_us()),
            attention=(*merge.alerts(self._instance_healths.values()), *self._store.attention),
        )

    async def run(self) -> None:
        """Probes at a fixed interval, for the life of the process."""
        while True:
            started_s = time.monotonic()
            await self.look()
            await asyncio.sleep(max(0.0, started_s + self._interval_s - time.monotonic()))

    def _counters(self) -> dict[str, int]:
        reports = [instance_health.owner_status for instance_health in self._instance_healths.values()]
        return {report.instance: report.bets_accepted_total for report in reports if report is not None}

    def _unknown(self) -> list[str]:
        known = {
            DIRECTORY: self._store.is_fresh,
            merge.PRODUCERS: self._producers.known,
            BETS_ACCEPTED: self._was_counted,
        }
        return [part for part, is_known in known.items() if not is_known]
