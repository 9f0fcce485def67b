"""Checks the books of shards with new entries, a few at a time, and again those that did not balance."""

from __future__ import annotations

import time
from collections.abc import Collection

import asyncpg

from betting.journal import ledger_check
from betting_operator.healing.signals import Audit

INTERVAL_S = 2.0
# Each costs a few milliseconds when it took many entries.
AT_A_TIME = 4


class Auditor:
    """Checks entries from its start on; earlier ones are the task of `betting audit`."""

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}
        self._failing: dict[int, Audit] = {}
        self._round: list[int] = []
        self._looked_at_s = float("-inf")

    async def look(self, connection: asyncpg.Connection, served: Collection[int]) -> tuple[Audit, ...]:
        """Served shards whose books do not balance, as of the last check; one is made every other second.

        Raises asyncpg.PostgresError.
        """
        for shard in self._failing.keys() - set(served):
            del self._failing[shard]  # it takes no money any more
        if time.monotonic() - self._looked_at_s >= INTERVAL_S:
            self._looked_at_s = time.monotonic()
            positions = await ledger_check.positions(connection)
            for shard in self._next({shard: positions[shard] for shard in served if shard in positions}):
                await self._look_at(connection, shard)
        return tuple(self._failing[shard] for shard in sorted(self._failing))

    def _next(self, positions: dict[int, int]) -> list[int]:
        """The shards to check: those in doubt first, then in turn those with new entries."""
        for shard, position in positions.items():
            self._marks.setdefault(shard, position)
        unsure = [shard for shard, audit in self._failing.items() if audit.failures == 1]
        moved = {shard for shard, position in positions.items() if position > self._marks[shard]} - set(unsure)
        turn = [shard for shard in self._round if shard in moved]
        turn += sorted(moved - set(turn))
        now, self._round = turn[:AT_A_TIME], [*turn[AT_A_TIME:], *turn[:AT_A_TIME]]
        return [*unsure, *now]

    async def _look_at(self, connection: asyncpg.Connection, shard: int) -> None:
        books = await ledger_check.look(connection, shard, self._marks[shard])
        if books.problem:
            failures = self._failing[shard].failures + 1 if shard in self._failing else 1
            self._failing[shard] = Audit(shard, failures, books.problem)
        else:
            self._failing.pop(shard, None)
            self._marks[shard] = books.upto
