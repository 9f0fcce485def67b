"""Takes the steps that are due: offers matches, starts them, finishes them, has them settled. Each may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from betting.feeds.peers import Peers, is_refusal
from betting.feeds.replay import messages
from betting.feeds.replay.progress import Progress
from betting.feeds.replay.schedule import ScheduleStep, Slot, Stage
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.client import Target
from betting.runtime.clock import Clock
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, event_pb2_grpc, settlement_pb2, settlement_pb2_grpc

MATCHES_PER_UPSERT = 50
SETTLED_AT_ONCE = 8
SETTLE_TIMEOUT_S = 10.0
FIRST_VERSION = 1


class MatchLifecycle:
    """Steps of one replay. A service that is away ends a round early; one that refuses a match has it put aside."""

    def __init__(
        self, progress: Progress, peers: Peers, clock: Clock, log: FilteringBoundLogger, retry_refused_us: int
    ) -> None:
        self._progress = progress
        self._peers = peers
        self._clock = clock
        self._log = log
        self._retry_refused_us = retry_refused_us
        # What each match was last refused for.
        self._refusals: dict[int, str] = {}
        self._events = peers.events.stub(event_pb2_grpc.EventServiceStub)
        self._catalogue = peers.events.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
        self._settlement = peers.settlement.stub(settlement_pb2_grpc.SettlementServiceStub)

    async def move_on(self) -> int:
        """Offers, starts and finishes what is due; how many steps were taken. Raises ServiceError: try again."""
        now_us = self._clock.now_us()
        taken = await self._offer(self._progress.due(now_us, Stage.OFFERED))
        for step in self._progress.due(now_us, Stage.STARTED, Stage.FINISHED):
            taken += await self._unless_refused(step, self._set_status)
        return taken

    async def settle(self) -> int:
        """Has finished matches settled; how many. Raises ServiceError to try again later."""
        steps = self._progress.due(self._clock.now_us(), Stage.SETTLED)
        taken = 0
        for start in range(0, len(steps), SETTLED_AT_ONCE):
            batch = steps[start : start + SETTLED_AT_ONCE]
            results = await asyncio.gather(
                *(self._unless_refused(step, self._settle) for step in batch), return_exceptions=True
            )
            taken += sum(result for result in results if isinstance(result, int))
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return taken

    async def _offer(self, steps: Sequence[ScheduleStep]) -> int:
        taken = 0
        for start in range(0, len(steps), MATCHES_PER_UPSERT):
            batch = steps[start : start + MATCHES_PER_UPSERT]
            try:
                await self._upsert([step.slot for step in batch])
                await self._progress.reached(batch)
                taken += len(batch)
            except ServiceError as error:
                if not is_refusal(error):
                    raise
                # One match must not hold up the others: each alone, and the culprit is put aside.
                for step in batch:
                    taken += await self._unless_refused(step, lambda step: self._upsert([step.slot]))
        return taken

    async def _unless_refused(self, step: ScheduleStep, act: Callable[[ScheduleStep], Awaitable[None]]) -> int:
        """Takes a step and records it: 1; or puts its match aside: 0. Raises ServiceError: try again."""
        try:
            await act(step)
        except ServiceError as error:
            if not is_refusal(error):
                raise
            self._progress.put_aside(step, self._clock.now_us() + self._retry_refused_us)
            event_id = step.slot.match.event_id
            if self._refusals.get(event_id) != error.message:  # once, not at every try
                self._refusals[event_id] = error.message
                fields = {"event_id": event_id, "stage": step.stage.name.lower(), "reason": error.reason}
                self._log.error("match put aside", message=error.message, **fields)
            return 0
        self._refusals.pop(step.slot.match.event_id, None)
        await self._progress.reached([step])
        return 1

    async def _upsert(self, slots: Sequence[Slot]) -> None:
        request = messages.catalogue(self._progress.season_schedule.season, slots)
        await self._call(self._peers.events, self._catalogue.UpsertCatalogue, request)

    async def _set_status(self, step: ScheduleStep) -> None:
        match = step.slot.match
        request = feed_pb2.SetEventStatusRequest(event_id=match.event_id, status=event_pb2.EVENT_STATUS_STARTED)
        if step.stage is Stage.FINISHED:
            request.status = event_pb2.EVENT_STATUS_FINISHED
            request.home_goals, request.away_goals = match.home_goals, match.away_goals
        try:
            await self._call(self._peers.events, self._catalogue.SetEventStatus, request)
        except ServiceError as error:
            # Its markets are voided by whoever abandoned it: the settlement-service has those that are left wait.
            if error.reason != "EVENT_TRANSITION" or not await self._is_abandoned(match.event_id):
                raise

    async def _is_abandoned(self, event_id: int) -> bool:
        """A person has decided that this match is not played to its end."""
        request = event_pb2.GetEventRequest(event_id=event_id)
        reply: event_pb2.GetEventResponse = await self._peers.events.call(
            self._events.GetEvent, request, idempotent=True
        )
        return reply.event.status == event_pb2.EVENT_STATUS_ABANDONED

    async def _settle(self, step: ScheduleStep) -> None:
        """Settlement first: only what it took over is priced as resulted. It marks the catalogue itself when done."""
        match = step.slot.match
        if match.markets:
            request = settlement_pb2.SettleEventRequest(
                event_id=match.event_id,
                home_goals=match.home_goals,
                away_goals=match.away_goals,
                version=FIRST_VERSION,
            )
            reply: settlement_pb2.SettleEventResponse = await self._call(
                self._peers.settlement, self._settlement.SettleEvent, request, timeout_s=SETTLE_TIMEOUT_S
            )
            waiting = {market.market_id for market in reply.waiting}  # for a person: no result yet
            results = [each for each in messages.results(step.slot) if each.market_id not in waiting]
            await self._peers.publish(results, snapshot=False)

    async def _call(self, target: Target, method: object, request: object, timeout_s: float | None = None) -> Any:
        return await target.call(method, request, idempotent=True, principal=self._peers.token(), timeout_s=timeout_s)  # type: ignore[arg-type]
