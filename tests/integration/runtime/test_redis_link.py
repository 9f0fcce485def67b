"""What a node is told concerns one life of it: a late word to an earlier life changes nothing."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from servers import ValkeyServer

from betting.runtime import redis_link
from betting.runtime.redis_link import BOOT_ID_SETTING, MAX_LAG_S, OtherLife, RedisLink, boot_id_of


class Pair:
    """Two nodes, neither of them primary, and a link to the first."""

    def __init__(self, one: ValkeyServer, two: ValkeyServer) -> None:
        self.one = one
        self.two = two
        self.link = RedisLink(one.spec.url())

    async def name(self, boot_id: str) -> None:
        """Tells the first its life."""
        async with Redis.from_url(self.one.spec.url()) as client:
            await client.config_set(BOOT_ID_SETTING, boot_id)

    async def role(self) -> str:
        """What the first takes itself for."""
        async with Redis.from_url(self.one.spec.url()) as client:
            return str((await client.info("replication"))["role"])


@pytest.fixture
async def pair(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[Pair]:
    """Each a replica of the other."""
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    one = ValkeyServer(tmp_path / "one", first, replica_of_port=second)
    one.start()
    two = ValkeyServer(tmp_path / "two", second, replica_of_port=first, password_file=one.spec.password_file)
    two.start()
    made = Pair(one, two)
    await made.name("a")
    yield made
    await made.link.close()
    two.stop()
    one.stop()


async def test_only_the_life_that_was_named_is_promoted(pair: Pair) -> None:
    """It says who it is on the connection it is told on."""
    with pytest.raises(OtherLife):
        await pair.link.promote("b")
    assert await pair.role() == "slave"
    await pair.link.promote("a")
    assert await pair.role() == "master"
    assert boot_id_of(await pair.link.info()) == "a"


async def test_a_link_to_a_life_that_has_ended_does_nothing_to_the_next(pair: Pair) -> None:
    """Neither over the old connection nor over a new one."""
    assert boot_id_of(await pair.link.info()) == "a"
    pair.one.signal(signal.SIGKILL)
    pair.one.stop()
    pair.one.start()
    await pair.name("b")
    for _ in range(2):
        with pytest.raises((*redis_link.ERRORS, OtherLife)):
            await pair.link.promote("a")
    assert await pair.role() == "slave"


async def test_clients_of_a_primary_that_becomes_a_replica_have_to_look_again(pair: Pair) -> None:
    """Their connections end; those of who was a replica before are left."""
    await pair.link.promote("a")
    async with Redis.from_url(pair.one.spec.url(), retry=Retry(NoBackoff(), 0)) as client:
        assert await client.ping()
        await pair.link.follow("a", "127.0.0.1", pair.two.spec.port)
        assert await pair.role() == "slave"
        with pytest.raises(RedisError):
            await client.ping()
        assert await client.ping()
        with pytest.raises(OtherLife):
            await pair.link.follow("b", "127.0.0.1", 1)
        await pair.link.follow("a", "127.0.0.1", 1)
        assert await client.ping()


async def test_a_node_says_how_many_replicas_it_waits_for(pair: Pair) -> None:
    """Only if it counts them strictly: a longer lag, or none, is no wait that a fence may rest on."""
    assert await pair.link.min_replicas() == 0
    async with Redis.from_url(pair.one.spec.url()) as client:
        await client.config_set("min-replicas-to-write", 1)
        assert await pair.link.min_replicas() == 1
        for lag_s in (0, MAX_LAG_S + 1):
            await client.config_set("min-replicas-max-lag", lag_s)
            assert await pair.link.min_replicas() == 0
