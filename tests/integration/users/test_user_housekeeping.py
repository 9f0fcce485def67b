"""What is left behind: sweeping, and the cache that must never be believed over Postgres."""

from __future__ import annotations

from typing import Any

import asyncpg
import in_process
import redis.asyncio

from betting.users.main import build
from betting.users.session_cache import cache_key

LONG_AGO_US = 1_000_000


async def test_sweeping_deletes_what_has_had_its_time_only(
    users: Any, user_settings: Any, sql: asyncpg.Connection
) -> None:
    """Expired sessions with their tokens, past revocations, old failures, networks not used; live ones stay."""
    live = (await users.register("ann@example.com")).tokens
    dead = (await users.login("ann@example.com")).tokens
    session_ids = [row["session_id"] for row in await sql.fetch("SELECT session_id FROM users.sessions")]
    await sql.execute("UPDATE users.sessions SET expires_at_us = $1 WHERE session_id = $2", LONG_AGO_US, session_ids[1])
    await sql.execute("INSERT INTO users.revocations VALUES ($1, $2)", session_ids[1], LONG_AGO_US)
    await sql.execute("INSERT INTO users.login_failures VALUES (sha256('x'), 3, $1)", LONG_AGO_US)
    await sql.execute("INSERT INTO users.known_networks VALUES (sha256('x'), $1)", LONG_AGO_US)
    async with in_process.service_context(user_settings()) as context:
        janitor = build(context, await context.postgres(), await context.redis()).janitor
        assert await janitor.sweep() == 4
        assert await janitor.sweep() == 0
    assert await sql.fetchval("SELECT count(*) FROM users.refresh_tokens") == 1
    assert (await users.refresh(live.refresh_token)).access_token
    assert dead.refresh_token


async def test_rubbish_in_the_cache_is_a_miss(
    users: Any, valkey_client: redis.asyncio.Redis, session_id_of: Any
) -> None:
    """An entry of another version, or none at all, costs a query and nothing else."""
    tokens = (await users.register("ann@example.com")).tokens
    for rubbish in (b"", b"{}", b"[1,2]", b"\xff\xfe", b'["a","b","c","d","e","f","g"]'):
        await valkey_client.set(cache_key(session_id_of(tokens)), rubbish)
        assert (await users.profile(tokens)).email == "ann@example.com"


async def test_a_cached_session_needs_no_postgres(
    users: Any, sql: asyncpg.Connection, session_id_of: Any, valkey_client: redis.asyncio.Redis
) -> None:
    """The second look is answered from Valkey: a change behind the cache's back is seen only once the copy is gone."""
    tokens = (await users.register("ann@example.com", name="Ann")).tokens
    assert (await users.profile(tokens)).display_name == "Ann"
    await sql.execute("UPDATE users.users SET display_name = 'Bea'")
    assert (await users.profile(tokens)).display_name == "Ann"
    assert 0 < await valkey_client.ttl(cache_key(session_id_of(tokens))) <= 60
    await valkey_client.flushall()
    assert (await users.profile(tokens)).display_name == "Bea"
