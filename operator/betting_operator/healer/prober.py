"""The healer's own probe: every running life is probed once a second, and reports its calls to other processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.life import Life
from betting.runtime import channels
from betting.v1 import health_pb2
from betting_operator.healing.signals import Answer, Phase, Probe, Report, Size
from betting_operator.platforms.port import REDIS_WORKLOAD, Instance, Inventory

INTERVAL_S = 1.0
# How often it looks for lives that came or went.
LOOK_S = 0.2
TIMEOUT_S = 0.9
REPLY_BYTES_MAX = 64 * 1024
# A main loop without progress for so long is silent, although the health port answers.
STALLED_S = 1.0
# It works at something if it gets so much of a processor meanwhile: on a busy machine no process gets a whole one.
BUSY_SHARE = 0.2
# Who has not answered for so long has no word on others, and what it says next begins anew: it may have been stopped.
HEARD_WITHIN_S = 2.5

# What speaks no gRPC, and the healer itself.
NOT_ASKED = frozenset({REDIS_WORKLOAD, "healer"})
_SILENT = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclass
class _Asked:
    """One life that is asked. address: where it is called; asked_at: where it answers beside its work.

    got_on_s: when it is last known to have got on, or when asking it began. said, said_s: what its main loop said last,
    and when; heard_since_s: without a gap until then. lag_ms: how late that loop was; stalled, busy: it stands, and
    burns processor time.
    """

    life: Life
    address: str
    asked_at: str
    got_on_s: float
    answer: Answer
    began_s: float
    heard_since_s: float
    said_s: float
    lag_ms: int = 0
    stalled: bool = False
    busy: bool = False
    said: diagnostics_pb2.GetDiagnosticsResponse = field(default_factory=diagnostics_pb2.GetDiagnosticsResponse)


class Prober:
    """instances: the running instances, from the platform; None: not known, and nothing is probed."""

    def __init__(self, instances: Inventory) -> None:
        self._instances = instances
        self._asked: dict[str, _Asked] = {}  # by instance: the life that is asked now

    async def run(self) -> None:
        """Probes every life from its start until it no longer runs."""
        async with asyncio.TaskGroup() as group:
            while True:
                running = {each.instance: each for each in self._instances() or () if _can_be_asked(each)}
                for gone in [name for name, asked in self._asked.items() if not _is_asked(asked, running.get(name))]:
                    del self._asked[gone]
                fresh = [each for name, each in running.items() if name not in self._asked]
                for number, each in enumerate(fresh):
                    life = each.life
                    assert life is not None
                    now_s = time.monotonic()
                    asked = _Asked(life, each.address, _asked_at(each), now_s, Answer.SERVING, now_s, now_s, now_s)
                    self._asked[each.instance] = asked
                    group.create_task(self._ask_while_it_runs(asked, number * INTERVAL_S / len(fresh)))
                await asyncio.sleep(LOOK_S)

    def probes(self) -> tuple[Probe, ...]:
        """The results of the latest probes."""
        now_s = time.monotonic()
        return tuple(
            Probe(asked.life, asked.answer, _silent_ms(asked, now_s), asked.lag_ms, asked.busy)
            for _instance, asked in sorted(self._asked.items())
        )

    def reports(self) -> tuple[Report, ...]:
        """The reports about called lives, from the lives that answer."""
        now_s = time.monotonic()
        return tuple(
            report
            for caller, asked in sorted(self._asked.items())
            if now_s - asked.said_s <= HEARD_WITHIN_S
            for report in self._reports_of(caller, asked, now_s)
        )

    def sizes(self) -> tuple[Size, ...]:
        """The memory of the lives that answer."""
        now_s = time.monotonic()
        return tuple(
            Size(asked.life, asked.said.instance.resident_bytes, asked.said.explained_bytes)
            for _instance, asked in sorted(self._asked.items())
            if now_s - asked.said_s <= HEARD_WITHIN_S and asked.said.HasField("instance")
        )

    def _reports_of(self, caller: str, asked: _Asked, now_s: float) -> Iterator[Report]:
        age_ms = int((now_s - asked.said_s) * 1_000)
        for each in asked.said.callees:
            callee = self._asked.get(each.instance)
            # Reports are about lives, never addresses: one about a life that ended, or an unknown one, is dropped.
            if callee is None or callee.life != Life(each.workload, each.instance, each.boot_id):
                continue
            # Nothing from before it was asked itself, or before a gap in what the caller could see.
            longest_ms = int((now_s - max(callee.began_s, asked.heard_since_s)) * 1_000)
            answered_ms = each.answered_ms_ago + age_ms if each.HasField("answered_ms_ago") else None
            yield Report(
                caller=caller,
                life=callee.life,
                unanswered=each.unanswered,
                silent_ms=min(each.silent_ms + age_ms, longest_ms) if each.unanswered else 0,
                answered_ms_ago=None if answered_ms is None or answered_ms > longest_ms else answered_ms,
                calls=each.calls,
                failures=each.failures,
                p90_us=each.p90_us,
            )

    async def _ask_while_it_runs(self, asked: _Asked, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        channel = channels.open_channel(asked.asked_at, REPLY_BYTES_MAX)
        try:
            stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
            while self._asked.get(asked.life.instance) is asked:
                began_s = time.monotonic()
                asked.answer, reply = await _answer(stub, asked.life)
                if reply is not None:
                    _heard(asked, reply, time.monotonic())
                await asyncio.sleep(max(0.0, began_s + INTERVAL_S - time.monotonic()))
        finally:
            await channel.close()


async def _answer(
    stub: diagnostics_pb2_grpc.DiagnosticsServiceStub, life: Life
) -> tuple[Answer, diagnostics_pb2.GetDiagnosticsResponse | None]:
    """The answer of this life. If another life answers at the address, this one is not there."""
    try:
        reply = await stub.GetDiagnostics(diagnostics_pb2.GetDiagnosticsRequest(), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return Answer.SILENT if error.code() in _SILENT else Answer.REFUSED, None
    if Life(reply.instance.workload, reply.instance.instance, reply.instance.boot_id) != life:
        return Answer.REFUSED, None
    serving = reply.instance.state == health_pb2.SERVICE_STATE_SERVING
    return Answer.SERVING if serving else Answer.NOT_SERVING, reply


def _can_be_asked(each: Instance) -> bool:
    return each.phase is Phase.RUNNING and bool(each.boot_id and each.address) and each.workload not in NOT_ASKED


def _is_asked(asked: _Asked, now: Instance | None) -> bool:
    return now is not None and (asked.life, asked.address, asked.asked_at) == (now.life, now.address, _asked_at(now))


def _asked_at(each: Instance) -> str:
    return each.health_address or each.address


def _heard(asked: _Asked, reply: diagnostics_pb2.GetDiagnosticsResponse, now_s: float) -> None:
    asked.got_on_s = now_s - reply.stalled_ms / 1_000
    asked.lag_ms = reply.lag_ms
    asked.stalled = reply.stalled_ms >= STALLED_S * 1_000
    asked.busy = 0 < reply.stalled_ms * BUSY_SHARE <= reply.stalled_cpu_ms
    if reply.stalled_ms:  # the rest is what it said before
        return
    if now_s - asked.said_s > HEARD_WITHIN_S:
        asked.heard_since_s = now_s
    asked.said_s = now_s
    asked.said = reply


def _silent_ms(asked: _Asked, now_s: float) -> int:
    if asked.answer in (Answer.SERVING, Answer.NOT_SERVING) and not asked.stalled:
        return 0
    return int((now_s - asked.got_on_s) * 1_000)
