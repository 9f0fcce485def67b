"""HealthMonitorService over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from betting.health.monitor import Monitor
from betting.runtime.principal import Role, require_role
from betting.v1 import health_pb2, health_pb2_grpc


class HealthMonitorServicer(health_pb2_grpc.HealthMonitorServiceServicer):
    """betting.v1.HealthMonitorService: for operators and services. Answers from memory."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    async def GetPlatformStatus(
        self, request: health_pb2.GetPlatformStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.GetPlatformStatusResponse:
        """The latest status, about a second old."""
        require_role(context, Role.OPERATOR, Role.SERVICE)
        return self._monitor.status()
