"""Hears at once that a process has ended: its health stream breaks, and its port refuses connections.

The kubelet says so up to a second later. A stream stays open to each life that is followed. Only the kernel of the
process ends it: the channel sends no keepalive pings, so a lost node or a cut link ends nothing, and a frozen process
keeps its sockets. A stream that ends is no proof yet (a server ends old connections): the port must refuse a connection
twice after that, or another life must answer there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from betting.life import Life
from betting.runtime import channels, logs
from betting.runtime.health_server import LIVE
from betting.runtime.settings import split_address
from betting_operator.platforms.pods import Pod
from betting_operator.platforms.present_lives import PresentLives

# A stream lives for so long, then the next one is opened: after a cut link the old connection may be dead on one side.
RENEW_S = 10.0
# A stream that has said nothing for so long after it was opened is not open.
FIRST_WORD_S = 1.0
RETRY_S = 0.5
CONNECT_S = 0.5
# Between the two connections that must be refused.
AGAIN_S = 0.02
REPLY_BYTES_MAX = 1_024
REFUSED = "its health stream ended, and its port refuses connections"
_KEEPALIVE = "grpc.keepalive_"

_log = logs.get(__name__)


class ExitStreams:
    """ended: called with the pod, the life and what was seen, once for each life that ends while it is followed.

    open: the lives whose stream is open now.
    """

    def __init__(self, lives: PresentLives, ended: Callable[[Pod, Life, str], None]) -> None:
        self._lives = lives
        self._ended = ended
        self._followed: dict[Life, asyncio.Task[None]] = {}
        self.open: set[Life] = set()

    def follow(self, wanted: Mapping[Life, Pod]) -> None:
        """Follows these lives and no others, from now on. For the running event loop."""
        for life in self._followed.keys() - wanted.keys():
            self._followed.pop(life).cancel()
        for life in wanted.keys() - self._followed.keys():
            self._followed[life] = asyncio.create_task(self._follow(life, wanted[life]), name=f"stream of {life}")

    async def close(self) -> None:
        """Ends all streams."""
        tasks = list(self._followed.values())
        self.follow({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, life: Life, pod: Pod) -> None:
        while True:
            try:
                if await self._broken(life, pod.health_address) and (why := await self._why_over(life, pod)):
                    self._ended(pod, life, why)
                    return
            except (OSError, grpc.aio.AioRpcError) as error:
                _log.debug("health stream not open", instance=life.instance, problem=str(error))
            await asyncio.sleep(RETRY_S)

    async def _broken(self, life: Life, address: str) -> bool:
        """Keeps a stream open. True once its connection has ended, False when it could not be opened."""
        options = [(name, value) for name, value in channels.client_options(REPLY_BYTES_MAX) if _KEEPALIVE not in name]
        async with grpc.aio.insecure_channel(channels.target_of(address), options=options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                stream = stub.Watch(health_pb2.HealthCheckRequest(service=LIVE), timeout=RENEW_S)
                try:
                    async with asyncio.timeout(FIRST_WORD_S):
                        await stream.read()
                except (TimeoutError, grpc.aio.AioRpcError):
                    stream.cancel()
                    return False
                self.open.add(life)
                try:
                    while await stream.read() is not grpc.aio.EOF:
                        pass
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                        continue
                finally:
                    self.open.discard(life)
                return True

    async def _why_over(self, life: Life, pod: Pod) -> str:
        """What shows that this life is over; "": nothing does."""
        if await _refuses(pod.health_address):
            await asyncio.sleep(AGAIN_S)
            return REFUSED if await _refuses(pod.health_address) else ""
        answer = await self._lives.ask(pod)
        if answer is None or answer.boot_id == life.boot_id:
            return ""
        return f"its health stream ended, and {answer.boot_id} answers in its place"


async def _refuses(address: str) -> bool:
    """Whether nobody listens there: the network's own refusal, no silence."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(CONNECT_S):
            _reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
