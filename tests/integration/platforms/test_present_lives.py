"""Which life runs in a pod's container: asked of the process itself, real services and a real Valkey."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import in_process
import pytest
from servers import ValkeyServer

from betting.embedded.ports import held_ports
from betting.runtime.redis_link import BOOT_ID_SETTING
from betting.runtime.service import Composition, ServiceContext
from betting.supervision.spawning import Command
from betting_operator.healing.signals import Phase
from betting_operator.platforms.pods import Pod
from betting_operator.platforms.present_lives import Answer, PresentLives

SERVICE = Pod("u1", "wallet-1", "wallet-service", True, Phase.RUNNING, "c1", "", "", "node-1", 0, ())
REDIS = replace(SERVICE, uid="u2", name="demo-redis-0", workload="valkey")
BOOT = "0f3c9a8b7c6d5e4f"


class NamedValkey(ValkeyServer):
    """In a life that has a name."""

    def command(self) -> Command:
        plain = super().command()
        return Command((*plain.argv, f"--{BOOT_ID_SETTING}", BOOT), plain.folder)


@pytest.fixture
def valkey_pod(tmp_path: Path) -> Iterator[tuple[NamedValkey, Pod]]:
    """A Valkey, and the pod that it would be."""
    with held_ports(1) as [port]:
        server = NamedValkey(tmp_path, port)
        server.start()
        yield server, replace(REDIS, address=f"127.0.0.1:{port}")
        server.kill()


class Serving:
    """A wallet-service of one instance name."""

    boot_id = ""

    async def compose(self, context: ServiceContext[Any]) -> Composition:
        self.boot_id = context.life.boot_id
        return Composition(servicers=[])


async def test_a_service_is_asked_once_for_each_container_and_known_while_that_one_runs() -> None:
    """The next container of the same pod is another life; what has gone is forgotten."""
    service, lives = Serving(), PresentLives("")
    with held_ports(1) as [port]:
        address = f"127.0.0.1:{port}"
        pod = replace(SERVICE, address=address, health_address=address)
        configured = in_process.settings(instance=pod.name, health_address=address)
        assert lives.boot_id(pod) == ""
        await lives.learn([pod])
        assert lives.boot_id(pod) == ""  # nobody answers yet
        async with in_process.running(service.compose, configured, service=pod.workload):
            await lives.learn([pod])
            assert await lives.ask(pod) == Answer(service.boot_id, gets_on=True)
        await lives.learn([pod])
        assert lives.boot_id(pod) == service.boot_id  # remembered, though nobody answers
        assert lives.boot_id(replace(pod, container="c2")) == ""
        await lives.learn([])
        assert lives.boot_id(pod) == ""


async def test_whoever_answers_at_an_address_under_another_name_is_not_this_pod() -> None:
    """The address may have been given to another pod since."""
    service, lives = Serving(), PresentLives("")
    with held_ports(1) as [port]:
        address = f"127.0.0.1:{port}"
        configured = in_process.settings(instance="wallet-2", health_address=address)
        async with in_process.running(service.compose, configured, service=SERVICE.workload):
            pod = replace(SERVICE, address=address, health_address=address)
            await lives.learn([pod])
            assert lives.boot_id(pod) == ""
            assert await lives.ask(pod) is None


async def test_redis_tells_its_life_with_the_credentials_of_the_platform(valkey_pod: tuple[NamedValkey, Pod]) -> None:
    """Whichever node the URL names; a paused one gives no answer."""
    server, pod = valkey_pod
    elsewhere = server.spec.url().replace(f":{server.spec.port}", ":1")
    assert await PresentLives(elsewhere).ask(pod) == Answer(BOOT, gets_on=True)
    assert await PresentLives("redis://:wrong@127.0.0.1:1/0").ask(pod) is None
    server.signal(signal.SIGSTOP)
    assert await PresentLives(elsewhere).ask(pod) is None


async def test_a_pod_without_an_address_is_not_asked() -> None:
    """Postgres, and what has none yet."""
    lives = PresentLives("")
    await lives.learn([SERVICE])
    assert lives.boot_id(SERVICE) == ""
    assert await lives.ask(SERVICE) is None
