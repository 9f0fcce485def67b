"""One gRPC connection to an owner: encoded requests in, replies out, failures as ServiceError.

Not a runtime Target: a shard's queue already bounds what is in flight, and holds callers instead of opening a breaker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from betting import life
from betting.clients.owners.framing import execute_shards_request
from betting.internal.v1 import owner_pb2
from betting.runtime import channels, principal, remote_errors
from betting.runtime.errors import ServiceError
from betting.runtime.method import class_of
from betting.runtime.outcomes import End, PeerRecords, end_of

_SERVICE = "/betting.internal.v1.OwnerService/"
_OWNER: Final = "the shard's owner"
MAX_MESSAGE_BYTES: Final = 4 << 20
_EXECUTE_S: Final = class_of(_SERVICE + "Execute").objective_s
_SETTLE_S: Final = class_of(_SERVICE + "SettleMarket").objective_s

# The reason of a status (not a refusal) that says the shard is elsewhere.
NOT_OWNER: Final = "NOT_OWNER"

# After these the command may or may not have been carried out, and asking again with the same key is right.
REPEATABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


def repeatable(error: ServiceError) -> bool:
    """Whether the same commands may and should be sent again."""
    return error.code in REPEATABLE or error.reason == NOT_OWNER


class OwnerConnection(Protocol):
    """What a link needs of its owner."""

    async def execute(self, requests: Sequence[bytes], timeout_s: float) -> Sequence[owner_pb2.ExecuteResponse]:
        """Sends serialized ExecuteRequests, one per shard; one reply each, in order. Raises ServiceError."""

    async def settle_market(
        self, request: owner_pb2.SettleMarketRequest, timeout_s: float
    ) -> owner_pb2.SettleMarketResponse:
        """Settles a market on one shard. Raises ServiceError."""

    async def close(self) -> None:
        """Ends the connection; calls in flight fail."""


class GrpcOwnerConnection:
    """An owner over gRPC; settling needs the service's own token, commands carry their callers'.

    Falls back to one call per shard for owners that do not know ExecuteShards. callees: keeps what is experienced.
    owner: the life that is called, as the directory names it.
    """

    def __init__(
        self, address: str, owner: life.Life, service_token: Callable[[], bytes], callees: PeerRecords
    ) -> None:
        self._callees = callees
        self._outcomes = callees.opened(address, owner)
        self._channel = channels.open_channel(address, MAX_MESSAGE_BYTES)
        self._service_token = service_token
        self._execute: Any = self._channel.unary_unary(
            _SERVICE + "Execute", response_deserializer=owner_pb2.ExecuteResponse.FromString
        )
        self._execute_shards: Any = self._channel.unary_unary(
            _SERVICE + "ExecuteShards", response_deserializer=owner_pb2.ExecuteShardsResponse.FromString
        )
        self._settle = self._channel.unary_unary(
            _SERVICE + "SettleMarket",
            request_serializer=owner_pb2.SettleMarketRequest.SerializeToString,
            response_deserializer=owner_pb2.SettleMarketResponse.FromString,
        )
        self._knows_shards = True

    async def execute(self, requests: Sequence[bytes], timeout_s: float) -> Sequence[owner_pb2.ExecuteResponse]:
        if len(requests) == 1:
            return [await self._call(self._execute, requests[0], timeout_s)]
        if self._knows_shards:
            try:
                reply: Any = await self._call(self._execute_shards, execute_shards_request(requests), timeout_s)
            except ServiceError as error:
                if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                self._knows_shards = False
            else:
                responses: Sequence[owner_pb2.ExecuteResponse] = reply.responses
                return responses
        calls = (self._call(self._execute, request, timeout_s) for request in requests)
        replies: Sequence[owner_pb2.ExecuteResponse] = await asyncio.gather(*calls)
        return replies

    async def settle_market(
        self, request: owner_pb2.SettleMarketRequest, timeout_s: float
    ) -> owner_pb2.SettleMarketResponse:
        metadata = ((principal.METADATA_KEY, self._service_token()),)
        reply: owner_pb2.SettleMarketResponse = await self._call(
            self._settle, request, timeout_s, metadata, objective_s=_SETTLE_S
        )
        return reply

    async def close(self) -> None:
        self._callees.closed(self._outcomes)
        await self._channel.close()

    async def _call(
        self, method: Any, request: Any, timeout_s: float, metadata: Any = None, objective_s: float = _EXECUTE_S
    ) -> Any:
        end = End.GIVEN_UP
        named: life.Life | None = None
        number = self._outcomes.began(time.monotonic(), objective_s)
        try:
            call = method(request, timeout=timeout_s, metadata=metadata)
            response = await call
            end = End.ANSWERED
            named = life.named((await call.trailing_metadata()).get(life.METADATA_KEY))
        except grpc.aio.AioRpcError as error:
            translated = remote_errors.translated(error, _OWNER)
            end = end_of(translated, timeout_s, objective_s)
            named = translated.life
            raise translated from None
        except grpc.aio.UsageError:
            raise remote_errors.closed(_OWNER) from None
        finally:
            self._outcomes.ended(number, end, time.monotonic(), named)
        return response
