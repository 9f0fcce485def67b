"""Bettors who bet all the time, ask again with the same key until they have an answer, and remember every answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from owner_calls import SHARDS, Bettor, Owners, new_key, user_in

from betting.audit import audit

STAKE = 10
FUNDS = 100_000_000
ANSWER_TIMEOUT_S = 60.0


@dataclass
class Acknowledged:
    """A bet somebody was told of."""

    key: bytes
    bet: bytes
    shard: int
    at_s: float


@dataclass
class Load:
    """What the bettors saw."""

    owners: Owners
    bettors: list[Bettor] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def prepare(self, per_shard: int) -> None:
        """Bettors with money on every shard."""
        for shard in range(SHARDS):
            mine = [Bettor(user_in(shard)) for _ in range(per_shard)]
            await self.owners.execute(shard, *(bettor.deposit(FUNDS) for bettor in mine), timeout_s=30)
            self.bettors += mine

    def start(self) -> None:
        """Every bettor at work."""
        self._tasks = [asyncio.create_task(self.bet_until_stopped(bettor)) for bettor in self.bettors]

    async def stop(self) -> None:
        """No further bets; returns once those placed are answered. Raises what a bettor failed with."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def bet_until_stopped(self, bettor: Bettor) -> None:
        while not self._stopping:
            key = new_key()
            command = bettor.bet(STAKE, random.choice(range(1, 9)), key=key)
            [result] = await self.owners.execute(bettor.shard, command, timeout_s=ANSWER_TIMEOUT_S)
            if result.HasField("placed"):
                answer = Acknowledged(key, result.placed.bet_id, bettor.shard, time.monotonic())
                self.acknowledged.append(answer)
            else:
                self.refused.append(result.refusal.code or result.fault.code)
            await asyncio.sleep(0.005)

    async def until_accepted_on_every_shard(self, since_s: float, timeout_s: float = 30.0) -> float:
        """Seconds from `since_s` until each shard accepted a bet that was placed after it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            after = [a for a in self.acknowledged if a.at_s > since_s]
            if {a.shard for a in after} == set(range(SHARDS)):
                return max(min(a.at_s for a in after if a.shard == shard) for shard in range(SHARDS)) - since_s
            await asyncio.sleep(0.02)
        raise TimeoutError(f"not every shard took a bet within {timeout_s} s")

    async def verify(self) -> None:
        """Nothing acknowledged is lost, nothing happened twice, every account adds up, and the audit holds."""
        rows = await self.owners.connection.fetch(
            "SELECT account, count(*) AS bets, count(DISTINCT request_key) AS keys FROM betting.journal "
            "WHERE kind = 10 GROUP BY account"
        )
        assert all(row["bets"] == row["keys"] for row in rows)
        keys = {
            row["request_key"].bytes: row["bet"].bytes
            for row in await self.owners.connection.fetch(
                "SELECT request_key, bet FROM betting.journal WHERE kind = 10"
            )
        }
        lost = [a for a in self.acknowledged if keys.get(a.key) != a.bet]
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged bets are not in the journal"
        for bettor in self.bettors:
            balance = (await self.owners.one(bettor.shard, bettor.balance())).balance
            assert balance.cash_minor + balance.open_stakes_minor == FUNDS
        total = await self.owners.connection.fetchval(
            "SELECT sum(cash_minor + stakes_minor + house_minor + clearing_minor + receivable_minor) "
            "FROM betting.journal"
        )
        assert total == 0
        report = await audit(self.owners.dsn, None)
        assert report.holds, [(check.name, check.problems) for check in report.failed]


@asynccontextmanager
async def load(owners: Owners, per_shard: int = 3) -> AsyncIterator[Load]:
    """Bettors at work for the length of a block; what one of them failed with is raised."""
    running = Load(owners)
    await running.prepare(per_shard)
    running.start()
    try:
        yield running
    finally:
        await running.stop()
