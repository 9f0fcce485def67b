"""The producers of prices as odds-service reports them, read every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from betting.life import Life
from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2, odds_pb2_grpc
from betting_operator.healing.signals import Answer, Feed, Probe
from betting_operator.platforms.port import Inventory, present_lives

INTERVAL_S = 2.0
TIMEOUT_S = 1.0
FRESH_FOR_S = 6.0


def active_by_workload(lives: Iterable[Life], probes: Iterable[Probe]) -> dict[str, str]:
    """The instance that acts for each workload: the only one, or of several the only one that says it is serving.

    The others stand by, and their silence is none. A workload of which nobody can tell is left out.
    """
    serving = {probe.life for probe in probes if probe.answer is Answer.SERVING}
    running: dict[str, list[Life]] = {}
    for life in lives:
        running.setdefault(life.workload, []).append(life)
    candidates = {
        workload: found if len(found) == 1 else [life for life in found if life in serving]
        for workload, found in running.items()
    }
    return {workload: found[0].instance for workload, found in candidates.items() if len(found) == 1}


class Feeds:
    """odds: odds-service; None if there is none.

    instances: the running instances; a producer may be one of our workloads.
    """

    def __init__(self, odds: Target | None, instances: Inventory) -> None:
        self._odds = odds
        self._instances = instances
        self._producers: tuple[odds_pb2.Producer, ...] = ()
        self._heard_at_s = float("-inf")

    async def run(self) -> None:
        """Reads the producers at an interval, for the life of the process."""
        while True:
            await self._ask()
            await asyncio.sleep(INTERVAL_S)

    def feeds(self, probes: Iterable[Probe]) -> tuple[Feed, ...] | None:
        """Every producer; None when odds-service has not answered for a while. probes: of the running instances."""
        if time.monotonic() - self._heard_at_s > FRESH_FOR_S:
            return None
        ours = active_by_workload(present_lives(self._instances()).values(), probes)
        return tuple(self._feed(producer, ours) for producer in self._producers)

    async def _ask(self) -> None:
        if self._odds is None:
            return
        method = self._odds.stub(odds_pb2_grpc.OddsServiceStub).ListProducers
        try:
            reply = await self._odds.call(
                method, odds_pb2.ListProducersRequest(), timeout_s=TIMEOUT_S, idempotent=False
            )
        except ServiceError:
            return  # odds-service itself is probed; here it is not known
        self._producers, self._heard_at_s = tuple(reply.producers), time.monotonic()

    def _feed(self, producer: odds_pb2.Producer, ours: Mapping[str, str]) -> Feed:
        name = producer.producer_id
        return Feed(
            producer=name,
            instance=ours.get(name, ""),
            alive_us=producer.last_alive_at_us,
            suspended=producer.status == odds_pb2.PRODUCER_STATUS_SILENT,
        )
