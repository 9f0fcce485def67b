"""Health beside the work: it answers while the main loop does not, and says for how long that has been."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import in_process
import pytest
from beside import standing, watched
from grpc_health.v1 import health_pb2

from betting.runtime.health_server import Diagnostics, Progress
from betting.runtime.server import PortBusyError
from betting.runtime.service import Composition, ServiceContext

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_it_lives_from_the_first_moment_and_is_ready_when_it_serves() -> None:
    """`live` is of the process alone; readiness is not."""
    with watched() as service:
        assert service.health("live") == SERVING
        assert service.health() == NOT_SERVING
        service.loop.call_soon_threadsafe(service.composed.set)
        assert service.serving.wait(5)
        assert service.health() == SERVING
        said = service.diagnostics()
        assert said.instance.instance == "test-1"
        assert said.stalled_ms == 0


@pytest.mark.parametrize("busy", [False, True], ids=["waits", "burns processor time"])
def test_a_main_loop_that_stands_is_told_for_how_long_and_whether_it_works(busy: bool) -> None:
    """Again and again, until it gets on."""
    with watched() as service:
        before = service.diagnostics()
        began_s = time.monotonic()
        with standing(service, busy=busy):
            first = service.diagnostics()
            assert service.health("live") == SERVING
            while (later := service.diagnostics()).stalled_ms < 1_000:
                assert time.monotonic() - began_s < 10
        assert 0 < first.stalled_ms < 1_000
        assert later.instance == before.instance, "the rest is what the loop said last"
        assert (later.stalled_cpu_ms >= later.stalled_ms * 0.2) is busy
        while service.diagnostics().stalled_ms:
            assert time.monotonic() - began_s < 10


async def test_a_report_that_fails_is_no_standing_loop() -> None:
    """The loop answered: the next question is asked anew, and gets what was reported last."""
    reports = iter([Diagnostics(explained_bytes=7)])
    progress = Progress(asyncio.get_running_loop(), lambda: next(reports))
    for _ in range(2):
        said = await asyncio.to_thread(progress.ask)
        assert (said.stalled_ms, said.explained_bytes) == (0, 7)


async def test_an_address_that_is_taken_is_refused(unused_tcp_port: int) -> None:
    """As the service's own would be."""
    address = f"127.0.0.1:{unused_tcp_port}"

    async def compose(_context: ServiceContext[Any]) -> Composition:
        return Composition(servicers=[])

    async with in_process.running(compose, in_process.settings(health_address=address)):
        with pytest.raises(PortBusyError, match=address):
            async with in_process.running(compose, in_process.settings(health_address=address)):
                pass
