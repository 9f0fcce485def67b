"""The feeds, as odds-service tells of them."""

from __future__ import annotations

from betting.runtime.client import Target
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2, odds_pb2_grpc


class Producers:
    """Remembers the last answer. target: odds-service, None where there is none."""

    def __init__(self, target: Target | None, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._last: tuple[odds_pb2.Producer, ...] = ()
        self.known = False

    async def read(self) -> tuple[odds_pb2.Producer, ...]:
        """The feeds of the last answer; `known` says whether this was it."""
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
