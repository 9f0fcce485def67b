"""Which life runs in a container now: its pod's status has the boot id only of lives that have ended, so it is asked.

Services tell it with their diagnostics, at the address that answers beside their work; Redis with INFO. It is asked
until it answers once, and remembered for as long as that container of that pod runs. What was noted on the pod is
taken as it is: a healer that begins while a node is lost could ask nobody there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

import grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.life import Life
from betting.runtime import channels, redis_link
from betting.runtime.redis_link import RedisLink, boot_id_of, node_url
from betting_operator.healing.redis_signals import REDIS_WORKLOAD
from betting_operator.healing.signals import Phase
from betting_operator.platforms.pods import Pod

TIMEOUT_S = 0.9
REPLY_BYTES_MAX = 64 * 1024
# A main loop that has stood for longer gets nowhere, although the health server answers.
STALLED_MS = 1_000
# So many are asked at once.
ASKED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """boot_id: of the life that answered. gets_on: its main loop makes progress."""

    boot_id: str
    gets_on: bool


class PresentLives:
    """redis_url: of any Redis node, for the credentials."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._known: dict[tuple[str, str], str] = {}  # by the pod's uid and the container's id
        self._unheard_since_s: dict[tuple[str, str], float] = {}  # of those that run and have never answered
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)

    def boot_id(self, pod: Pod) -> str:
        """Of the life in the container that runs; "" while none does, or it has not answered yet."""
        return self._known.get((pod.uid, pod.container), "") or pod.noted

    def unheard_ms(self, pod: Pod) -> int:
        """For how long a pod that runs, and has never told its life, has been asked for it in vain; 0: it is not so."""
        since_s = self._unheard_since_s.get((pod.uid, pod.container))
        unheard_s = 0.0 if since_s is None or pod.phase is not Phase.RUNNING else time.monotonic() - since_s
        return int(unheard_s * 1_000) if unheard_s > TIMEOUT_S else 0

    async def learn(self, pods: Collection[Pod]) -> None:
        """Asks those that are not known yet, once each. pods: all of them; others are forgotten."""
        running = {(pod.uid, pod.container): pod for pod in pods if pod.container and pod.address}
        self._known = {key: boot_id for key, boot_id in self._known.items() if key in running}
        unknown = {key: pod for key, pod in running.items() if key not in self._known and not pod.noted}
        now_s = time.monotonic()
        runs = (key for key, pod in unknown.items() if pod.phase is Phase.RUNNING)
        self._unheard_since_s = {key: self._unheard_since_s.get(key, now_s) for key in runs}
        await asyncio.gather(*(self._learn(pod) for pod in unknown.values()))

    async def ask(self, pod: Pod, timeout_s: float = TIMEOUT_S) -> Answer | None:
        """The answer of whatever runs in the pod now; None when it has none in time, or no address."""
        if not pod.address:
            return None
        async with self._places:
            if pod.workload == REDIS_WORKLOAD:
                return await _ask_redis(node_url(self._redis_url, pod.address), timeout_s)
            return await _ask_service(pod, timeout_s)

    async def _learn(self, pod: Pod) -> None:
        answer = await self.ask(pod)
        if answer is not None and answer.boot_id:
            self._known[pod.uid, pod.container] = answer.boot_id
            self._unheard_since_s.pop((pod.uid, pod.container), None)


async def _ask_service(pod: Pod, timeout_s: float) -> Answer | None:
    async with channels.open_channel(pod.health_address, REPLY_BYTES_MAX) as channel:
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
        try:
            reply = await stub.GetDiagnostics(diagnostics_pb2.GetDiagnosticsRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return None
    said = reply.instance
    # The address may be another pod's by now.
    if Life(said.workload, said.instance, "") != Life(pod.workload, pod.name, ""):
        return None
    return Answer(said.boot_id, reply.stalled_ms < STALLED_MS)


async def _ask_redis(url: str, timeout_s: float) -> Answer | None:
    link = RedisLink(url, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            return Answer(boot_id_of(await link.info()), gets_on=True)
    except redis_link.ERRORS:
        return None
    finally:
        await link.close()
