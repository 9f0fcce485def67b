"""The committer's own connection to Postgres: one statement in flight, a new connection after any doubt."""

from __future__ import annotations

import asyncio

import asyncpg

from betting.journal import append, ownership, reader
from betting.journal.append import Appended, OutcomeUnknown, ShardEntries
from betting.journal.connection import DRIVER_ERRORS, connect
from betting.journal.ownership import Acquired
from betting.runtime import logs

_log = logs.get(__name__)

# Longer than any healthy append by far: a statement that takes this long has an unknown outcome.
STATEMENT_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0

DATABASE_PROBLEMS = (*DRIVER_ERRORS, ownership.StealBlocked)


class Superseded(Exception):
    """Somebody saw this instance end, or it started anew elsewhere: the only right thing left is to stop."""


class JournalLink:
    """Implements `committer.Journal` for one instance."""

    def __init__(self, dsn: str, instance: str, address: str) -> None:
        self._dsn = dsn
        self._instance = instance
        self._address = address
        self._connection: asyncpg.Connection | None = None
        self._heads_seen: set[int] = set()  # on this connection

    async def append(self, batch: list[ShardEntries]) -> Appended:
        connection = await self._connected()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await self._check_heads(connection, batch)
                return await append.append(connection, self._instance, batch)
        except (OutcomeUnknown, *DATABASE_PROBLEMS) as problem:
            self._drop()
            raise OutcomeUnknown(str(problem) or "no answer in time") from problem

    async def _check_heads(self, connection: asyncpg.Connection, batch: list[ShardEntries]) -> None:
        """A new connection may lead to a database that lost commits: nothing is appended behind a gap."""
        unseen = {part.shard: part.entries[0] for part in batch if part.entries and part.shard not in self._heads_seen}
        if unseen:
            heads = await reader.heads(connection, list(unseen))
            for shard, first in unseen.items():
                if heads[shard] != first.sequence - 1:
                    raise OutcomeUnknown(f"shard {shard} ends at {heads[shard]}, before {first.sequence}")
            self._heads_seen |= unseen.keys()

    async def take_again(self, shard: int, epoch: int) -> Acquired | None:
        """An earlier try whose answer was lost may have raised the epoch for us already: that one counts too."""
        connection = await self._connected()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                return await ownership.take_again(connection, shard, self._instance, self._address, epoch)
        except DATABASE_PROBLEMS as problem:
            self._drop()
            raise OutcomeUnknown(str(problem)) from problem

    async def beat(self) -> None:
        connection = await self._connected()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                alive = await ownership.beat(connection, self._instance)
        except DATABASE_PROBLEMS as problem:
            self._drop()
            raise OutcomeUnknown(str(problem)) from problem
        if not alive:
            raise Superseded(f"{self._instance} was declared ended: a later life of it has begun")

    async def freeze(self, shard: int, epoch: int, why: str) -> None:
        connection = await self._connected()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await ownership.freeze(connection, shard, self._instance, epoch, why)
        except DATABASE_PROBLEMS as problem:
            self._drop()
            raise OutcomeUnknown(str(problem)) from problem

    async def close(self) -> None:
        if self._connection is not None:
            try:
                await self._connection.close(timeout=1)
            except DRIVER_ERRORS as problem:
                _log.info("connection not closed", problem=str(problem))
                self._drop()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._heads_seen.clear()
            try:
                self._connection = await connect(self._dsn, self._instance, timeout_s=CONNECT_TIMEOUT_S)
            except DATABASE_PROBLEMS as problem:
                raise OutcomeUnknown(f"cannot connect: {problem}") from problem
        return self._connection

    def _drop(self) -> None:
        """No word more on a connection in doubt. Its statement may still run: taking the shard again waits for it."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
