"""The Postgres and Redis helpers against real servers: waiting, names, errors, reconnecting."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import in_process
import pytest
from servers import ValkeyServer

from betting.journal import connection as journal_connection
from betting.runtime import ids, postgres
from betting.runtime import redis as redis_adapter
from betting.runtime.errors import ConfigurationError, ServiceError
from betting.runtime.redis_link import RedisLink
from betting.runtime.service_context import opened


@asynccontextmanager
async def _forwarding(port: int, to_port: int, *, host: str = "127.0.0.1") -> AsyncIterator[None]:
    """Makes a server reachable on another port for the length of a block; leaving it cuts every connection."""
    tasks: set[asyncio.Task[Any]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()

    server = await asyncio.start_server(accept, host, port)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def _at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}"))


async def _refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


async def _queried(pool: asyncpg.Pool, statement: str) -> Any:
    async with postgres.translated():
        return await pool.fetchval(statement)


async def test_the_pool_is_named_after_the_process(database: Any) -> None:
    """A steal finds an owner's connections by the last 63 bytes of its name, which is what Postgres keeps of it."""
    settings = in_process.settings(instance="b" * 63, postgres_dsn=database.dsn)
    async with opened("bet-service", settings, boot_id=ids.new_boot_id()) as context:
        pool = await context.postgres(max_size=2)
        assert await context.postgres() is pool
        name = await pool.fetchval("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    assert len(name) == 63
    assert str(context.life).endswith(name)
    assert name.endswith(f"@{context.life.boot_id}")


async def test_a_connection_over_tcp_has_keepalives_on_both_sides(database: Any) -> None:
    """When a node or a cable is gone, ours notices within seconds, and the server's session gives up its locks."""
    pool = await postgres.open_pool(database.dsn, "wallet-1@b", max_size=1)
    own = await journal_connection.connect(database.dsn, "wallet-1@b")
    try:
        async with pool.acquire() as pooled:
            for connection in (pooled, own):
                client = connection._transport.get_extra_info("socket")
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
                settings = "SELECT current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')"
                assert tuple(await connection.fetchrow(settings)) == ("5", "10000")
    finally:
        await own.close()
        pool.terminate()


async def test_the_pool_waits_for_postgres_and_survives_its_absence(database: Any, unused_tcp_port: int) -> None:
    """Opened before Postgres is there, cut off, back afterwards: UNAVAILABLE in between, and no new pool is needed."""
    dsn = _at_port(database.dsn, unused_tcp_port)
    opening = asyncio.ensure_future(postgres.open_pool(dsn, "wallet-1@b", max_size=2))
    await asyncio.sleep(0.2)
    assert not opening.done()
    async with _forwarding(unused_tcp_port, urlsplit(database.dsn).port or 0):
        async with asyncio.timeout(10):
            pool = await opening
        assert await _queried(pool, "SELECT 1") == 1
    try:
        error = await _refused(_queried(pool, "SELECT 1"))
        assert (error.code.name, error.reason) == ("UNAVAILABLE", "POSTGRES_UNAVAILABLE")
        async with _forwarding(unused_tcp_port, urlsplit(database.dsn).port or 0):
            assert await _queried(pool, "SELECT 2") == 2
    finally:
        pool.terminate()


@pytest.mark.parametrize("what", ["user", "dsn"])
async def test_a_wrong_dsn_is_a_configuration_error(database: Any, what: str) -> None:
    """Waiting does not cure a wrong name, so it is said, with the variable and without the value."""
    parts = urlsplit(database.dsn)
    wrong = {
        "user": urlunsplit(parts._replace(netloc=f"nobody:hunter2@127.0.0.1:{parts.port}")),
        "dsn": "hunter2://",
    }
    with pytest.raises(ConfigurationError, match="BETTING_POSTGRES_DSN") as caught:
        async with asyncio.timeout(10):
            await postgres.open_pool(wrong[what], "x")
    assert "hunter2" not in str(caught.value)


async def _slow(pool: asyncpg.Pool) -> None:
    async with postgres.translated(), pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 20")
        await connection.execute("SELECT pg_sleep(5), 'hunter2'")


async def test_postgres_errors_are_translated_without_their_text(database: Any, capsys: Any) -> None:
    """A real violation, a timeout and a syntax error: codes as promised, no SQL and no values, not even in the log."""
    pool = await postgres.open_pool(database.dsn, "x", max_size=1)
    try:
        await pool.execute("CREATE TABLE things (name text PRIMARY KEY)")
        await pool.execute("INSERT INTO things VALUES ('hunter2')")
        duplicate = await _refused(_queried(pool, "INSERT INTO things VALUES ('hunter2') RETURNING 1"))
        slow = await _refused(_slow(pool))
        syntax = await _refused(_queried(pool, "SELEC hunter2"))
    finally:
        await pool.close()
    assert [error.reason for error in (duplicate, slow, syntax)] == ["DUPLICATE", "POSTGRES_TIMEOUT", "POSTGRES_ERROR"]
    assert "hunter2" not in capsys.readouterr().out + str([duplicate, slow, syntax])


async def test_redis_works_and_is_closed_with_the_context(valkey: Any) -> None:
    """One client per process, bytes in and out, named in CLIENT LIST."""
    settings = in_process.settings(redis_url=valkey.url)
    async with opened("x", settings, boot_id=ids.new_boot_id()) as context:
        client = await context.redis()
        assert await context.redis() is client
        await client.set("k", "v")
        assert await client.get("k") == b"v"
        assert (await client.client_info())["name"] == str(context.life)


async def test_a_demoted_primary_is_reconnected_to(valkey: Any) -> None:
    """READONLY drops the connection: after a failover the same client writes again over a new one."""
    client = redis_adapter.open_client(valkey.url, "x")
    try:
        before = await client.client_id()
        await client.replicaof("127.0.0.1", in_process.free_address().split(":")[1])
        try:
            error = await _refused(_set(client))
        finally:
            await client.replicaof("NO", "ONE")
        assert (error.code.name, error.reason) == ("UNAVAILABLE", "REDIS_NOT_WRITABLE")
        await _set(client)
        assert await client.client_id() != before
    finally:
        await client.aclose()


async def _set(client: Any, value: bytes = b"v") -> None:
    async with redis_adapter.translated():
        await client.set("k", value)


async def test_a_dead_redis_is_unavailable_soon() -> None:
    """Nobody listening: three quick attempts, then UNAVAILABLE."""
    client = redis_adapter.open_client(f"redis://{in_process.free_address()}/0", "x")
    started_s = time.monotonic()
    try:
        error = await _refused(_set(client))
    finally:
        await client.aclose()
    assert (error.code.name, error.reason) == ("UNAVAILABLE", "REDIS_UNAVAILABLE")
    assert time.monotonic() - started_s < 4.0


async def test_who_talks_to_redis_can_be_cancelled_at_any_moment(valkey: Any) -> None:
    """No step of connecting, writing or reading swallows it: whoever waits for the end of the task would hang."""
    client = redis_adapter.open_client(valkey.url, "x")
    try:
        for steps in range(300):
            link = RedisLink(valkey.url)
            for talk in (client.ping(), link.info()):
                await _cancelled_after(steps % 30, asyncio.ensure_future(talk))
            await link.close()
            await client.connection_pool.disconnect()
    finally:
        await client.aclose()


async def _cancelled_after(steps: int, task: asyncio.Future[Any]) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_frozen_redis_is_unavailable_within_its_timeouts(valkey: Any) -> None:
    """A server that stops answering costs a command three socket timeouts, a new connection fewer."""
    client = redis_adapter.open_client(valkey.url, "x")
    newcomer = redis_adapter.open_client(valkey.url, "y")
    await _set(client)
    valkey.server.signal(signal.SIGSTOP)
    try:
        started_s = time.monotonic()
        too_much_to_write = b"v" * 2**24
        errors = await asyncio.gather(
            _refused(_set(client)), _refused(_set(client, too_much_to_write)), _refused(_set(newcomer))
        )
        took_s = time.monotonic() - started_s
    finally:
        valkey.server.signal(signal.SIGCONT)
    assert {error.reason for error in errors} == {"REDIS_UNAVAILABLE"}
    assert took_s < 7.0
    await _set(client)
    for one in (client, newcomer):
        await one.aclose()


async def test_a_client_of_several_nodes_finds_the_one_that_is_primary(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """After a planned change, after its death, while it hangs and callers give up; UNAVAILABLE while there is none."""
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    one = ValkeyServer(tmp_path / "one", first)
    two = ValkeyServer(tmp_path / "two", second, replica_of_port=first, password_file=one.spec.password_file)
    one.start()
    client = redis_adapter.open_client(one.spec.url().replace(f":{first}/", f":{second},127.0.0.1:{first}/"), "x")
    try:
        two.start()
        await _set(client)
        async with _only(one) as other, _only(two) as another:
            await another.replicaof("NO", "ONE")
            await other.replicaof("127.0.0.1", str(second))
            await _set(client)
            assert (await client.client_info())["laddr"] == f"127.0.0.1:{second}"
            two.signal(signal.SIGKILL)
            started_s = time.monotonic()
            error = await _refused(_set(client))
            assert error.reason == "REDIS_UNAVAILABLE"
            assert time.monotonic() - started_s < 4.0
            await other.replicaof("NO", "ONE")
        await _set(client)
        two.stop()
        two.start()
        async with _only(two) as another:
            await another.replicaof("NO", "ONE")
        one.signal(signal.SIGSTOP)
        try:
            for _ in range(2):  # the connection that there was, then a new one
                await _gives_up_soon(client)
            async with asyncio.timeout(0.9):
                await _set(client)
        finally:
            one.signal(signal.SIGCONT)
    finally:
        await client.aclose()
        two.stop()
        one.stop()


async def test_a_primary_that_refuses_writes_for_want_of_replicas_is_left_for_one_that_takes_them(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Its replicas may follow another by now. While nobody takes writes the error says so, and reads go on."""
    first, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    one = ValkeyServer(tmp_path / "one", first)
    two = ValkeyServer(tmp_path / "two", second, replica_of_port=first, password_file=one.spec.password_file)
    one.start()
    client = redis_adapter.open_client(one.spec.url().replace(f":{first}/", f":{first},127.0.0.1:{second}/"), "x")
    try:
        two.start()
        await _set(client)
        async with _only(one) as other, _only(two) as another:
            await other.config_set("min-replicas-to-write", 2)
            assert (await _refused(_set(client))).reason == "REDIS_NOT_WRITABLE"
            assert await client.exists("k")
            await another.replicaof("NO", "ONE")
            await _set(client)
            assert (await client.client_info())["laddr"] == f"127.0.0.1:{second}"
    finally:
        await client.aclose()
        two.stop()
        one.stop()


async def _gives_up_soon(client: Any) -> None:
    with suppress(TimeoutError, ServiceError):
        async with asyncio.timeout(0.3):
            await _set(client)


def _only(server: ValkeyServer) -> Any:
    return redis_adapter.open_client(server.spec.url(), "operator")


async def test_the_nodes_behind_a_name_may_become_more_and_fewer(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up for each new connection; while it cannot be, the nodes that were known stay."""
    port, second = unused_tcp_port_factory(), unused_tcp_port_factory()
    addresses: list[str] = []
    resolve = socket.getaddrinfo

    def resolved(host: str, *arguments: Any, **more: Any) -> Any:
        """What DNS would say: the name has the addresses of the nodes that there are."""
        if host != "nodes.test":
            return resolve(host, *arguments, **more)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [each for address in addresses for each in resolve(address, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    one = ValkeyServer(tmp_path / "one", port)
    two = ValkeyServer(tmp_path / "two", second, replica_of_port=port, password_file=one.spec.password_file)
    one.start()
    parts = urlsplit(one.spec.url())
    named = urlunsplit(parts._replace(scheme="redis+dns", netloc=parts.netloc.replace("127.0.0.1", "nodes.test")))
    client = redis_adapter.open_client(named, "x")
    try:
        assert (await _refused(_set(client))).reason == "REDIS_UNAVAILABLE"
        addresses.append("127.0.0.1")
        await _set(client)
        two.start()
        async with _forwarding(port, second, host="127.0.0.2"), _only(two) as another, _only(one) as other:
            addresses.append("127.0.0.2")
            await another.replicaof("NO", "ONE")
            await other.replicaof("127.0.0.1", str(second))
            await client.connection_pool.disconnect()
            await _set(client)
            assert (await client.client_info())["laddr"] == f"127.0.0.1:{second}"
            addresses.clear()
            await client.connection_pool.disconnect()
            await _set(client)
            await other.replicaof("NO", "ONE")
            addresses.append("127.0.0.1")
            await client.connection_pool.disconnect()
            await _set(client)
            assert (await client.client_info())["laddr"] == f"127.0.0.1:{port}"
    finally:
        await client.aclose()
        two.stop()
        one.stop()


async def test_a_name_server_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a node that was just lost: the nodes that are known are tried, and one look-up is under way, not more."""
    answers, asked, resolve = threading.Event(), [], socket.getaddrinfo

    def resolved(host: str, *arguments: Any, **more: Any) -> Any:
        if host != "nodes.test":
            return resolve(host, *arguments, **more)
        asked.append(host)
        answers.wait()
        return resolve("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    one = ValkeyServer(tmp_path / "one", unused_tcp_port)
    one.start()
    parts = urlsplit(one.spec.url())
    named = urlunsplit(parts._replace(scheme="redis+dns", netloc=parts.netloc.replace("127.0.0.1", "nodes.test")))
    client = redis_adapter.open_client(named, "x")
    try:
        answers.set()
        await _set(client)
        answers.clear()
        asked.clear()
        for _connection in range(3):
            await client.connection_pool.disconnect()
            await _set(client)
        assert len(asked) == 1
    finally:
        answers.set()
        await client.aclose()
        one.stop()


@pytest.mark.parametrize(
    "url",
    [
        "rediss://a:1,b:2/0",
        "redis+dns://a:1,b:2/0",
        "redis+dns://a/0",
        "redis://a:1,:2/0",
        "redis://a:1,b/0",
        "hunter2://x",
    ],
)
async def test_a_wrong_redis_url_is_a_configuration_error(url: str) -> None:
    """Said at once, with the variable and without the value."""
    with pytest.raises(ConfigurationError, match="BETTING_REDIS_URL") as caught:
        redis_adapter.open_client(url, "x")
    assert "hunter2" not in str(caught.value)
