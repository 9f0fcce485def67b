"""The services that a producer of events and prices talks to, and which of their answers are final."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.breaker import BreakerPolicy
from betting.runtime.client import Target
from betting.runtime.election import Election
from betting.runtime.errors import ServiceError
from betting.runtime.service import ServiceContext
from betting.v1.odds_pb2 import MarketPrices

# A feed must find a restarted odds-service within seconds, and is too small to hurt one that struggles.
_BREAKER = BreakerPolicy(open_s=1.0, probes=1)

# The same call will not be answered otherwise until somebody changes something.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Producer(NamedTuple):
    """Who publishes prices: the id by which odds-service and the election know it, and its name for people."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Peers:
    """The services a producer talks to, the token it shows them, and the term at which it acts."""

    producer: Producer
    events: Target
    odds: Target
    settlement: Target
    token: Callable[[], bytes]
    term: Callable[[], int]

    async def publish(self, changes: Iterable[MarketPrices], *, snapshot: bool) -> feed_pb2.PublishPricesResponse:
        """Publishes prices with the term of this process; without changes and snapshot it is a heartbeat.

        Raises ServiceError.
        """
        request = feed_pb2.PublishPricesRequest(
            producer_id=self.producer.id,
            producer_name=self.producer.name,
            changes=changes,
            snapshot=snapshot,
            term=self.term(),
        )
        method = self.odds.stub(feed_pb2_grpc.PriceFeedServiceStub).PublishPrices
        return await self.odds.call(method, request, idempotent=True, principal=self.token())


def of_context(context: ServiceContext[Any], election: Election, producer: Producer) -> Peers:
    """The peers from the settings of a process. Raises ConfigurationError.

    Only an active producer gets a token. One that was replaced without noticing gets UNAVAILABLE NOT_ACTIVE instead,
    and calls nothing.
    """

    def token() -> bytes:
        election.require()
        return context.service_token()

    settings = context.settings
    return Peers(
        producer=producer,
        events=context.target("event-service", settings.event_service, breaker=_BREAKER),
        odds=context.target("odds-service", settings.odds_service, breaker=_BREAKER),
        settlement=context.target("settlement-service", settings.settlement_service, breaker=_BREAKER),
        token=token,
        term=election.require,
    )


def is_refusal(error: ServiceError) -> bool:
    """Whether the error is final for now; other errors should be retried."""
    return error.code in _REFUSALS
