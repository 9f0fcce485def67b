"""Who is the Redis primary where no healer decides it: when the platform starts, and while nobody heals.

Every Valkey boots as a replica of the other: fenced, it takes no writes and wipes nobody. One is made primary only
after the record in Postgres names that life of it. While a healer beats, that is the healer's work. Where none does, or
healing is paused, the node that the record names is made primary again when it comes back, empty: Redis works again,
and what it held is made again from Postgres.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import asyncpg

from betting.embedded import ports_plan
from betting.embedded.topology import Topology
from betting.journal import redis_record
from betting.journal.redis_record import Row
from betting.runtime import redis_link
from betting.runtime.loops import woken_within
from betting.runtime.redis_link import OtherLife, RedisLink
from betting.supervision.errors import PlatformError
from betting.supervision.state import ProcessPhase
from betting.supervision.supervisor import Supervisor

INTERVAL_S = 1.0
TIMEOUT_S = 2.0

_PROBLEMS = (*redis_link.ERRORS, OtherLife, asyncpg.PostgresError, asyncpg.InterfaceError)


class RedisKeeper:
    """The keeper of this supervisor. note: called with what it did."""

    def __init__(self, topology: Topology, supervisor: Supervisor, note: Callable[[str], None]) -> None:
        self._topology = topology
        self._supervisor = supervisor
        self._note = note

    async def begin(self) -> None:
        """Makes the first node primary: everything has just started, and nothing has data. Raises PlatformError."""
        name = ports_plan.VALKEYS[0]
        boot_id = self._supervisor.boot_id(name)
        try:
            connection = await self._connect()
            try:
                await redis_record.begin(connection, name, boot_id)
            finally:
                await connection.close(timeout=TIMEOUT_S)
            await self._promote(name, boot_id)
        except _PROBLEMS as error:
            raise PlatformError(f"{name} could not be made the Redis primary: {error}") from error

    async def run(self) -> None:
        """For the life of the supervisor: looks when a node has come back, again and again until all is clear."""
        clear: dict[str, str] | None = None
        with self._supervisor.watched() as changed:
            while True:
                changed.clear()
                lives = self._lives()
                if lives != clear:
                    with suppress(*_PROBLEMS):
                        clear = lives if await self._settle(lives) else None
                await woken_within(changed, None if lives == clear else INTERVAL_S)

    async def _settle(self, lives: dict[str, str]) -> bool:
        """Whether the record names a life that is there, by the healer's doing or ours."""
        connection = await self._connect()
        try:
            found = await redis_record.read(connection)
            if found is None:
                return False
            row, _age_s = found
            wanted = wanted_row(row, lives)
            if wanted is None:
                return False
            if not await redis_record.unhealed(connection):
                return wanted == row
            if wanted != row and not await redis_record.take(connection, row, wanted):
                return False
        finally:
            await connection.close(timeout=TIMEOUT_S)
        await self._promote(wanted.primary, wanted.boot_id)
        if wanted != row:
            self._note(f"{wanted.primary} is the Redis primary again, at epoch {wanted.epoch}: no healer may act now")
        return True

    def _lives(self) -> dict[str, str]:
        """The nodes that have started, each with its boot id."""
        return {
            each.name: each.boot_id
            for each in self._supervisor.processes
            if each.name in ports_plan.VALKEYS and each.phase in (ProcessPhase.READY, ProcessPhase.PAUSED)
        }

    async def _promote(self, name: str, boot_id: str) -> None:
        link = RedisLink(self._topology.valkey(name).url())
        try:
            await link.promote(boot_id)
        finally:
            await link.close()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self._topology.postgres.dsn(), timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)


def wanted_row(row: Row, lives: dict[str, str]) -> Row | None:
    """What the record should say where nobody heals; None: the node that it names has not come back yet.

    Who is being promoted may be primary by now, so it comes before the old one.
    """
    name = row.candidate or row.primary
    if name not in lives:
        return None
    same = (name, lives[name]) == (row.primary, row.boot_id)
    return Row(name, lives[name], row.epoch if same else row.epoch + 1, "steady")
