"""The healer and real Valkeys: primaries killed, frozen, left alone; a replica killed; a healer that dies between."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from healing_waits import until
from redis.asyncio import Redis
from redis.exceptions import RedisError

from betting.journal import healing_switch, redis_record
from betting.journal.redis_record import Row
from betting.life import Life
from betting.runtime.redis import open_client
from betting_operator import flight_files
from betting_operator.healing import flight
from betting_operator.healing.actions import Kill
from betting_operator.healing.diagnoses import Kind
from betting_operator.healing.redis_actions import MoveRecord

pytestmark = pytest.mark.slow

ONE, TWO = "valkey-1", "valkey-2"
# Budgets are 3 s and 8 s on a free machine; this one may be busy.
KILLED_WITHIN_S, FROZEN_WITHIN_S = 12.0, 20.0


class Store:
    """Redis as the services see it, and as it is."""

    def __init__(self, running: Any, client: Redis) -> None:
        self.running = running
        self.client = client

    async def row(self) -> Row:
        """What the record says."""
        found = await redis_record.read(self.running.database)
        assert found is not None
        return found[0]

    async def writes(self) -> bool:
        """Whether a service could write now."""
        try:
            return bool(await self.client.set("key", "value"))
        except RedisError:
            return False

    async def info(self, name: str) -> dict[str, Any]:
        """What a node says of its replication; nothing while it does not answer."""
        node = Redis.from_url(self.running.platform.topology.valkey(name).url(), socket_timeout=1)
        try:
            return dict(await node.info("replication"))
        except RedisError:
            return {}
        finally:
            await node.aclose()

    async def is_filled(self, name: str, value: bytes) -> bool:
        """Whether a node follows and has what was written."""
        node = Redis.from_url(self.running.platform.topology.valkey(name).url(), socket_timeout=1)
        try:
            return bool(await node.get("kept") == value and (await node.role())[0] == b"slave")
        except RedisError:
            return False
        finally:
            await node.aclose()

    async def settled(self) -> bool:
        """The record is steady, and the other node has a copy."""
        row = await self.row()
        other = TWO if row.primary == ONE else ONE
        told = await self.info(other)
        return row.phase == "steady" and told.get("master_link_status") == "up"

    async def keep(self, value: bytes) -> None:
        """Writes something that the replica has too."""
        await until(self.settled, "a linked replica")
        await self.client.set("kept", value)
        assert await self.client.wait(1, 5_000) == 1

    def hit(self, name: str, number: signal.Signals) -> None:
        """Kills or freezes a node."""
        self.running.platform.supervisor.signal(name, number)


@pytest.fixture
def start_store(start_platform: Any) -> Any:
    """`async with start_store("event-service", "healer") as store`: a platform with these services."""

    @asynccontextmanager
    async def start(*services: str) -> AsyncIterator[Store]:
        async with start_platform(*services) as running:
            client = open_client(running.platform.topology.redis_url(), "test")
            try:
                yield Store(running, client)
            finally:
                await client.aclose()

    return start


async def test_a_killed_primary_is_replaced_by_its_replica_and_returns_as_one(start_store: Any) -> None:
    """What the replica had is still there, there and back again; the flight record gives the same plans."""
    async with start_store("event-service", "healer") as store:
        for dead, heir, epoch in ((ONE, TWO, 2), (TWO, ONE, 3)):
            value = f"before {epoch}".encode()
            await store.keep(value)
            store.hit(dead, signal.SIGKILL)
            assert await until(store.writes, "writes again") < KILLED_WITHIN_S
            assert await store.client.get("kept") == value
            await until(store.settled, "the old one as a replica")
            assert await store.row() == Row(heir, store.running.life(heir), epoch, "steady")
            assert await store.is_filled(dead, value)
            await until(lambda: rested(store.running), "a rest")
        assert not store.running.done(Kill)
        [file] = flight_files.files(store.running.folder / "flight")
        lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        assert set(flight.replay(lines)) == {None}


async def rested(running: Any) -> bool:
    """The healer may fail over again."""
    records = running.records()
    disruptions = [r.seen.at_ms for r in records if any(isinstance(a, MoveRecord) for a in r.plan.actions)]
    return bool(records[-1].seen.at_ms - disruptions[-1] > records[-1].policy.cool_down_ms)


async def test_a_frozen_primary_is_killed_and_replaced_and_losing_everything_begins_anew(start_store: Any) -> None:
    """Two vantage points, then its end is made and seen; with both killed nobody has data: empty, at a new epoch."""
    async with start_store("event-service", "healer") as store:
        await store.keep(b"before")
        life = store.running.life(ONE)
        store.hit(ONE, signal.SIGSTOP)
        assert await until(store.writes, "writes again") < FROZEN_WITHIN_S
        assert await store.client.get("kept") == b"before"
        await until(store.settled, "the old one as a replica")
        assert (await store.row()).primary == TWO
        assert store.running.done(Kill) == [Kill(Life("valkey", ONE, life))]
        store.hit(ONE, signal.SIGKILL)
        store.hit(TWO, signal.SIGKILL)
        await until(store.writes, "writes again")
        assert await store.client.get("kept") is None
        await until(store.settled, "a linked replica")
        assert (await store.row()).epoch == 3


async def test_a_healer_that_dies_between_two_steps_is_followed_by_one_that_goes_on(start_store: Any) -> None:
    """From what the record says, wherever it stopped. A killed replica comes back, and takes nothing with it."""
    async with start_store("event-service", "healer") as store:
        for phase, promoting in (("fencing", False), ("promoting", True)):
            await store.keep(b"before")
            row = await store.row()
            heir = TWO if row.primary == ONE else ONE
            named = (heir, store.running.life(heir)) if promoting else ("", "")
            store.hit("healer", signal.SIGKILL)
            store.hit(row.primary, signal.SIGKILL)
            await store.running.database.execute(
                "UPDATE betting.redis_record SET phase = $1, candidate = $2, candidate_boot_id = $3", phase, *named
            )
            await until(store.settled, "a new primary")
            assert await store.row() == Row(heir, store.running.life(heir), row.epoch + 1, "steady")
            assert await store.client.get("kept") == b"before"
        store.hit(TWO, signal.SIGKILL)
        await until(lambda: store.is_filled(TWO, b"before"), "a copy again")
        assert (await store.row()).epoch == 3
        assert any(d.kind is Kind.REDIS_REPLICA_AWAY for r in store.running.records() for d in r.diagnoses)


async def test_paused_healing_says_why_and_the_node_takes_its_place_again(start_store: Any) -> None:
    """Frozen, it is left until healing goes on; killed, it comes back empty and is primary: nobody may fail over."""
    async with start_store("event-service", "healer") as store:
        await store.keep(b"before")
        await healing_switch.pause(store.running.database, "network work")
        await until(lambda: paused(store.running), "a pause")
        store.hit(ONE, signal.SIGKILL)
        await until(store.writes, "writes again")
        row = await store.row()
        assert row == Row(ONE, store.running.life(ONE), 2, "steady")
        reasons = {each.reason for r in store.running.records() for each in r.plan.declined}
        assert "healing is paused: network work" in reasons


async def paused(running: Any) -> bool:
    """The healer knows."""
    records = running.records()
    return bool(records and records[-1].policy.paused)


async def test_without_a_healer_the_node_takes_its_place_again(start_store: Any) -> None:
    """At the next epoch, so that whoever acted on the last one does nothing."""
    async with start_store("event-service") as store:
        began_s = time.monotonic()
        await until(store.settled, "a linked replica")
        store.hit(ONE, signal.SIGKILL)
        await until(store.writes, "writes again")
        assert await store.row() == Row(ONE, store.running.life(ONE), 2, "steady")
        await until(store.settled, "a linked replica")
        assert time.monotonic() - began_s < FROZEN_WITHIN_S * 2
