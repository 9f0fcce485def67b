"""Reads from the platform's database who owns which shard, for plans of ShardRebalances, and whether healing is on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from betting.journal import connection as journal
from betting.journal import directory, healing_switch, snapshots
from betting.journal.directory import InstanceRow, ShardRow
from betting.journal.healing_switch import Switch
from betting.life import Life
from betting.placement import Candidate
from betting_operator.healing.signals import BET_SERVICE
from betting_operator.kubernetes.facts import PROCESS_NAME, TIMEOUT_S
from betting_operator.kubernetes.rebalance_plan import Directory, Place

# As the healer judges who can own shards (`Policy.silent_after_ms`).
ABLE_WITHIN_S = 3.0
# A container that ended is started again by its kubelet, with pauses: so long a move to it is still expected.
BACK_WITHIN_S = 30.0


class DirectoryUnknown(Exception):
    """The database does not say it; the message says why."""


class Looked(NamedTuple):
    """What one look found. switch: whether people have paused healing."""

    directory: Directory
    switch: Switch


class DirectoryReader:
    """Asks one database at a time, over one connection that is opened when it is needed."""

    def __init__(self) -> None:
        self._dsn = ""
        self._connection: asyncpg.Connection | None = None

    async def read(self, dsn: str) -> Looked:
        """What it says now, within a few seconds. Raises DirectoryUnknown."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = await self._connected(dsn)
                seen = await directory.observe(connection)
                sizes = await snapshots.sizes(connection)
                switch = await healing_switch.read(connection)
        except asyncpg.UndefinedTableError:
            raise DirectoryUnknown("the database is not migrated yet") from None
        except (*journal.DRIVER_ERRORS, ValueError) as error:
            await self.close()
            words = str(error) or f"no answer within {TIMEOUT_S:g} s"
            raise DirectoryUnknown(f"the platform's database does not answer: {words}") from None
        return Looked(read_rows(seen.instances, seen.shards, sizes), switch)

    async def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self, dsn: str) -> asyncpg.Connection:
        if dsn != self._dsn or self._connection is None or self._connection.is_closed():
            await self.close()
            self._connection = await journal.connect(dsn, PROCESS_NAME, timeout_s=TIMEOUT_S)
            self._dsn = dsn
        return self._connection


def read_rows(instances: Sequence[InstanceRow], shards: Sequence[ShardRow], sizes: dict[int, int]) -> Directory:
    """The directory by the names of instances."""
    named = {row.life: name for row in instances if (name := _instance(row.life))}
    living = {row.life: named[row.life] for row in instances if not row.exited and row.life in named}
    able = {
        living[row.life]: Candidate(living[row.life], row.generation, row.age_s)
        for row in instances
        if row.life in living and not row.draining and row.beat_age_s < ABLE_WITHIN_S
    }
    present = {
        named[row.life]
        for row in instances
        if row.life in named and not row.draining and (not row.exited or row.beat_age_s < BACK_WITHIN_S)
    }
    places = {}
    for row in shards:
        owner = living.get(row.owner or "")
        to = living.get(row.desired_owner or "")
        places[row.shard] = Place(owner, to if row.desired_owner != row.owner else None, row.state)
    return Directory(tuple(able[name] for name in sorted(able)), frozenset(present), places, sizes)


def _instance(life: str) -> str:
    """The instance that a life is of; "" for text that no instance has written."""
    try:
        return Life.parse(BET_SERVICE, life).instance
    except ValueError:
        return ""
