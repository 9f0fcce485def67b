"""Refreshing and ending sessions, and what the gateways hear of it."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import in_process
import pytest
import redis.asyncio
from servers import ValkeyServer

from betting.runtime.errors import ServiceError
from betting.users.main import build
from betting.users.revocations import BATCH_MAX, STREAM

WAIT_MS = 8_000


async def announced(client: redis.asyncio.Redis, count: int) -> dict[str, int]:
    """Waits until the stream names `count` sessions; each with the end of its last token."""
    sessions: dict[str, int] = {}
    position = "0-0"
    async with asyncio.timeout(WAIT_MS / 1000):
        while len(sessions) < count:
            reply: Any = await client.xread({STREAM: position}, block=WAIT_MS)
            streams = reply.values() if isinstance(reply, dict) else [batch for _, batch in reply]
            for entries in streams:
                for entry_id, fields in entries if isinstance(entries[0][0], bytes) else entries[0]:
                    position = entry_id.decode()
                    sessions[fields[b"sid"].decode()] = int(fields[b"exp_us"])
    return sessions


async def reason_of(call: Any) -> str:
    """The reason a call is refused with."""
    with pytest.raises(ServiceError) as refused:
        await call
    return refused.value.reason


async def test_a_refresh_token_is_exchanged_once(users: Any, session_id_of: Any) -> None:
    """Each refresh gives a new pair of the same session; the newest token goes on working."""
    first = (await users.register("ann@example.com")).tokens
    second = await users.refresh(first.refresh_token)
    third = await users.refresh(second.refresh_token)
    assert session_id_of(first) == session_id_of(second) == session_id_of(third)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert (await users.profile(third)).email == "ann@example.com"


LONGER_AGO_US = 11_000_000


async def pass_window(sql: asyncpg.Connection) -> None:
    """Every token was exchanged longer ago than the window of ten seconds."""
    await sql.execute("UPDATE users.refresh_tokens SET used_at_us = used_at_us - $1", LONGER_AGO_US)


async def test_a_token_presented_again_later_ends_its_session(
    users: Any, session_id_of: Any, valkey_client: redis.asyncio.Redis, sql: asyncpg.Connection
) -> None:
    """The thief's or the victim's second use: the whole family is void, gateways hear of it, other logins live on."""
    stolen = (await users.register("ann@example.com")).tokens
    elsewhere = (await users.login("ann@example.com")).tokens
    newest = await users.refresh(stolen.refresh_token)
    await pass_window(sql)
    assert await reason_of(users.refresh(stolen.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason_of(users.refresh(stolen.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason_of(users.refresh(newest.refresh_token)) == "SESSION_ENDED"
    sessions = await announced(valkey_client, 1)
    assert sessions.keys() == {session_id_of(stolen)}
    assert sessions[session_id_of(stolen)] >= newest.access_expires_at_us
    await users.refresh(elsewhere.refresh_token)


async def test_refreshes_at_one_moment_get_the_same_successor(start: Any, sql: asyncpg.Connection) -> None:
    """Four tabs through two processes, many times over: one successor, one family, and everybody stays signed in."""
    async with start() as one, start(instance="test-2") as other:
        for number in range(10):
            tokens = (await one.register(f"ann{number}@example.com")).tokens
            calls = [client.refresh(tokens.refresh_token) for client in (one, other, one, other)]
            pairs = await asyncio.gather(*calls)
            [successor] = {pair.refresh_token for pair in pairs}
            assert len({pair.refresh_expires_at_us for pair in pairs}) == 1
            for pair in pairs:
                assert (await other.profile(pair)).email == f"ann{number}@example.com"
            assert (await other.refresh(successor)).refresh_token
    successors = "SELECT count(*) FROM users.refresh_tokens WHERE used_at_us IS NULL"
    assert await sql.fetchval(successors) == 10
    assert await sql.fetchval("SELECT count(*) FROM users.refresh_tokens") == 30
    assert await sql.fetchval("SELECT count(*) FROM users.sessions WHERE ended_at_us IS NOT NULL") == 0


async def test_a_lost_answer_is_given_again_by_another_process(start: Any) -> None:
    """Whoever asks again within the window gets the token that the lost answer had, and goes on with it."""
    async with start() as one, start(instance="test-2") as other:
        tokens = (await one.register("ann@example.com")).tokens
        lost = await one.refresh(tokens.refresh_token)
        again = await other.refresh(tokens.refresh_token)
        assert again.refresh_token == lost.refresh_token
        assert (await other.refresh(again.refresh_token)).refresh_token


async def test_a_slow_tab_gets_the_newest_token_of_the_session(users: Any, sql: asyncpg.Connection) -> None:
    """The successor was exchanged already: nobody is handed a token that would sign them out at their next refresh."""
    tokens = (await users.register("ann@example.com")).tokens
    second = await users.refresh(tokens.refresh_token)
    third = await users.refresh(second.refresh_token)
    late = await users.refresh(tokens.refresh_token)
    assert late.refresh_token == third.refresh_token
    await pass_window(sql)
    assert (await users.refresh(late.refresh_token)).refresh_token


async def test_of_two_who_share_a_token_the_second_one_after_the_window_ends_the_session(
    users: Any, sql: asyncpg.Connection
) -> None:
    """A thief who came within the window holds what the victim holds: the next exchange but one is noticed."""
    tokens = (await users.register("ann@example.com")).tokens
    victim = await users.refresh(tokens.refresh_token)
    thief = await users.refresh(tokens.refresh_token)
    newest = await users.refresh(thief.refresh_token)
    await pass_window(sql)
    assert await reason_of(users.refresh(victim.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason_of(users.refresh(newest.refresh_token)) == "SESSION_ENDED"


async def test_a_used_token_brings_no_ended_session_back(users: Any) -> None:
    """Within the window too: logged out is logged out."""
    tokens = (await users.register("ann@example.com")).tokens
    newest = await users.refresh(tokens.refresh_token)
    await users.logout(newest)
    assert await reason_of(users.refresh(tokens.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason_of(users.refresh(newest.refresh_token)) == "SESSION_ENDED"


async def test_without_a_window_a_second_use_ends_the_session_at_once(start: Any) -> None:
    """The window is a setting."""
    async with start(refresh_reuse_window=0) as users:
        tokens = (await users.register("ann@example.com")).tokens
        await users.refresh(tokens.refresh_token)
        assert await reason_of(users.refresh(tokens.refresh_token)) == "REFRESH_TOKEN_REUSED"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "REFRESH_TOKEN_MISSING"),
        ("nonsense", "REFRESH_TOKEN_INVALID"),
        ("x" * 43, "REFRESH_TOKEN_INVALID"),
        ("é" * 43, "REFRESH_TOKEN_INVALID"),
        ("x" * 1_000_000, "REFRESH_TOKEN_INVALID"),
    ],
)
async def test_other_texts_are_no_refresh_tokens(users: Any, token: str, reason: str) -> None:
    """Empty, made up, overlong: each with a reason."""
    assert await reason_of(users.refresh(token)) == reason


async def test_an_expired_refresh_token_says_so(start: Any, sql: asyncpg.Connection) -> None:
    """It is not taken, and its session is not ended for it."""
    async with start() as users:
        tokens = (await users.register("ann@example.com")).tokens
        await sql.execute("UPDATE users.refresh_tokens SET expires_at_us = issued_at_us")
        assert await reason_of(users.refresh(tokens.refresh_token)) == "REFRESH_TOKEN_EXPIRED"
        assert await sql.fetchval("SELECT ended_at_us FROM users.sessions") is None


async def test_logging_out_ends_this_session_only(
    users: Any, session_id_of: Any, valkey_client: redis.asyncio.Redis
) -> None:
    """Once; then its refresh token and profile are refused, other sessions live, the gateways hear its id."""
    here = (await users.register("ann@example.com")).tokens
    there = (await users.login("ann@example.com")).tokens
    await users.profile(here)  # a copy in the cache must not outlive the session
    assert await users.logout(here) == 1
    assert await users.logout(here) == 0
    assert await reason_of(users.profile(here)) == "SESSION_ENDED"
    assert await reason_of(users.refresh(here.refresh_token)) == "SESSION_ENDED"
    assert (await announced(valkey_client, 1)).keys() == {session_id_of(here)}
    assert (await users.profile(there)).email == "ann@example.com"


async def test_logging_out_everywhere_ends_all_sessions_of_one_user(
    users: Any, session_id_of: Any, valkey_client: redis.asyncio.Redis
) -> None:
    """Three sessions of Ann, none of Bob."""
    bob = (await users.register("bob@example.com")).tokens
    sessions = [(await users.register("ann@example.com")).tokens]
    sessions += [(await users.login("ann@example.com")).tokens for _ in range(2)]
    assert await users.logout(sessions[0], all_sessions=True) == 3
    assert (await announced(valkey_client, 3)).keys() == {session_id_of(tokens) for tokens in sessions}
    for tokens in sessions:
        assert await reason_of(users.refresh(tokens.refresh_token)) == "SESSION_ENDED"
    await users.refresh(bob.refresh_token)


async def test_refreshing_and_logging_out_at_one_moment_leave_no_live_session(users: Any) -> None:
    """Whoever comes first: afterwards no token of the session is good."""
    for number in range(10):
        tokens = (await users.register(f"ann{number}@example.com")).tokens
        results = await asyncio.gather(
            users.refresh(tokens.refresh_token), users.logout(tokens, all_sessions=True), return_exceptions=True
        )
        assert results[1] == 1
        if not isinstance(results[0], BaseException):
            assert await reason_of(users.refresh(results[0].refresh_token)) == "SESSION_ENDED"


@pytest.fixture
async def own_valkey(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[ValkeyServer]:
    """A Valkey that this test may kill."""
    server = ValkeyServer(tmp_path / "valkey", unused_tcp_port)
    server.start()
    yield server
    server.stop()


async def test_a_logout_without_valkey_is_announced_when_it_is_back(
    start: Any, own_valkey: ValkeyServer, session_id_of: Any
) -> None:
    """Everything works while Valkey is gone; the announcement waits in Postgres."""
    async with start(redis_url=own_valkey.spec.url()) as users:
        tokens = (await users.register("ann@example.com")).tokens
        await users.profile(tokens)
        own_valkey.kill()
        other = (await users.login("ann@example.com")).tokens
        assert (await users.profile(other)).email == "ann@example.com"
        assert await users.logout(tokens) == 1
        assert await reason_of(users.profile(tokens)) == "SESSION_ENDED"
        own_valkey.start()
        async with redis.asyncio.Redis.from_url(own_valkey.spec.url()) as client:
            assert (await announced(client, 1)).keys() == {session_id_of(tokens)}


async def test_a_frozen_valkey_delays_a_logout_but_does_not_stop_it(
    start: Any, own_valkey: ValkeyServer, session_id_of: Any
) -> None:
    """Within the deadline, and the gateways hear of it once it thaws."""
    async with start(redis_url=own_valkey.spec.url()) as users:
        tokens = (await users.register("ann@example.com")).tokens
        own_valkey.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(4.5):
                assert await users.logout(tokens) == 1
                assert await reason_of(users.profile(tokens)) == "SESSION_ENDED"
        finally:
            own_valkey.signal(signal.SIGCONT)
        async with redis.asyncio.Redis.from_url(own_valkey.spec.url()) as client:
            assert (await announced(client, 1)).keys() == {session_id_of(tokens)}


@pytest.mark.parametrize("loss", ["wiped", "restarted empty"])
async def test_a_valkey_that_lost_everything_is_told_again(
    start: Any, own_valkey: ValkeyServer, session_id_of: Any, loss: str
) -> None:
    """All sessions whose tokens may still be valid, also the one that ended between the loss and its discovery."""
    async with start(redis_url=own_valkey.spec.url()) as users:
        sessions = [(await users.register(f"ann{number}@example.com")).tokens for number in range(3)]
        for tokens in sessions[:2]:
            await users.logout(tokens)
        async with redis.asyncio.Redis.from_url(own_valkey.spec.url()) as client:
            await announced(client, 2)
            if loss == "wiped":
                await client.flushall()
        if loss == "restarted empty":
            own_valkey.kill()
            own_valkey.start()
        await users.logout(sessions[2])
        async with redis.asyncio.Redis.from_url(own_valkey.spec.url()) as client:
            assert (await announced(client, 3)).keys() == {session_id_of(tokens) for tokens in sessions}


async def test_a_restart_announces_what_the_process_before_could_not(
    start: Any, own_valkey: ValkeyServer, session_id_of: Any
) -> None:
    """The outbox outlives the process."""
    own_valkey.kill()
    async with start(redis_url=own_valkey.spec.url()) as users:
        tokens = (await users.register("ann@example.com")).tokens
        await users.logout(tokens)
    own_valkey.start()
    async with (
        start(redis_url=own_valkey.spec.url()),
        redis.asyncio.Redis.from_url(own_valkey.spec.url()) as client,
    ):
        assert (await announced(client, 1)).keys() == {session_id_of(tokens)}


async def test_what_no_longer_matters_is_not_announced_again(
    user_settings: Any, sql: asyncpg.Connection, valkey_client: redis.asyncio.Redis
) -> None:
    """A session whose last token has ended is left out after a loss, and nothing is announced twice without one."""
    past, live = uuid.uuid4(), uuid.uuid4()
    insert = "INSERT INTO users.revocations (session_id, relevant_until_us, announced_at_us) VALUES ($1, $2, 1)"
    await sql.execute(insert, past, 1)
    await sql.execute(insert, live, 4_000_000_000_000_000)
    async with in_process.service_context(user_settings()) as context:
        announcer = build(context, await context.postgres(), await context.redis()).announcer
        assert await announcer.announce() == 1
        assert await announcer.announce() == 0
    assert await announced(valkey_client, 1) == {str(live): 4_000_000_000_000_000}
    assert await valkey_client.xlen(STREAM) == 1


async def test_many_revocations_are_announced_in_bounded_batches(
    user_settings: Any, sql: asyncpg.Connection, valkey_client: redis.asyncio.Redis
) -> None:
    """More than two batches, each session once, pending and repeated alike."""
    await sql.execute(
        "INSERT INTO users.revocations SELECT gen_random_uuid(), 4000000000000000 FROM generate_series(1, $1)",
        2 * BATCH_MAX + 7,
    )
    async with in_process.service_context(user_settings()) as context:
        announcer = build(context, await context.postgres(), await context.redis()).announcer
        assert await announcer.announce() == 2 * (2 * BATCH_MAX + 7)
        assert len(await announced(valkey_client, 2 * BATCH_MAX + 7)) == 2 * BATCH_MAX + 7
        await valkey_client.flushall()
        assert await announcer.announce() == 2 * BATCH_MAX + 7
