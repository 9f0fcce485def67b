"""The healer's own questions: every running instance is asked once a second how it is, and whom it calls in vain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.runtime import channels
from betting.v1 import health_pb2
from betting_operator.healing.signals import Answer, Probe, Report, Size

INTERVAL_S = 1.0
TIMEOUT_S = 0.9
REPLY_BYTES_MAX = 64 * 1024
# Who has not answered for so long has no word on others, and what it says next begins anew: it may have been stopped.
HEARD_WITHIN_S = 2.5

_SILENT = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclass
class _Asked:
    """One life that is asked. answered_s: when it answered last, or when asking it began; heard_since_s: without a gap.

    said: its last answer.
    """

    boot_id: str
    answered_s: float
    answer: Answer
    began_s: float
    heard_since_s: float
    said: diagnostics_pb2.GetDiagnosticsResponse = field(default_factory=diagnostics_pb2.GetDiagnosticsResponse)


class Prober:
    """boot_ids: the present life of every process that runs, as the platform says."""

    def __init__(self, addresses: Mapping[str, str], boot_ids: Callable[[], Mapping[str, str]]) -> None:
        self._channels = {
            instance: channels.open_channel(address, REPLY_BYTES_MAX) for instance, address in addresses.items()
        }
        self._stubs = {
            instance: diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
            for instance, channel in self._channels.items()
        }
        self._instances = {address: instance for instance, address in addresses.items()}
        self._boot_ids = boot_ids
        self._asked: dict[str, _Asked] = {}

    async def run(self) -> None:
        """Asks all of them side by side, spread over the second."""
        async with asyncio.TaskGroup() as group:
            for number, instance in enumerate(self._channels):
                group.create_task(self._ask_for_ever(instance, number * INTERVAL_S / len(self._channels)))

    def probes(self) -> tuple[Probe, ...]:
        """How the latest questions ended."""
        now_s = time.monotonic()
        return tuple(
            Probe(instance, asked.boot_id, asked.answer, _silent_ms(asked, now_s))
            for instance, asked in sorted(self._asked.items())
        )

    def reports(self) -> tuple[Report, ...]:
        """What those who answer say of those they call, as of now."""
        now_s = time.monotonic()
        return tuple(
            report
            for caller, asked in sorted(self._asked.items())
            if now_s - asked.answered_s <= HEARD_WITHIN_S
            for report in self._reports_of(caller, asked, now_s)
        )

    def sizes(self) -> tuple[Size, ...]:
        """How large those are that answer."""
        now_s = time.monotonic()
        return tuple(
            Size(instance, asked.boot_id, asked.said.instance.resident_bytes, asked.said.explained_bytes)
            for instance, asked in sorted(self._asked.items())
            if now_s - asked.answered_s <= HEARD_WITHIN_S and asked.said.HasField("instance")
        )

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            await channel.close()

    def _reports_of(self, caller: str, asked: _Asked, now_s: float) -> Iterator[Report]:
        age_ms = int((now_s - asked.answered_s) * 1_000)
        for each in asked.said.callees:
            instance = self._instances.get(each.address, "")
            callee = self._asked.get(instance)
            if callee is None:
                continue
            # Nothing from before this life of the callee, or before a gap in what the caller could see.
            longest_ms = int((now_s - max(callee.began_s, asked.heard_since_s)) * 1_000)
            answered_ms = each.answered_ms_ago + age_ms if each.HasField("answered_ms_ago") else None
            yield Report(
                caller=caller,
                instance=instance,
                boot_id=callee.boot_id,
                unanswered=each.unanswered,
                silent_ms=min(each.silent_ms + age_ms, longest_ms) if each.unanswered else 0,
                answered_ms_ago=None if answered_ms is None or answered_ms > longest_ms else answered_ms,
                calls=each.calls,
                failures=each.failures,
                p90_us=each.p90_us,
            )

    async def _ask_for_ever(self, instance: str, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        while True:
            began_s = time.monotonic()
            await self._ask(instance)
            await asyncio.sleep(max(0.0, began_s + INTERVAL_S - time.monotonic()))

    async def _ask(self, instance: str) -> None:
        boot_id = self._boot_ids().get(instance)
        if boot_id is None:  # down, starting, or nobody can say
            self._asked.pop(instance, None)
            return
        asked = self._asked.get(instance)
        if asked is None or asked.boot_id != boot_id:
            now_s = time.monotonic()
            asked = self._asked[instance] = _Asked(boot_id, now_s, Answer.SERVING, now_s, now_s)
        answer, reply = await self._answer(instance)
        if self._asked.get(instance) is asked:
            asked.answer = answer
            if reply is not None:
                _heard(asked, reply, time.monotonic())

    async def _answer(self, instance: str) -> tuple[Answer, diagnostics_pb2.GetDiagnosticsResponse | None]:
        request = diagnostics_pb2.GetDiagnosticsRequest()
        try:
            reply = await self._stubs[instance].GetDiagnostics(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return Answer.SILENT if error.code() in _SILENT else Answer.REFUSED, None
        serving = reply.instance.state == health_pb2.SERVICE_STATE_SERVING
        return Answer.SERVING if serving else Answer.NOT_SERVING, reply


def _heard(asked: _Asked, reply: diagnostics_pb2.GetDiagnosticsResponse, now_s: float) -> None:
    if now_s - asked.answered_s > HEARD_WITHIN_S:
        asked.heard_since_s = now_s
    asked.answered_s = now_s
    asked.said = reply


def _silent_ms(asked: _Asked, now_s: float) -> int:
    if asked.answer in (Answer.SERVING, Answer.NOT_SERVING):
        return 0
    return int((now_s - asked.answered_s) * 1_000)
