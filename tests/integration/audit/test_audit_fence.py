"""What the fences are for: without them a stale owner writes beside the new one, and the audit says so."""

from __future__ import annotations

import time
from typing import Any
from zlib import crc32

import asyncpg
import pytest
from scribe import OWNER, Scribe

from betting.audit import audit
from betting.journal import append, install, ownership, projector
from betting.journal.connection import connect
from betting.life import Life

NEW_OWNER = "bet-service-2@fedcba9876543210"
SHARDS = 16
USER = bytes(16)
SHARD = crc32(USER) % SHARDS


async def _two_owners(connection: asyncpg.Connection) -> tuple[Scribe, Scribe]:
    """The old owner's state and the new one's, the same until the shard was stolen; both go on betting."""
    await install.initialise(connection, SHARDS)
    await ownership.register(connection, Life.parse("bet-service", OWNER), "127.0.0.1:1", [1])
    await ownership.acquire(connection, SHARD, OWNER, "127.0.0.1:1", 0)
    now_us = time.time_ns() // 1000
    stale, new = Scribe(SHARD, now_us, seed=1), Scribe(SHARD, now_us, seed=1)
    for scribe in (stale, new):
        scribe.deposit(USER, 1_000)
    new.take()
    await stale.commit(connection)
    await ownership.steal(connection, SHARD, NEW_OWNER, "127.0.0.1:2", 1)
    new.place(USER, 700, [(1, 1)])
    stale.key()  # from here on their bettors' request keys differ
    stale.place(USER, 600, [(2, 1)])
    return stale, new


async def test_with_the_fence_the_stale_owner_writes_nothing_and_the_audit_holds(database: Any) -> None:
    """The rule as it is."""
    connection = await connect(database.dsn, OWNER)
    try:
        stale, new = await _two_owners(connection)
        await new.commit(connection, NEW_OWNER, epoch=2)
        part = append.ShardEntries(SHARD, 1, stale.take())
        assert (await append.append(connection, OWNER, [part])).matched == frozenset()
        await projector.project(connection, SHARD)
        assert (await audit(database.dsn, None, lambda *_: None)).holds
    finally:
        await connection.close()


async def test_the_primary_key_is_a_second_fence(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even without the first one a sequence is written once."""
    monkeypatch.setattr(append, "_APPEND", _without_fence())
    connection = await connect(database.dsn, OWNER)
    try:
        stale, new = await _two_owners(connection)
        await new.commit(connection, NEW_OWNER, epoch=2)
        with pytest.raises(append.AppendRejected):
            await append.append(connection, OWNER, [append.ShardEntries(SHARD, 1, stale.take())])
    finally:
        await connection.close()


async def test_canary_without_the_fences_the_audit_fails(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both owners' bets are in the journal: one sequence twice, and more staked than there was."""
    monkeypatch.setattr(append, "_APPEND", _without_fence())
    connection = await connect(database.dsn, OWNER)
    try:
        await connection.execute("ALTER TABLE betting.journal DROP CONSTRAINT journal_pkey CASCADE")
        stale, new = await _two_owners(connection)
        await new.commit(connection, NEW_OWNER, epoch=2)
        await append.append(connection, OWNER, [append.ShardEntries(SHARD, 1, stale.take())])
        report = await audit(database.dsn, None, lambda *_: None)
        assert not report.holds
        failed = {check.name for check in report.failed}
        assert any(name.startswith("journal.sequences") for name in failed), failed
        assert any(name.startswith("accounts.cash") for name in failed), failed
    finally:
        await connection.close()


def _without_fence() -> str:
    """The append as it would be if somebody took the check for needless."""
    altered = append._APPEND.replace("WHERE (SELECT whole FROM fence)", "WHERE true")
    assert altered != append._APPEND
    return altered
