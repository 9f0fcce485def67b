"""The contract of a target of drills, against the embedded platform: what is there, and what can be broken.

One platform for all of it: bringing it up takes longer than most of what is asked of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import asyncpg
import grpc
import pytest

from betting.cli import flights
from betting.drills import chaos
from betting.drills.connect import ConnectClient
from betting.drills.embedded_target import runner
from betting.drills.target import DATABASES, FEED, HEALER, POSTGRES, REDIS, Capability, Target
from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options
from betting.embedded.topology import SERVICES
from betting.life import Life
from betting.runtime.redis import open_client
from betting.supervision.errors import PlatformError
from betting.v1 import settlement_pb2, settlement_pb2_grpc

WITHIN_S = 60.0
WALLET = "wallet-service"


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Waits for a state of the platform; generous, as nothing here is about speed."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_the_embedded_platform_is_a_target(tmp_path: Path) -> None:
    """Everything a drill asks of a platform, in the order in which a drill would."""
    folder = DataFolder.at(tmp_path / "data")
    options = Options(folder, free_ports=True, speed=20_000.0)
    run = runner(options, flights.reader(folder.flight), lambda _name, _s: None, lambda _line: None)
    async with run(frozenset()) as target:
        await everything_is_found(target)
        await a_life_is_ended_and_no_other(target)
        await a_pause_is_seen_and_ends(target)
        await only_what_it_is_for_is_signalled(target)
        await a_crashed_database_recovers(target)
        await a_feed_is_stopped_and_started(target)
        await until(lambda: any(target.ticks()), "the healer's record")
        assert "root" in target.lacks(Capability.LOSE_PACKETS)  # it was not asked for: the path was not prepared
        with pytest.raises(PlatformError, match="nothing was done"):
            async with target.losing_packets():
                pass
        assert [each for each in Capability if target.lacks(each)] == [Capability.LOSE_PACKETS]


async def everything_is_found(target: Target) -> None:
    """Each instance with its life, and each address answers."""
    expected = {(POSTGRES, POSTGRES), (REDIS, "valkey-1"), (REDIS, "valkey-2")}
    expected |= {(each.name, name) for each in SERVICES for name in each.instance_names()}
    found = target.instances()
    assert {(each.workload, each.name) for each in found} == expected
    assert all(each.ready and not each.paused for each in found)
    lives = [each.life for each in found if each.life is not None]
    assert len({life.boot_id for life in lives if life.workload not in DATABASES}) == len(expected) - 3
    assert [life.instance for life in target.lives_of("bet-service")] == ["bet-service-1", "bet-service-2"]

    database = await asyncpg.connect(target.postgres_dsn)
    shards = await database.fetchval("SELECT count(*) FROM betting.shards")
    assert await database.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    await database.close()
    assert shards == target.shard_count
    store = open_client(target.redis_url, "test-target")
    await until(lambda: store.set("test-target", b"1", px=60_000), "Redis takes writes")
    await store.aclose()
    async with aiohttp.ClientSession() as session:
        gateway = ConnectClient(session, target.gateway_url)
        assert isinstance(await gateway.call("betting.v1.EventService/ListEvents", {}, timeout_s=5), dict)
    assert await answer(target, target.credentials("test-target")) == "OK"
    assert await answer(target, ()) == "UNAUTHENTICATED"
    with pytest.raises(PlatformError, match="no service nobody"):
        target.address("nobody")
    with pytest.raises(PlatformError, match="no process nobody"):
        target.life("nobody")
    assert target.where_logs(WALLET).startswith("logs/wallet-service.log")


async def answer(target: Target, credentials: Sequence[tuple[str, bytes]]) -> str:
    """The name of the status with which settlement-service answers a call with these."""
    async with grpc.aio.insecure_channel(target.address("settlement-service")) as channel:
        call = settlement_pb2_grpc.SettlementServiceStub(channel).ListPendingSettlements
        try:
            await call(
                settlement_pb2.ListPendingSettlementsRequest(page_size=1), timeout=5, metadata=tuple(credentials)
            )
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def a_life_is_ended_and_no_other(target: Target) -> None:
    """The platform starts the next; what is said to a life that is over does nothing to it."""
    first = target.life(WALLET)
    await target.end(first)
    second = await next_life(target, first)
    for act in (target.end, target.pause, target.unpause, target.step_clock):
        with pytest.raises(PlatformError, match="life"):
            await act(first)
    assert target.named(WALLET).ready
    assert target.life(WALLET) == second


async def next_life(target: Target, life: Life) -> Life:
    """Once it is ready."""

    def is_there() -> bool:
        found = target.named(life.instance)
        return found.ready and found.life not in (None, life)

    await until(is_there, f"the life after {life}")
    return target.life(life.instance)


async def a_pause_is_seen_and_ends(target: Target) -> None:
    """The same life goes on."""
    life = target.life("notification-service")
    await target.pause(life)
    found = target.named("notification-service")
    assert (found.paused, found.ready, found.life) == (True, False, life)
    await target.unpause(life)
    assert target.named("notification-service").ready
    assert target.life("notification-service") == life


async def only_what_it_is_for_is_signalled(target: Target) -> None:
    """To a database, or a service that is no feed, the same signal means something else; then nothing is done."""
    lives = {each.name: each.life for each in target.instances()}
    for fault, name, words in (
        ("step", "valkey-1", "Only a service's clock"),
        ("step", POSTGRES, "Only a service's clock"),
        ("silence", WALLET, "Only a feed"),
        ("stick", "valkey-1", "no connection to Postgres"),
    ):
        with pytest.raises(PlatformError, match=words):
            await chaos.inject(target, fault, name)
    await chaos.inject(target, "step", HEALER)
    await chaos.inject(target, "step", HEALER)
    await chaos.inject(target, "stick", "event-service", 0.2)
    assert {each.name: each.life for each in target.instances()} == lives


async def a_crashed_database_recovers(target: Target) -> None:
    """By itself, in another life."""
    life = target.life(POSTGRES)
    await target.crash_database()
    await next_life(target, life)
    database = await asyncpg.connect(target.postgres_dsn)
    assert await database.fetchval("SELECT count(*) FROM betting.shards") == target.shard_count
    await database.close()


async def a_feed_is_stopped_and_started(target: Target) -> None:
    """In order; it is no part of what should run while it is stopped."""
    life = target.life(FEED)
    await target.stop([FEED, "the-odds-api"])
    assert FEED not in {each.workload for each in target.instances()}
    await target.start([FEED])
    assert target.named(FEED).ready
    assert target.life(FEED) != life
    await target.start([FEED])  # what runs stays
    assert [each.life for each in target.instances() if each.workload == FEED] == [target.life(FEED)]
