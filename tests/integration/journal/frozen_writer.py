"""A writer for test_frozen_owner: owns shard 0 and appends large batches as fast as it can, until it loses it, again.

Says "OWN <epoch>" when it begins and "LOST <last acknowledged sequence>" when it has lost the shard.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from betting.engine.entries import Entry
from betting.journal import append, ownership, reader
from betting.journal.append import OutcomeUnknown, ShardEntries
from betting.journal.connection import connect
from betting.runtime.ids import new_uuid7_bytes

BATCH = 1_500
ACCOUNT = bytes(range(16))


def batch(head: int) -> list[Entry]:
    """Balanced entries with bodies like a bet's."""
    return [
        Entry(head + i, 2, 1, 1, ACCOUNT, None, new_uuid7_bytes(), None, 5, 0, 0, -5, 0, bytes(97))
        for i in range(1, BATCH + 1)
    ]


def say(word: str, number: int) -> None:
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


async def write(dsn: str, me: str) -> None:
    while True:
        connection = await connect(dsn, me)
        epoch, state = await connection.fetchrow("SELECT epoch, state FROM betting.shards WHERE shard_id = 0")
        acquired = await ownership.acquire(connection, 0, me, "127.0.0.1:1", epoch) if state == "free" else None
        if acquired is None:
            await asyncio.sleep(0.005)
        else:
            head = await reader.head(connection, 0)
            say("OWN", acquired.epoch)
            say("LOST", await append_until_lost(connection, me, acquired.epoch, head))
        connection.terminate()


async def append_until_lost(connection: asyncpg.Connection, me: str, epoch: int, head: int) -> int:
    while True:
        try:
            answer = await append.append(connection, me, [ShardEntries(0, epoch, batch(head))])
        except OutcomeUnknown:
            return head
        if not answer.matched:
            return head
        head += BATCH


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))
