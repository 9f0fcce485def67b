"""Real servers for integration tests: one Postgres and one Valkey per session, a fresh migrated database per test.

Set TEST_DURABLE=1 to run the shared Postgres with fsync on; tests that are about durability ask for
`durable_database` instead, which always has it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql
from servers import ValkeyServer

from betting.embedded.ports import held_ports
from betting.embedded.postgres import PostgresServer
from betting.journal.migrate import migrate

TEMPLATE = "migrated_template"


@dataclass(frozen=True)
class Database:
    """A database of its own for one test."""

    name: str
    dsn: str
    server: PostgresServer


class Databases:
    """Hands out copies of a template database that has every migration; made on first use."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._template: str | None = None

    def create(self) -> Database:
        """A fresh migrated database."""
        template = self._template or self._make_template()
        name = f"test_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return Database(name, self.server.spec.dsn(name), self.server)

    def drop(self, database: Database) -> None:
        """Drops it, ending connections a test left open."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name)

    def _make_template(self) -> str:
        self._execute("CREATE DATABASE {}", TEMPLATE)
        migrate(self.server.spec.dsn(TEMPLATE))
        self._template = TEMPLATE
        return TEMPLATE

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.server.spec.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running Postgres shared by the session; fsync off unless TEST_DURABLE is set."""
    durable = bool(os.environ.get("TEST_DURABLE"))
    yield from _running_postgres(tmp_path_factory.mktemp("postgres"), durable=durable)


@pytest.fixture(scope="session")
def durable_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running Postgres with production settings: fsync on."""
    yield from _running_postgres(tmp_path_factory.mktemp("durable_postgres"), durable=True)


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    """The session's template, for tests that need more than one database."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def durable_databases(durable_postgres: PostgresServer) -> Databases:
    """The same on the durable server."""
    return Databases(durable_postgres)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A fresh migrated database; `.dsn` connects to it."""
    created = databases.create()
    yield created
    databases.drop(created)


@pytest.fixture
def durable_database(durable_databases: Databases) -> Iterator[Database]:
    """A fresh migrated database on a server with fsync on."""
    created = durable_databases.create()
    yield created
    durable_databases.drop(created)


@dataclass(frozen=True)
class Valkey:
    """The session's Valkey, empty at the start of each test."""

    url: str
    server: ValkeyServer


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A running Valkey shared by the session."""
    with held_ports(1) as [port]:
        server = ValkeyServer(tmp_path_factory.mktemp("valkey"), port)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Valkey:
    """An empty Valkey; `.url` connects to it."""
    with redis.Redis.from_url(valkey_server.spec.url()) as client:
        client.flushall()
    return Valkey(valkey_server.spec.url(), valkey_server)


@pytest.fixture
def unused_tcp_port(unused_tcp_port_factory: Callable[[], int]) -> int:
    """A port of 127.0.0.1 that nobody listens on, and that nobody else gets during the test."""
    return unused_tcp_port_factory()


@pytest.fixture
def unused_tcp_port_factory() -> Iterator[Callable[[], int]]:
    """Gives another such port with each call."""
    with ExitStack() as held:
        yield lambda: held.enter_context(held_ports(1))[0]


def _running_postgres(folder: Path, *, durable: bool) -> Iterator[PostgresServer]:
    with held_ports(1) as [port]:
        server = PostgresServer(folder / "pg", port, durable=durable)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Asks again until the answer satisfies, for what background loops bring about; bounded by thirty seconds."""

    async def ask(
        question: Callable[[], Awaitable[Any]], satisfied: Callable[[Any], bool], every_s: float = 0.01
    ) -> Any:
        async with asyncio.timeout(30):
            # What is waited for happens in the database or another service: there is no event to wait for.
            while not satisfied(answer := await question()):  # noqa: ASYNC110
                await asyncio.sleep(every_s)
        return answer

    return ask
