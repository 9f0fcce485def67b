"""The healer and real Valkeys that behave as pods: they boot fenced, and come back at other addresses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from healing_waits import until
from redis.asyncio import Redis
from redis.exceptions import RedisError
from scripted_platform import ScriptedPlatform
from servers import ValkeyServer

from betting.embedded.ports import held_ports
from betting.journal import redis_record
from betting.journal.redis_record import Row
from betting.life import Life
from betting.runtime.redis_link import BOOT_ID_SETTING
from betting.supervision import files
from betting.supervision.spawning import Command
from betting_operator.healer.archive import Archive
from betting_operator.healer.database import HealerDatabase
from betting_operator.healer.executor import Executor
from betting_operator.healer.feeds import Feeds
from betting_operator.healer.healer import Healer
from betting_operator.healer.observer import Observer
from betting_operator.healer.prober import Prober
from betting_operator.healer.pulse import Pulse
from betting_operator.healer.recorder import Recorder
from betting_operator.healer.redis_watch import RedisWatch
from betting_operator.healing.signals import Phase
from betting_operator.platforms.port import REDIS_WORKLOAD, CannotDo, Instance

pytestmark = pytest.mark.slow

PODS = ("demo-redis-0", "demo-redis-1", "demo-redis-2")
# Nobody listens there: what a pod follows until it is told whom.
FENCED_PORT = 1
TICK_S = 0.1


class PodValkey(ValkeyServer):
    """A Valkey in a life of its own, a replica of nobody."""

    def __init__(self, folder: Path, port: int, password_file: Path, boot_id: str) -> None:
        super().__init__(folder, port, replica_of_port=FENCED_PORT, password_file=password_file)
        self._boot_id = boot_id

    def command(self) -> Command:
        plain = super().command()
        return Command((*plain.argv, f"--{BOOT_ID_SETTING}", self._boot_id), plain.folder)


class RedisPods:
    """The pods of a StatefulSet: names stay, everything else is new with each pod."""

    def __init__(self, folder: Path, platform: ScriptedPlatform, new_port: Callable[[], int]) -> None:
        self.platform = platform
        self._folder = folder
        self._new_port = new_port
        self._numbers = itertools.count(1)
        self._servers: dict[str, PodValkey] = {}
        self.password_file = folder / "password"
        files.write_secret(self.password_file, "secret-of-these-pods")

    async def start(self, name: str) -> None:
        """A pod of this name at a new address; the platform tells it once it runs."""
        port = self._new_port()
        life = self.platform.start(REDIS_WORKLOAD, name, f"127.0.0.1:{port}")
        folder = self._folder / f"pod-{next(self._numbers)}"
        self._servers[name] = PodValkey(folder, port, self.password_file, life.boot_id)
        folder.mkdir()
        await asyncio.to_thread(self._servers[name].start)

    async def end(self, name: str) -> None:
        """kill -9; the platform has seen it end."""
        await asyncio.to_thread(self._servers.pop(name).kill)
        self.platform.end(name)

    def close(self) -> None:
        """Ends all."""
        for server in self._servers.values():
            server.kill()

    async def info(self, name: str) -> dict[str, Any]:
        """What a node says of its replication; nothing while it does not answer."""
        async with self._client(name) as client:
            try:
                return dict(await client.info("replication"))
            except RedisError:
                return {}

    async def set(self, name: str, value: bytes) -> None:
        """Writes, and waits until both replicas have it."""
        async with self._client(name) as client:
            await client.set("kept", value)
            assert await client.wait(2, 10_000) == 2

    async def is_filled(self, name: str, value: bytes) -> bool:
        """Whether it has what was written."""
        try:
            return await self.get(name) == value
        except RedisError:  # it loads its copy
            return False

    async def get(self, name: str) -> bytes | None:
        """What is kept there."""
        async with self._client(name) as client:
            found: bytes | None = await client.get("kept")
            return found

    def _client(self, name: str) -> Redis:
        return Redis.from_url(self._servers[name].spec.url(), socket_timeout=2)


class Store:
    """The pods, and what Postgres has recorded of them."""

    def __init__(self, pods: RedisPods, connection: asyncpg.Connection) -> None:
        self.pods = pods
        self._connection = connection

    async def row(self) -> Row | None:
        """The record."""
        found = await redis_record.read(self._connection)
        return None if found is None else found[0]

    async def serves(self, name: str) -> bool:
        """It is recorded as primary, serves, and both others follow it."""
        row = await self.row()
        told = await self.pods.info(name)
        return (
            row is not None
            and (row.primary, row.phase) == (name, "steady")
            and told.get("role") == "master"
            and [told.get(f"slave{n}", {}).get("state") for n in range(2)] == ["online", "online"]
        )


@pytest.fixture
async def store(database: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """A healer over three Redis pods and a database that has never had a Redis primary."""
    platform = ScriptedPlatform()
    with ExitStack() as ports:
        pods = RedisPods(tmp_path, platform, lambda: ports.enter_context(held_ports(1))[0])
        ports.callback(pods.close)
        connection = await asyncpg.connect(database.dsn)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(connection.close)
            store = HealerDatabase(database.dsn, "healer@test")
            closing.push_async_callback(store.close)
            url = f"redis://:{files.read_secret(pods.password_file)}@redis:6379/0"
            redis = RedisWatch(platform.instances, url)
            closing.push_async_callback(redis.close)
            observer = Observer(
                platform,
                Prober(platform.instances),
                store,
                Feeds(None, platform.instances),
                redis,
                Pulse(),
            )
            healer = Healer(
                observer,
                Executor(platform, store, redis),
                store,
                platform,
                Recorder(tmp_path / "flight"),
                Archive(database.dsn, "healer@test"),
                asyncio.Event(),
                tick_s=TICK_S,
            )
            pulse = asyncio.create_task(observer.pulse.run())
            healing = asyncio.create_task(healer.run())
            try:
                yield Store(pods, connection)
            finally:
                for task in (healing, pulse):
                    task.cancel()
                await asyncio.wait([healing, pulse])


async def test_the_first_start_names_a_primary_and_the_others_are_made_to_follow_it(store: Store) -> None:
    """Nobody else does it where no supervisor runs."""
    for name in PODS:
        await store.pods.start(name)
    await until(lambda: some_serves(store), "a first primary that both others follow")
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
    await until(lambda: some_serves(store), "a first primary")
    first = await store.row()
    assert first is not None
    await store.pods.set(first.primary, b"kept")
    await store.pods.end(first.primary)
    await store.pods.start(first.primary)
    await until(lambda: some_serves(store), "a second primary, followed also by the one that came back")
    second = await store.row()
    assert second is not None
    assert (second.epoch, await store.pods.get(second.primary)) == (2, b"kept")
    assert second.primary != first.primary
    await until(lambda: store.pods.is_filled(first.primary, b"kept"), "its copy")
    for name in PODS:
        await store.pods.end(name)
    for name in PODS:
        await store.pods.start(name)
    await until(lambda: some_serves(store), "a primary again, followed at its new address")
    third = await store.row()
    assert third is not None
    assert third.epoch == 3
    assert await store.pods.get(third.primary) is None


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


async def some_serves(store: Store) -> bool:
    """Whoever is recorded."""
    row = await store.row()
    return row is not None and row.primary in PODS and await store.serves(row.primary)
