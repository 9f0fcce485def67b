"""The healer and real Valkeys that behave as pods: they boot fenced, and come back at other addresses."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from healing_waits import until
from redis_pods import PODS, PodValkey, Store, healed
from scripted_platform import ScriptedPlatform

from betting.embedded.ports import held_ports
from betting.life import Life
from betting.supervision import files
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.signals import Phase
from betting_operator.platforms.port import REDIS_WORKLOAD, CannotDo, Instance

pytestmark = pytest.mark.slow


@pytest.fixture
async def store(database: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """A healer over three Redis pods and a database that has never had a Redis primary."""
    async with healed(database, tmp_path, ScriptedPlatform()) as made:
        yield made


async def test_the_first_start_names_a_primary_and_the_others_are_made_to_follow_it(store: Store) -> None:
    """Nobody else does it where no supervisor runs."""
    for name in PODS:
        await store.pods.start(name)
    await until(store.some_serves, "a first primary that both others follow")
    row = await store.row()
    assert row is not None
    assert row.epoch == 1
    await store.pods.set(row.primary, b"first")
    for name in PODS:
        await until(partial(store.pods.is_filled, name, b"first"), f"a copy in {name}")


async def test_pods_that_come_back_elsewhere_are_found_and_followed_at_their_new_addresses(store: Store) -> None:
    """One by one nothing is lost; all at once everything is: one begins again, empty, and is followed where it is."""
    for name in PODS:
        await store.pods.start(name)
    await until(store.some_serves, "a first primary")
    first = await store.row()
    assert first is not None
    await store.pods.set(first.primary, b"kept")
    await store.pods.end(first.primary)
    await store.pods.start(first.primary)
    await until(store.some_serves, "a second primary, followed also by the one that came back")
    second = await store.row()
    assert second is not None
    assert (second.epoch, await store.pods.get(second.primary)) == (2, b"kept")
    assert second.primary != first.primary
    await until(lambda: store.pods.is_filled(first.primary, b"kept"), "its copy")
    for name in PODS:
        await store.pods.end(name)
    for name in PODS:
        await store.pods.start(name)
    await until(store.some_serves, "a primary again, followed at its new address")
    third = await store.row()
    assert third is not None
    assert third.epoch == 3
    assert await store.pods.get(third.primary) is None


async def test_an_answer_that_comes_in_a_later_round_is_not_fresh(tmp_path: Path) -> None:
    """A node that hangs keeps a round waiting no longer than it must. What it answers afterwards was asked before the
    record of that later round was read: it is no proof of anything about it."""
    password_file = tmp_path / "password"
    files.write_secret(password_file, "secret-of-these-pods")
    with held_ports(1) as [port]:
        server = PodValkey(tmp_path, port, password_file, "boot-1", min_replicas=1)
        server.start()
        there = Instance(REDIS_WORKLOAD, PODS[0], "boot-1", Phase.RUNNING, f"127.0.0.1:{port}")
        watch = RedisWatch(lambda: (there,), server.spec.url())
        try:
            [node] = await watch.ask()
            assert (node.answers, node.fresh, node.min_replicas) == (True, True, 1)
            for _try in range(10):  # on a busy machine the question may have ended before the next round
                server.signal(signal.SIGSTOP)
                for _ in range(2):
                    [node] = await watch.ask()
                    assert (node.answers, node.fresh, node.life) == (False, False, there.life)
                server.signal(signal.SIGCONT)  # the question of the last round is still under way
                [late] = await watch.ask()
                while not node.fresh:
                    [node] = await watch.ask()
                if late.answers and not late.fresh:
                    break
            else:
                pytest.fail("no answer to an earlier round was ever told from one to the present round")
            with pytest.raises(CannotDo, match="no Redis node demo-redis-9 with an address to follow"):
                await watch.follow(Life(REDIS_WORKLOAD, PODS[0], "boot-1"), "demo-redis-9")
        finally:
            await watch.close()
            server.kill()


async def test_a_node_without_an_address_is_silent_though_somebody_answers_where_it_was(tmp_path: Path) -> None:
    """Its next pod waits for a machine; at its old address another pod may answer, which would be taken for its end."""
    password_file = tmp_path / "password"
    files.write_secret(password_file, "secret-of-these-pods")
    with held_ports(1) as [port]:
        server = PodValkey(tmp_path, port, password_file, "boot-1")
        server.start()
        there = Instance(REDIS_WORKLOAD, PODS[0], "boot-1", Phase.RUNNING, f"127.0.0.1:{port}")
        instances = [there]
        watch = RedisWatch(lambda: tuple(instances), server.spec.url())
        try:
            [node] = await watch.ask()
            assert node.answers
            instances[:] = [replace(there, boot_id="", phase=Phase.STARTING, address="")]
            [node] = await watch.ask()
            assert (node.answers, node.fresh, node.life) == (False, False, there.life)
            assert node.silent_ms > 0
            with pytest.raises(CannotDo, match=f"no Redis node {PODS[0]} with an address"):
                await watch.promote(Life(REDIS_WORKLOAD, PODS[0], "boot-1"))
            instances[:] = [there]
            [node] = await watch.ask()
            assert node.answers
        finally:
            await watch.close()
            server.kill()
