"""Resolves the addresses of instances and probes one instance over gRPC. Raises nothing: failures are results."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2 as grpc_health_pb2
from grpc_health.v1 import health_pb2_grpc as grpc_health_pb2_grpc

from betting.health.observations import BET_SERVICE, MonitoredInstance, Probe, ProbeResult
from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc, owner_pb2, owner_pb2_grpc
from betting.life import Life
from betting.runtime import channels
from betting.runtime.names import AddressInfo
from betting.runtime.outcomes import WINDOW_S, End, Outcomes, PeerRecords
from betting.runtime.principal import METADATA_KEY
from betting.runtime.settings import split_address
from betting.v1 import health_pb2

# Instances asked at the same moment.
IN_FLIGHT_MAX: Final = 64
# Silence is counted from the last answer where that is no longer ago: who asks less often has not heard of it since.
ASKED_EVERY_MAX_S: Final = 1.0
REPLY_BYTES_MAX: Final = 4 * 1024 * 1024

_SILENT: Final = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED})

_T = TypeVar("_T")

GetAddrInfo = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]


class Resolver:
    """Every address behind a name: a name of several instances (a headless Service) is each of them.

    A name that cannot be resolved now has the addresses it had last. getaddrinfo: None: the running loop's.
    """

    def __init__(self, timeout_s: float, getaddrinfo: GetAddrInfo | None = None) -> None:
        self._timeout_s = timeout_s
        self._getaddrinfo = getaddrinfo or _getaddrinfo
        self._last: dict[str, tuple[str, ...]] = {}

    async def each(self, watched: MonitoredInstance) -> list[MonitoredInstance]:
        """The same with each address that its name has; as it is while none is known."""
        return [replace(watched, address=address) for address in await self._addresses(watched.address)]

    async def _addresses(self, address: str) -> tuple[str, ...]:
        host, port = _named(address)
        if host:
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self._getaddrinfo(host, port)
            except (OSError, UnicodeError):  # TimeoutError is an OSError
                found = ()
            if found:
                self._last[address] = _written(found, port)
        return self._last.get(address, (address,))


async def _getaddrinfo(host: str, port: int) -> Sequence[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _named(address: str) -> tuple[str, int]:
    """The host that has to be looked up; "" for an IP address, and for what only gRPC understands (unix:…, dns:…)."""
    try:
        host, port = split_address(address)
    except ValueError:
        return "", 0
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host, port
    return "", port


def _written(found: Iterable[AddressInfo], port: int) -> tuple[str, ...]:
    """IPv4 where there is any: the same hosts often have both, and may listen on one only."""
    four, six = (sorted({info[4][0] for info in found if info[0] == family}) for family in _FAMILIES)
    return tuple(f"{host}:{port}" for host in four) or tuple(f"[{host}]:{port}" for host in six)


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass
class _Asked:
    """An instance's channel, the record of what it answered, and when it did last (monotonic; 0: never)."""

    channel: grpc.aio.Channel
    outcomes: Outcomes
    answered_s: float = 0.0


class Prober:
    """Keeps one channel per address. token: this service's principal, signed anew for each round of probes.

    peers: where it is recorded who answers, for the healer: the word of another process on another path than its own.
    """

    def __init__(self, timeout_s: float, token: Callable[[], bytes], peers: PeerRecords) -> None:
        self._timeout_s = timeout_s
        self._token = token
        self._peers = peers
        self._asked: dict[str, _Asked] = {}
        self._gone: list[tuple[float, Outcomes]] = []  # since when, the oldest first
        self._places = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def probe(self, watched: MonitoredInstance) -> Probe:
        """Health, diagnostics and, from bet-service, what it owns; in parallel, each within the timeout."""
        async with self._places:
            asked = self._asked_at(watched.address)
            result, answer, owner = await asyncio.gather(
                self._health(asked.channel),
                self._diagnostics(asked),
                self._owner(asked.channel) if watched.workload == BET_SERVICE else _nothing(),
            )
        if answer is None:
            return Probe(result, None, owner)
        # One reply, so one life: behind a balancer another may answer for its health.
        serving = answer.instance.state == health_pb2.SERVICE_STATE_SERVING
        result = ProbeResult.SERVING if serving else ProbeResult.NOT_SERVING
        return Probe(result, answer.instance, owner, tuple(answer.alerts))

    async def keep_only(self, addresses: Iterable[str]) -> None:
        """Closes the channels to all other addresses. What was recorded of them is kept for a while: an instance that
        hangs leaves DNS as soon as its readiness probe fails."""
        now_s = time.monotonic()
        while self._gone and now_s - self._gone[0][0] > WINDOW_S:
            self._peers.closed(self._gone.pop(0)[1])
        for address in self._asked.keys() - set(addresses):
            asked = self._asked.pop(address)
            self._gone.append((now_s, asked.outcomes))
            await asked.channel.close()

    async def close(self) -> None:
        """Closes all channels."""
        await self.keep_only(())
        while self._gone:
            self._peers.closed(self._gone.pop()[1])

    def _asked_at(self, address: str) -> _Asked:
        if address not in self._asked:
            channel = channels.open_channel(address, REPLY_BYTES_MAX)
            self._asked[address] = _Asked(channel, self._peers.opened(address))
        return self._asked[address]

    async def _health(self, channel: grpc.aio.Channel) -> ProbeResult:
        request = grpc_health_pb2.HealthCheckRequest()
        try:
            answer = await self._call(grpc_health_pb2_grpc.HealthStub(channel).Check, request)
        except grpc.aio.AioRpcError as error:
            return ProbeResult.SILENT if error.code() in _SILENT else ProbeResult.REFUSED
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            return ProbeResult.REFUSED  # the channel was closed meanwhile
        serving = answer.status == grpc_health_pb2.HealthCheckResponse.SERVING
        return ProbeResult.SERVING if serving else ProbeResult.NOT_SERVING

    async def _diagnostics(self, asked: _Asked) -> Any:
        method = diagnostics_pb2_grpc.DiagnosticsServiceStub(asked.channel).GetDiagnostics
        now_s = time.monotonic()
        # One that does not answer has been silent since its last answer, not since this question.
        since_s = max(asked.answered_s, now_s - ASKED_EVERY_MAX_S) if asked.answered_s else now_s
        number = asked.outcomes.began(since_s, self._timeout_s)
        end, named = End.GIVEN_UP, None
        try:
            answer = await self._call(method, diagnostics_pb2.GetDiagnosticsRequest())
            end, named = End.ANSWERED, _life(answer.instance)
            asked.answered_s = time.monotonic()
        except grpc.aio.AioRpcError:
            end = End.UNANSWERED
            return None
        except (grpc.aio.UsageError, asyncio.InvalidStateError):
            return None
        finally:
            asked.outcomes.ended(number, end, time.monotonic(), named)
        return answer

    async def _owner(self, channel: grpc.aio.Channel) -> Any:
        method = owner_pb2_grpc.OwnerServiceStub(channel).GetOwnerStatus
        return await self._reply(method, owner_pb2.GetOwnerStatusRequest())

    async def _reply(self, method: Callable[..., Awaitable[_T]], request: object) -> _T | None:
        try:
            return await self._call(method, request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return None

    async def _call(self, method: Callable[..., Awaitable[_T]], request: object) -> _T:
        return await method(request, timeout=self._timeout_s, metadata=((METADATA_KEY, self._token()),))


async def _nothing() -> None:
    return None


def _life(instance: health_pb2.InstanceStatus) -> Life:
    return Life(instance.workload, instance.instance, instance.boot_id)
