"""Real Valkeys that behave as the pods of a StatefulSet: they boot fenced, and come back at other addresses."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from scripted_platform import ScriptedPlatform
from servers import ValkeyServer

from betting.embedded.ports import held_ports
from betting.journal import redis_record
from betting.journal.redis_record import Row
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
from betting_operator.platforms.port import REDIS_WORKLOAD

PODS = ("demo-redis-0", "demo-redis-1", "demo-redis-2")
# Nobody listens there: what a pod follows until it is told whom.
FENCED_PORT = 1
TICK_S = 0.1


class PodValkey(ValkeyServer):
    """A Valkey in a life of its own, a replica of nobody. min_replicas: how many replicas it waits for as primary."""

    def __init__(self, folder: Path, port: int, password_file: Path, boot_id: str, min_replicas: int = 0) -> None:
        super().__init__(folder, port, replica_of_port=FENCED_PORT, password_file=password_file)
        self._own = (f"--{BOOT_ID_SETTING}", boot_id, "--min-replicas-to-write", str(min_replicas))

    def command(self) -> Command:
        plain = super().command()
        return Command((*plain.argv, *self._own), plain.folder)


class RedisPods:
    """The pods of a StatefulSet: names stay, everything else is new with each pod."""

    def __init__(
        self, folder: Path, platform: ScriptedPlatform, new_port: Callable[[], int], min_replicas: int = 0
    ) -> None:
        self.platform = platform
        self._min_replicas = min_replicas
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
        self._servers[name] = PodValkey(folder, port, self.password_file, life.boot_id, self._min_replicas)
        folder.mkdir()
        await asyncio.to_thread(self._servers[name].start)

    async def end(self, name: str) -> None:
        """kill -9; the platform has seen it end."""
        await asyncio.to_thread(self._servers.pop(name).kill)
        self.platform.end(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Freezes its process or lets it go on; the platform sees nothing of it."""
        self._servers[name].signal(number)

    def url(self, name: str) -> str:
        """Of this node alone."""
        return self._servers[name].spec.url()

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
            found: Any = await client.get("kept")
            return found if found is None else bytes(found)

    def _client(self, name: str) -> Redis:
        return Redis.from_url(self.url(name), socket_timeout=2)


class Store:
    """The pods, and what Postgres has recorded of them."""

    def __init__(self, pods: RedisPods, connection: asyncpg.Connection) -> None:
        self.pods = pods
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def row(self) -> Row | None:
        """The record."""
        async with self._one_at_a_time:
            found = await redis_record.read(self._connection)
        return None if found is None else found[0]

    async def serves(self, name: str) -> bool:
        """It is recorded as primary, serves, and both others follow it."""
        told = await self.pods.info(name)
        replicas = [told.get(f"slave{n}", {}).get("state") for n in range(2)]
        return await self.leads(name) and replicas == ["online", "online"]

    async def leads(self, name: str) -> bool:
        """It is recorded as primary, and serves."""
        row, told = await self.row(), await self.pods.info(name)
        return row is not None and (row.primary, row.phase) == (name, "steady") and told.get("role") == "master"

    async def some_serves(self) -> bool:
        """Whoever is recorded, with both others."""
        row = await self.row()
        return row is not None and row.primary in PODS and await self.serves(row.primary)


@asynccontextmanager
async def healed(
    database: Any, tmp_path: Path, platform: ScriptedPlatform, min_replicas: int = 0
) -> AsyncIterator[Store]:
    """A healer over Redis pods, none of which has started, and a database that has never had a Redis primary."""
    with ExitStack() as ports:
        pods = RedisPods(tmp_path, platform, lambda: ports.enter_context(held_ports(1))[0], min_replicas)
        ports.callback(pods.close)
        connection = await asyncpg.connect(database.dsn)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(connection.close)
            store = HealerDatabase(database.dsn, "healer@test")
            closing.push_async_callback(store.close)
            url = f"redis://:{files.read_secret(pods.password_file)}@redis:6379/0"
            redis = RedisWatch(platform.instances, url)
            closing.push_async_callback(redis.close)
            pulse = Pulse()
            observer = Observer(
                platform,
                Prober(platform.instances),
                store,
                Feeds(None, platform.instances),
                redis,
                pulse,
            )
            healer = Healer(
                observer,
                Executor(platform, store, redis, pulse),
                store,
                platform,
                Recorder(tmp_path / "flight"),
                Archive(database.dsn, "healer@test"),
                asyncio.Event(),
                tick_s=TICK_S,
            )
            pulsing = asyncio.create_task(pulse.run())
            healing = asyncio.create_task(healer.run())
            try:
                yield Store(pods, connection)
            finally:
                for task in (healing, pulsing):
                    task.cancel()
                await asyncio.wait([healing, pulsing])
