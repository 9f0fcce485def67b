"""Reads what the platform's database says about it: over one connection, which is opened again when it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg

from betting.dsn import UNREADABLE, address_of, why_not_connected
from betting.journal import connection as journal
from betting.journal import directory, healing_switch, install, redis_record, schema
from betting_operator.kubernetes.reconcile import Facts
from betting_operator.kubernetes.rollbacks import common

# For the connection, and again for what is asked.
TIMEOUT_S = 2.0
PROCESS_NAME = "betting-operator"
_TAKES_NO_WRITES = "SELECT current_setting('transaction_read_only') = 'on'"
# After so long without a heartbeat a bet-service does not count as an owner: others may take its shards from it then
# (the default of BETTING_ORPHANED_AFTER, and how the healer tells that an owner is gone).
OWNER_RUNS_WITHIN_S = 10.0


class FactsUnknown(Exception):
    """The database does not answer, or not as a platform's database; the message says why.

    answers: it does, and no platform is installed in it."""

    def __init__(self, message: str, *, answers: bool = False) -> None:
        super().__init__(message)
        self.answers = answers


class FactsReader:
    """Asks one database at a time: another address closes the connection to the one before."""

    def __init__(self) -> None:
        self._dsn = ""
        self._connection: asyncpg.Connection | None = None

    async def read(self, dsn: str) -> Facts:
        """What it says now, within a few seconds. Raises FactsUnknown.

        A connection that was lost since the last time (a proxy ends idle ones) says nothing about the database.
        """
        is_new = await self._connected(dsn)
        try:
            return await self._ask()
        except FactsUnknown:
            if is_new:
                raise
        await self._connected(dsn)
        return await self._ask()

    async def _ask(self) -> Facts:
        connection = self._connection
        assert connection is not None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                read_only = await connection.fetchval(_TAKES_NO_WRITES)
                found = await schema.look(connection)
                counts = await directory.counts(connection, running_within_s=OWNER_RUNS_WITHIN_S)
                formats = await directory.formats_read(connection, running_within_s=OWNER_RUNS_WITHIN_S)
                running = await directory.running(connection, running_within_s=OWNER_RUNS_WITHIN_S)
                record = await redis_record.read(connection)
                installation = await install.installation(connection)
                switch = await healing_switch.read(connection)
        except asyncpg.UndefinedTableError:
            raise FactsUnknown(found.waits_for or "it is not a platform's database", answers=True) from None
        except (*journal.DRIVER_ERRORS, ValueError) as error:
            await self.close()
            raise FactsUnknown(str(error) or f"no answer within {TIMEOUT_S:g} s") from None
        if read_only:
            await self.close()  # the name may lead to another server by now
            raise FactsUnknown("it takes no writes: is this the address of a standby?")
        facts = Facts(
            *(counts.shards, counts.owned, counts.stopped, found.newest),
            refusal=found.refusal,
            installation=installation,
            healing_paused=switch.paused,
            healing_dry_run=switch.dry_run,
            formats=common(formats),
            running=running,
        )
        if record is None:
            return facts
        row, _age_s = record
        return replace(facts, primary=row.primary, redis_phase=row.phase, redis_epoch=row.epoch)

    async def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self, dsn: str) -> bool:
        """Whether the connection is a new one. Raises FactsUnknown."""
        if dsn == self._dsn and self._connection is not None and not self._connection.is_closed():
            return False
        await self.close()
        try:
            self._connection = await journal.connect(dsn, PROCESS_NAME, timeout_s=TIMEOUT_S)
        except (*journal.DRIVER_ERRORS, ValueError) as error:
            why = why_not_connected(dsn, error) if str(error) else f"no connection within {TIMEOUT_S:g} s"
            raise FactsUnknown(why if why == UNREADABLE else f"{address_of(dsn)}: {why}") from None
        self._dsn = dsn
        return True
