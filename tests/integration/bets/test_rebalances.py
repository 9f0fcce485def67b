"""Planned moves between real bet-services under load, by the healer's brain and statements: no bet is refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bet_processes import BetProcess, running
from load import load
from owner_calls import SHARDS, Owners

from betting.journal import directory
from betting_operator.healer.database import HealerDatabase
from betting_operator.healing.actions import Place
from betting_operator.healing.brain import decide
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy, Rebalancing
from betting_operator.healing.signals import Observation, Rebalance
from betting_operator.kubernetes.rebalance_directory import DirectoryReader
from betting_operator.kubernetes.rebalance_plan import Plan, plan, unsettled

pytestmark = pytest.mark.slow

# On a starved machine heartbeats come late: nobody is taken for dead who is not.
PATIENT = {"orphaned_after": "20"}
POLICY = Policy(rebalancing=Rebalancing.APPROVE, silent_after_ms=20_000)
TICK_S = 0.1


class Healer:
    """What of the healer's loop places shards. rebalance: what people asked for; placed: what came of it; then: called
    after each."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.rebalance = Rebalance()
        self.placed: list[Place] = []
        self._written = 0
        self._ticks = 0
        self.then: Callable[[], None] = lambda: None
        self._life: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """From its start to its end."""
        await self.again()
        try:
            yield
        finally:
            await self._end()

    async def until_placed(self) -> None:
        """Returns once the first moves are written."""
        async with asyncio.timeout(30):
            while not (self.placed and self._written):  # noqa: ASYNC110 - the healer decides
                await asyncio.sleep(0.01)

    async def forget_placed(self) -> None:
        """Forgets what was placed until now, once nothing more can come of what it read before now."""
        last = self._ticks + 2
        async with asyncio.timeout(30):
            while self._ticks < last:  # noqa: ASYNC110 - its loop goes on
                await asyncio.sleep(0.01)
        self.placed.clear()
        self._written = 0

    async def again(self) -> None:
        """The next life: another term, and nothing remembered."""
        await self._end()
        self._life = asyncio.create_task(self._run())

    async def _end(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def _run(self) -> None:
        database, memory = HealerDatabase(self._dsn, "healer"), Memory()
        try:
            term = await database.begin_term()
            while True:
                await database.beat(term)
                found = await database.read()
                now_ms = int(time.monotonic() * 1_000)
                seen = Observation(
                    at_ms=now_ms,
                    term=term,
                    database=found.how,
                    owners=found.owners,
                    shards=found.shards,
                    rebalance=self.rebalance,
                )
                tick = decide(memory, seen, POLICY)
                memory = tick.memory
                for action in tick.plan.actions:
                    if isinstance(action, Place):
                        self.placed.append(action)  # first: bet-services may be done with it before this task goes on
                        await database.place(term, dict(action.wanted))
                        self._written += 1
                        self.then()
                self._ticks += 1
                await asyncio.sleep(TICK_S)
        finally:
            await database.close()


async def planned(owners: Owners, *drain: str) -> Plan:
    """By the operator's own look at the database, once nothing is on its way any more."""
    reader = DirectoryReader()
    try:
        async with asyncio.timeout(30):
            while unsettled((found := await reader.read(owners.dsn)).directory):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await reader.close()
    return plan(found.directory, drain)


async def shares(owners: Owners) -> dict[str, int]:
    """How many shards each instance owns; "" stands for nobody."""
    rows = await directory.shards(owners.connection)
    return dict(Counter((row.owner or "").partition("@")[0] for row in rows))


async def until_shares(owners: Owners, **wanted: int) -> None:
    expected = {name.replace("_", "-"): count for name, count in wanted.items()}
    async with asyncio.timeout(30):
        while await shares(owners) != expected:  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.02)


def instances(bet_process: Any) -> list[BetProcess]:
    return [bet_process(f"bet-{number}", **PATIENT) for number in ("one", "two", "three")]


async def test_a_bet_service_is_emptied_by_plan_under_load_through_the_end_of_a_healer(
    bet_process: Any, owners: Owners
) -> None:
    """One hand-over at a time for each receiver; the next healer goes on; nothing is given back; no bet is refused."""
    one, two, three = instances(bet_process)
    healer = Healer(owners.dsn)
    async with running(one), healer.at_work():
        await until_shares(owners, bet_one=SHARDS)
        await healer.forget_placed()
        async with running(two, three), load(owners) as bettors:
            made = await planned(owners, "bet-one")
            assert len(made.moves) == SHARDS
            assert not healer.placed, "by policy nothing is moved for balance"
            healer.rebalance = Rebalance("evening", made.moves, ("bet-one",))
            await healer.until_placed()
            await healer.again()
            await until_shares(owners, bet_two=2, bet_three=2)
            healer.rebalance = Rebalance(emptied=("bet-one",))
            await bettors.until_accepted_on_every_shard(time.monotonic())
            assert await shares(owners) == {"bet-two": 2, "bet-three": 2}
            await bettors.stop()
            await bettors.verify()
            assert not bettors.refused
    for place in healer.placed:
        assert max(Counter(to for _shard, to in place.wanted).values()) == 1
    assert sorted(shard for place in healer.placed for shard, _to in place.wanted) == list(range(SHARDS))


async def test_a_plan_that_is_stopped_leaves_the_rest_where_it_is(bet_process: Any, owners: Owners) -> None:
    """Every shard is served by who it is meant for, and what has been moved stays moved."""
    one, two, _three = instances(bet_process)
    healer = Healer(owners.dsn)
    async with running(one), healer.at_work():
        await until_shares(owners, bet_one=SHARDS)
        await healer.forget_placed()
        async with running(two), load(owners) as bettors:
            made = await planned(owners)
            assert len(made.moves) == SHARDS // 2
            healer.then = lambda: setattr(healer, "rebalance", Rebalance())
            healer.rebalance = Rebalance("evening", made.moves)
            await healer.until_placed()
            await until_shares(owners, bet_one=3, bet_two=1)
            await bettors.until_accepted_on_every_shard(time.monotonic())
            rows = await directory.shards(owners.connection)
            assert all(row.desired_owner in (None, row.owner) for row in rows)
            await bettors.stop()
            await bettors.verify()
            assert not bettors.refused
    assert len(healer.placed) == 1
