"""The end of a process is heard on its health stream: real processes that are killed, stopped and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from platform_contract import until

from betting.embedded.ports import held_ports
from betting.life import Life
from betting_operator.healing.signals import Phase
from betting_operator.platforms import exit_streams
from betting_operator.platforms.exit_streams import REFUSED, ExitStreams
from betting_operator.platforms.pods import Pod
from betting_operator.platforms.present_lives import PresentLives

SUPPORT = Path(__file__).parents[2] / "support"
NAME = "bet-1"
SERVICE = f"""
import asyncio, sys
import in_process
from betting.runtime.service import Composition

async def compose(context):
    print(context.life.boot_id, flush=True)
    return Composition(servicers=[])

async def serve():
    address = sys.argv[1]
    configured = in_process.settings(instance="{NAME}", health_address=address)
    async with in_process.running(compose, configured, service="bet-service"):
        print("serving", flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


class Process:
    """A bet-service's health port in a process of its own."""

    def __init__(self, port: int) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
        command = [sys.executable, "-c", SERVICE, f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.life = Life("bet-service", NAME, self.process.stdout.readline().strip())
        assert any(line == "serving\n" for line in iter(self.process.stdout.readline, ""))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Heard:
    """What was heard, and streams that are followed."""

    def __init__(self) -> None:
        self.ends: list[tuple[Life, str]] = []
        self.streams = ExitStreams(PresentLives(""), lambda _pod, life, why: self.ends.append((life, why)))

    async def wait(self) -> None:
        await until(lambda: bool(self.ends), "an end is heard")


def port_of(proxy: CuttingProxy) -> int:
    return int(proxy.address.rpartition(":")[2])


def pod_at(port: int) -> Pod:
    address = f"127.0.0.1:{port}"
    return Pod("u1", NAME, "bet-service", True, Phase.RUNNING, "c1", address, address, "node-1", 0, ())


@asynccontextmanager
async def followed(life: Life, port: int) -> AsyncIterator[Heard]:
    """Follows one life, with its stream open."""
    heard = Heard()
    heard.streams.follow({life: pod_at(port)})
    await until(lambda: life in heard.streams.open, "the stream is open")
    try:
        yield heard
    finally:
        await heard.streams.close()


@pytest.fixture
def port() -> Iterator[int]:
    with held_ports(1) as [found]:
        yield found


async def test_a_killed_process_is_heard_at_once(port: int) -> None:
    """Long before a kubelet would report it."""
    process = Process(port)
    async with followed(process.life, port) as heard:
        process.kill()
        killed_s = time.monotonic()
        await heard.wait()
        took_s = time.monotonic() - killed_s
        assert heard.ends == [(process.life, REFUSED)]
        assert took_s < 1.0


async def test_a_process_that_is_stopped_and_goes_on_has_not_ended(port: int) -> None:
    """Nothing is heard of it while it stands, nor when it continues; its real end is heard afterwards."""
    process = Process(port)
    try:
        async with followed(process.life, port) as heard:
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(2.0)
            process.signal(signal.SIGCONT)
            await asyncio.sleep(1.0)
            assert heard.ends == []
            process.kill()
            await heard.wait()
            assert [life for life, _why in heard.ends] == [process.life]
    finally:
        process.kill()


async def test_a_cut_connection_to_a_process_that_lives_is_no_end(port: int) -> None:
    """The stream breaks, and the port answers in the same life: it is followed further."""
    process = Process(port)
    try:
        async with (
            CuttingProxy(f"tcp://127.0.0.1:{port}") as proxy,
            followed(process.life, int(proxy.address.rpartition(":")[2])) as heard,
        ):
            proxy.cut()
            await until(lambda: process.life not in heard.streams.open, "the stream has ended")
            await until(lambda: process.life in heard.streams.open, "the stream is open again")
            assert heard.ends == []
    finally:
        process.kill()


async def test_another_life_at_the_same_address_shows_that_the_old_one_is_over(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container was started again before anybody looked."""
    old = Process(port)
    looked = asyncio.Event()
    refuses = exit_streams._refuses

    async def late(address: str) -> bool:
        await looked.wait()
        return await refuses(address)

    monkeypatch.setattr(exit_streams, "_refuses", late)
    async with followed(old.life, port) as heard:
        old.kill()
        new = await asyncio.to_thread(Process, port)
        try:
            looked.set()
            await heard.wait()
            assert heard.ends == [(old.life, f"its health stream ended, and {new.life.boot_id} answers in its place")]
        finally:
            new.kill()


async def test_a_stream_is_renewed_and_hears_the_end_after_that(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is dead on one side alone would be listened to for ever."""
    monkeypatch.setattr(exit_streams, "RENEW_S", 0.2)
    process = Process(port)
    async with followed(process.life, port) as heard:
        await asyncio.sleep(1.0)
        assert heard.ends == []
        process.kill()
        await heard.wait()


async def test_who_is_not_followed_any_more_is_not_heard(port: int) -> None:
    """Its pod has gone, or it was told already."""
    process = Process(port)
    async with followed(process.life, port) as heard:
        heard.streams.follow({})
        process.kill()
        await asyncio.sleep(0.5)
        assert heard.ends == []
