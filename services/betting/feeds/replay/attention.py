"""Matches that wait for an operator: logged at the start and every hour, counted, and resolved once the operator has
acted.
"""

from __future__ import annotations

from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from betting.feeds.peers import Peers, is_refusal
from betting.feeds.replay.schedule import Stage
from betting.feeds.replay.store import Noted, Store
from betting.feeds.seasons import Match
from betting.runtime import metrics
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, event_pb2_grpc, settlement_pb2, settlement_pb2_grpc

_PAID = frozenset({event_pb2.MARKET_STATUS_RESULTED, event_pb2.MARKET_STATUS_VOID})


class Attention:
    """The matches that are stored as waiting (`Store.note`)."""

    def __init__(self, store: Store, peers: Peers, log: FilteringBoundLogger) -> None:
        self._store = store
        self._peers = peers
        self._log = log
        self._events = peers.events.stub(event_pb2_grpc.EventServiceStub)
        self._settlement = peers.settlement.stub(settlement_pb2_grpc.SettlementServiceStub)
        self._gauge = metrics.gauge("betting_season_replay_waiting_matches", "Matches that wait for an operator")

    async def say(self) -> None:
        """Logs one error line per match. Raises ServiceError."""
        noted = await self._store.noted()
        self._gauge.set(len(noted))
        for each in noted:
            fields = {"event_id": each.event_id, "season": each.replay, "stage": each.stage.name.lower()}
            self._log.error("match waits for a person", why=each.attention, **fields)

    async def revisit(self, rescored: Mapping[int, Match]) -> None:
        """Resolves the matches that an operator has settled meanwhile. Raises ServiceError: try again.

        rescored: as in Reconciled.
        """
        for each in await self._store.noted():
            try:
                done = await self._is_done(each, rescored.get(each.event_id))
            except ServiceError as error:
                if not is_refusal(error):
                    raise
                done = False  # the catalogue or settlement never heard of it
            if done:
                if each.event_id in rescored:
                    await self._store.keep(each.replay, [rescored[each.event_id]])
                await self._store.looked_at(each)
                self._log.info("match settled by a person", event_id=each.event_id, season=each.replay)

    async def _is_done(self, noted: Noted, rescored: Match | None) -> bool:
        """With another score now: settled anew. Else: every market has a result or is void."""
        if rescored is not None:
            return await self._version(rescored) > 1
        if noted.stage is not Stage.SETTLED:
            reply: event_pb2.GetEventResponse = await self._peers.events.call(
                self._events.GetEvent, event_pb2.GetEventRequest(event_id=noted.event_id), idempotent=True
            )
            return all(market.status in _PAID for market in reply.event.markets)
        return True

    async def _version(self, match: Match) -> int:
        request = settlement_pb2.GetSettlementRequest(market_id=match.markets[0].market_id)
        reply: settlement_pb2.GetSettlementResponse = await self._peers.settlement.call(
            self._settlement.GetSettlement, request, idempotent=True, principal=self._peers.token()
        )
        return reply.settlement.version
