"""Signing keys shared by several user-service processes on one Postgres."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import in_process
import jwt

from betting.users.keyring import Keyring
from betting.users.signing import KeyPolicy

SECRET = bytes.fromhex(in_process.SECRET)
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
START = 1_780_000_000_000_000
POLICY = KeyPolicy(rotation_us=30 * DAY, publish_lead_us=5 * MINUTE, token_lifetime_us=10 * MINUTE, slack_us=MINUTE)


class Time:
    """The time both keyrings see."""

    def __init__(self) -> None:
        self.us = START

    def now_us(self) -> int:
        return self.us


async def test_processes_that_start_together_make_one_key(start: Any, sql: asyncpg.Connection) -> None:
    """Four at once: one row, and all sign with it."""
    async with AsyncExitStack() as stack:
        contexts = [start(instance=f"test-{number}") for number in range(4)]
        services = await asyncio.gather(*(stack.enter_async_context(context) for context in contexts))
        assert await sql.fetchval("SELECT count(*) FROM users.signing_keys") == 1
        tokens = [(await users.register(f"ann{number}@example.com")).tokens for number, users in enumerate(services)]
        kids = {jwt.get_unverified_header(pair.access_token)["kid"] for pair in tokens}
        assert len(kids) == 1
        assert kids == (await services[0].keys()).keys()


async def test_a_rotation_is_agreed_and_never_surprises(database: Any, sql: asyncpg.Connection) -> None:
    """Two processes: the successor is published by both before either signs with it, the old key while needed."""
    time = Time()
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=4) as pool:
        one, other = (Keyring(pool, SECRET, POLICY, time.now_us) for _ in range(2))
        await asyncio.gather(one.refresh(), other.refresh())
        first = one.signer().key_id
        assert other.signer().key_id == first
        time.us = START + 30 * DAY - 5 * MINUTE
        await asyncio.gather(one.refresh(), other.refresh())
        assert await sql.fetchval("SELECT count(*) FROM users.signing_keys") == 2
        await one.refresh()
        await other.refresh()
        assert one.published() == other.published()
        assert [one.signer().key_id, other.signer().key_id] == [first, first]
        time.us = START + 30 * DAY
        second = one.signer().key_id
        assert second != first
        assert other.signer().key_id == second
        assert {key.key_id for key in other.published()} == {first, second}
        time.us += 11 * MINUTE
        assert {key.key_id for key in other.published()} == {second}


async def test_another_internal_secret_makes_another_key(database: Any) -> None:
    """Keys sealed under the old secret are still published, so that tokens go on to be believed, but do not sign."""
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=4) as pool:
        time = Time()
        before = Keyring(pool, SECRET, POLICY, time.now_us)
        await before.refresh()
        time.us += MINUTE
        after = Keyring(pool, b"another secret of the platform!!", POLICY, time.now_us)
        await after.refresh()
        assert after.signer().key_id != before.signer().key_id
        assert {key.key_id for key in after.published()} == {after.signer().key_id, before.signer().key_id}


async def test_ended_keys_are_deleted_at_the_next_rotation(database: Any, sql: asyncpg.Connection) -> None:
    """The table does not grow for ever."""
    time = Time()
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=4) as pool:
        keyring = Keyring(pool, SECRET, POLICY, time.now_us)
        for _ in range(8):
            await keyring.refresh()
            time.us += 30 * DAY
        assert await sql.fetchval("SELECT count(*) FROM users.signing_keys") <= 4
        assert keyring.signer() is not None
