"""A service in a thread of its own, whose main loop can be kept from getting on, asked from the test's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import in_process
from grpc_health.v1 import health_pb2, health_pb2_grpc

from betting.embedded.ports import held_ports
from betting.internal.v1 import diagnostics_pb2, diagnostics_pb2_grpc
from betting.runtime.service import Composition, ServiceContext


@dataclass
class Watched:
    """A service in a thread of its own, asked from this one."""

    address: str
    channel: grpc.Channel
    loop: asyncio.AbstractEventLoop
    composed: asyncio.Event
    ended: asyncio.Event
    serving: threading.Event = field(default_factory=threading.Event)

    def health(self, name: str = "") -> int:
        """What it says under a name."""
        request = health_pb2.HealthCheckRequest(service=name)
        return int(health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=5, wait_for_ready=True).status)

    def diagnostics(self) -> diagnostics_pb2.GetDiagnosticsResponse:
        """What it says of itself."""
        request = diagnostics_pb2.GetDiagnosticsRequest()
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(self.channel)
        said: diagnostics_pb2.GetDiagnosticsResponse = stub.GetDiagnostics(request, timeout=5)
        return said

    def block(self, work: Callable[[], None]) -> None:
        """The main loop is at this and nothing else, from now on."""
        begun = threading.Event()

        def at_it() -> None:
            begun.set()
            work()

        self.loop.call_soon_threadsafe(at_it)
        assert begun.wait(5)


@contextmanager
def watched() -> Iterator[Watched]:
    """Composes until `composed` is set."""
    with held_ports(1) as [port]:
        yield from _watched_at(f"127.0.0.1:{port}")


def _watched_at(address: str) -> Iterator[Watched]:
    found: list[Watched] = []
    begun = threading.Event()

    async def live() -> None:
        one = Watched(
            address, grpc.insecure_channel(address), asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        )
        found.append(one)

        async def compose(_context: ServiceContext[Any]) -> Composition:
            begun.set()
            await one.composed.wait()
            return Composition(servicers=[])

        async with in_process.running(compose, in_process.settings(health_address=address)):
            one.serving.set()
            await one.ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert begun.wait(10)
    try:
        yield found[0]
    finally:
        for event in (found[0].composed, found[0].ended):
            found[0].loop.call_soon_threadsafe(event.set)
        thread.join(10)
        found[0].channel.close()
    assert not thread.is_alive()


@contextmanager
def standing(service: Watched, *, busy: bool) -> Iterator[None]:
    """Its main loop stands for the length of a block, waiting or burning processor time."""
    release = threading.Event()

    def work() -> None:
        while not release.is_set():
            if not busy:
                release.wait(0.05)

    service.block(work)
    try:
        yield
    finally:
        release.set()
