"""OwnerService over gRPC: thin methods; `execution` does the work of the hot path."""

from __future__ import annotations

import grpc

from betting.bets.clock import monotonic_us
from betting.bets.execution import Execution
from betting.bets.instance import Instance
from betting.bets.ownership import Ownership
from betting.bets.settling import Settler
from betting.internal.v1 import owner_pb2, owner_pb2_grpc
from betting.runtime.principal import Role, require_role


class OwnerServicer(owner_pb2_grpc.OwnerServiceServicer):
    """OwnerService of this process."""

    def __init__(self, instance: Instance, execution: Execution, settler: Settler, ownership: Ownership) -> None:
        self._instance = instance
        self._execution = execution
        self._settler = settler
        self._ownership = ownership

    async def Execute(
        self,
        request: owner_pb2.ExecuteRequest,
        context: grpc.aio.ServicerContext[owner_pb2.ExecuteRequest, owner_pb2.ExecuteResponse],
    ) -> owner_pb2.ExecuteResponse:
        return await self._execution.execute(request)

    async def ExecuteShards(
        self,
        request: owner_pb2.ExecuteShardsRequest,
        context: grpc.aio.ServicerContext[owner_pb2.ExecuteShardsRequest, owner_pb2.ExecuteShardsResponse],
    ) -> owner_pb2.ExecuteShardsResponse:
        return await self._execution.execute_shards(request)

    async def SettleMarket(
        self,
        request: owner_pb2.SettleMarketRequest,
        context: grpc.aio.ServicerContext[owner_pb2.SettleMarketRequest, owner_pb2.SettleMarketResponse],
    ) -> owner_pb2.SettleMarketResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        return await self._settler.settle(request)

    async def HandOver(
        self,
        request: owner_pb2.HandOverRequest,
        context: grpc.aio.ServicerContext[owner_pb2.HandOverRequest, owner_pb2.HandOverResponse],
    ) -> owner_pb2.HandOverResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        to = await self._ownership.hand_over_on_request(request.shard_id, request.epoch, request.to_instance)
        return owner_pb2.HandOverResponse(new_owner=to)

    async def GetOwnerStatus(
        self,
        request: owner_pb2.GetOwnerStatusRequest,
        context: grpc.aio.ServicerContext[owner_pb2.GetOwnerStatusRequest, owner_pb2.GetOwnerStatusResponse],
    ) -> owner_pb2.GetOwnerStatusResponse:
        require_role(context, Role.SERVICE, Role.OPERATOR)
        instance = self._instance
        return owner_pb2.GetOwnerStatusResponse(
            instance=instance.name,
            shards=[self._ownership.describe(owned) for owned in list(instance.shards.values())],
            bets_accepted_total=instance.bets_accepted,
            book_fresh=instance.book.is_fresh(monotonic_us()),
        )
