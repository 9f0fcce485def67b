"""Probes of the readiness of a process. Each returns within about a second and never raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import psycopg
import redis.asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.runtime.redis import NodeConnection
from betting.supervision.process import Probe

PROBE_TIMEOUT_S = 1.0
# A main loop that has not got on for so long is silent; how long that may last is not decided here.
STALLED_MS = 1_000
# A pool of its own: the shared one keeps a failed address in back-off for a second and more.
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
# A process that comes back on the same address is found again within a second.
_ALIVE_OPTIONS = (
    *_CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def postgres(dsn: Callable[[], str]) -> Probe:
    """Ready once it accepts a connection. The DSN is read each time: its password file may not exist yet."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                connection = await psycopg.AsyncConnection.connect(dsn())
                await connection.close()
        except (psycopg.Error, TimeoutError):
            return False
        return True

    return probe


def valkey(url: Callable[[], str]) -> Probe:
    """Ready once it answers a ping."""

    async def probe() -> bool:
        client = redis.asyncio.Redis.from_url(
            url(),
            connection_class=NodeConnection,
            socket_timeout=PROBE_TIMEOUT_S,
            socket_connect_timeout=PROBE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            await client.ping()
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True

    return probe


def grpc_serving(address: str) -> Probe:
    """Ready once grpc.health.v1 says SERVING for the whole server."""

    async def probe() -> bool:
        if not await _listens(address):  # fifty times cheaper than a channel, while a dozen processes import
            return False
        async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                reply = await check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
            except (TimeoutError, grpc.aio.AioRpcError):
                return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    return probe


class GrpcAlive:
    """Whether the main loop of an instance makes progress, as its health server reports, whether it serves or not.

    The connection is kept: it is probed every second.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def __call__(self) -> bool:
        """The result within about a second."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=_ALIVE_OPTIONS)
        try:
            reply = await diagnostics_pb2_grpc.DiagnosticsServiceStub(self._channel).GetDiagnostics(
                diagnostics_pb2.GetDiagnosticsRequest(), timeout=PROBE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.stalled_ms < STALLED_MS)


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
