"""Three real Valkeys of which one must acknowledge, and a primary that nobody sees end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from healing_waits import until
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis_pods import PODS, Store, healed
from scripted_platform import ScriptedPlatform

from betting.life import Life
from betting.runtime.lifecycle import cancel_all
from betting.runtime.redis import SOCKET_TIMEOUT_S, open_client
from betting_operator.healing.redis_failover import DETACHED_MS
from betting_operator.platforms.port import REDIS_WORKLOAD, Instance

pytestmark = pytest.mark.slow

# The budget is 15 s on a free machine; this one may be busy.
LOST_WITHIN_S = 30.0
# 4 s, of which a second is the kubelet's.
KILLED_WITHIN_S = 12.0
# 8 s, for one that is frozen on a node that is well. Its grace period of 1 s, and until its kubelet tells of the end.
FROZEN_WITHIN_S = 20.0
KUBELET_S = 1.7
NOT_ENOUGH = "NOREPLICAS"


class LostNode(ScriptedPlatform):
    """Kills are accepted, and nothing comes of them: as of a pod whose node is lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.killed: list[Life] = []
        self.looks = 0

    def instances(self) -> tuple[Instance, ...] | None:
        self.looks += 1
        return super().instances()

    async def kill(self, life: Life) -> None:
        self.killed.append(life)


class LivingNode(ScriptedPlatform):
    """Kills are accepted, and carried out as a kubelet does: after the grace period, told a moment later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.to_end: asyncio.Queue[str] = asyncio.Queue()

    async def kill(self, life: Life) -> None:
        asyncio.get_running_loop().call_later(KUBELET_S, self.to_end.put_nowait, life.instance)


@dataclass
class Writer:
    """Somebody who writes to one node only, and gives up after a second, as every client of the platform does.

    acknowledged, refused: when, in seconds of the monotonic clock; refused with what was answered.
    """

    acknowledged: list[float] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)

    async def run(self, url: str) -> None:
        """Until it is cancelled."""
        async with Redis.from_url(url, socket_timeout=SOCKET_TIMEOUT_S, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    await client.incr("written")
                    self.acknowledged.append(time.monotonic())
                except RedisError as error:
                    self.refused.append((time.monotonic(), str(error)))
                await asyncio.sleep(0.01)

    def since(self, at_s: float) -> list[float]:
        """Acknowledged after this moment."""
        return [each for each in self.acknowledged if each > at_s]

    def refusals(self, since_s: float, what: str) -> int:
        """How often it was answered so."""
        return sum(text.startswith(what) for at_s, text in self.refused if at_s > since_s)


@asynccontextmanager
async def writing(store: Store) -> AsyncIterator[dict[str, Writer]]:
    """A writer on each node."""
    writers = {name: Writer() for name in PODS}
    tasks = [asyncio.create_task(writer.run(store.pods.url(name))) for name, writer in writers.items()]
    try:
        yield writers
    finally:
        await cancel_all(tasks)


@pytest.fixture
async def store(request: pytest.FixtureRequest, database: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """A healer over three pods with a first primary, each of which waits for one replica."""
    platform = getattr(request, "param", LostNode)()
    async with healed(database, tmp_path, platform, min_replicas=1) as made:
        for name in PODS:
            await made.pods.start(name)
        await until(made.some_serves, "a first primary that both others follow")
        yield made


async def other_leads(store: Store, than: str) -> bool:
    """Another node is primary."""
    return any([await store.leads(name) for name in PODS if name != than])


async def test_a_primary_that_cannot_be_reached_or_ended_is_replaced_and_takes_no_write_when_it_wakes_up(
    store: Store,
) -> None:
    """By the quorum: written down, detached, waited for, at the next epoch. Of the writes that anybody saw
    acknowledged, none is of the old primary after the new one began."""
    first = await store.row()
    assert first is not None
    assert (first.epoch, first.min_replicas) == (1, 1)
    await store.pods.set(first.primary, b"kept")
    async with writing(store) as writers, recording(store) as phases:
        old = writers[first.primary]
        await until(partial(said, lambda: len(old.acknowledged) > 10), "writes to the primary")
        store.pods.signal(first.primary, signal.SIGSTOP)
        frozen_s = time.monotonic()
        others = [writer for name, writer in writers.items() if name != first.primary]
        await until(partial(said, lambda: any(each.acknowledged for each in others)), "writes to another primary")
        began_s = min(each.acknowledged[0] for each in others if each.acknowledged)
        assert began_s - frozen_s < LOST_WITHIN_S
        second = await store.row()
        assert second is not None
        assert (second.epoch, second.phase, second.min_replicas) == (2, "steady", 1)
        assert phases[:4] == ["steady", "fencing", "detached", "promoting"]
        platform = store.pods.platform
        assert isinstance(platform, LostNode)
        assert platform.killed == [Life(REDIS_WORKLOAD, first.primary, first.boot_id)]
        assert await store.pods.get(second.primary) == b"kept"

        # The healer does not reach it when it wakes up: it has to refuse by itself.
        address, looks = platform.move(first.primary, ""), platform.looks
        await until(partial(said, lambda: platform.looks > looks + 3), "a healer that knows no address of it")
        store.pods.signal(first.primary, signal.SIGCONT)
        woken_s = time.monotonic()
        await until(partial(said, lambda: old.refusals(woken_s, NOT_ENOUGH) > 100), "refusals by the old primary")
        assert (await store.pods.info(first.primary))["role"] == "master"
        platform.move(first.primary, address)
        await until(partial(store.serves, second.primary), "the old primary as a replica")
        await until(partial(said, lambda: old.refusals(woken_s, "You can't write") > 10), "refusals by a replica")
    assert old.since(frozen_s + SOCKET_TIMEOUT_S) == []
    assert old.acknowledged[-1] < began_s
    assert (await store.pods.info(first.primary))["role"] == "slave"
    assert await store.row() == second


@pytest.mark.parametrize("back_at_once", [True, False], ids=["restarted", "cannot-come-back"])
async def test_a_killed_primary_is_replaced_whether_or_not_its_container_comes_back(
    store: Store, back_at_once: bool
) -> None:
    """Its end was seen: no wait for replicas to be detached. Back at once it is fenced and empty, and follows."""
    first = await store.row()
    assert first is not None
    await store.pods.set(first.primary, b"kept")
    others = [name for name in PODS if name != first.primary]
    async with recording(store) as phases:
        await store.pods.end(first.primary)
        killed_s = time.monotonic()
        if back_at_once:
            await store.pods.start(first.primary)
        await until(partial(any_takes, store, others), "writes to another primary")
        assert time.monotonic() - killed_s < KILLED_WITHIN_S
    assert "detached" not in phases
    if not back_at_once:
        await store.pods.start(first.primary)
    await until(store.some_serves, "the old primary as a replica")
    second = await store.row()
    assert second is not None
    assert (second.epoch, await store.pods.get(second.primary)) == (2, b"kept")
    assert second.primary in others


@pytest.mark.parametrize("store", [LivingNode], indirect=True)
async def test_a_frozen_primary_is_ended_where_its_node_is_well_which_is_sooner_than_the_wait(store: Store) -> None:
    """Both fences are sought at once; the exit that is seen comes first, and no other primary was there before it."""
    first = await store.row()
    assert first is not None
    platform = store.pods.platform
    assert isinstance(platform, LivingNode)
    others = [name for name in PODS if name != first.primary]
    store.pods.signal(first.primary, signal.SIGSTOP)
    frozen_s = time.monotonic()
    name = await platform.to_end.get()
    row = await store.row()
    assert row is not None
    assert (name, row.phase, row.epoch) == (first.primary, "detached", 1)
    await store.pods.end(name)
    ended_s = time.monotonic()
    await until(partial(any_takes, store, others), "writes to another primary")
    assert time.monotonic() - ended_s < DETACHED_MS / 1_000
    assert time.monotonic() - frozen_s < FROZEN_WITHIN_S
    await store.pods.start(name)
    await until(store.some_serves, "the old primary as a replica")


async def any_takes(store: Store, names: list[str]) -> bool:
    """Whether one of these takes a write."""
    for name in names:
        async with Redis.from_url(store.pods.url(name), socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            if await is_taken(client):
                return True
    return False


async def test_with_two_of_three_nodes_away_writes_are_refused_until_one_is_back(store: Store) -> None:
    """Reads go on, and the record stays: its primary is well."""
    row = await store.row()
    assert row is not None
    away = [name for name in PODS if name != row.primary]
    client = open_client(store.pods.url(row.primary), "test")
    try:
        await client.set("kept", "before")
        for name in away:
            await store.pods.end(name)
        await until(partial(is_refused, client), "a refusal")
        assert await client.get("kept") == b"before"
        assert await store.row() == row
        await store.pods.start(away[0])
        await until(partial(is_taken, client), "writes again")
        assert await store.row() == row
    finally:
        await client.aclose()


async def said(condition: Any) -> bool:
    """What `until` waits for, of what is known already."""
    return bool(condition())


async def is_refused(client: Redis) -> bool:
    """Whether a write is refused for want of replicas."""
    try:
        await client.set("kept", "before")
    except RedisError as error:
        return str(error).startswith(NOT_ENOUGH)
    return False


async def is_taken(client: Redis) -> bool:
    """Whether a write is taken."""
    try:
        return bool(await client.set("taken", "yes"))
    except RedisError:
        return False


@asynccontextmanager
async def recording(store: Store) -> AsyncIterator[list[str]]:
    """The phases that the record went through, in their order."""
    phases: list[str] = []

    async def look() -> None:
        while True:
            row = await store.row()
            if row is not None and (not phases or phases[-1] != row.phase):
                phases.append(row.phase)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(look())
    try:
        yield phases
    finally:
        await cancel_all([task])
