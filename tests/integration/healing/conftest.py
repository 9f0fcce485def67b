"""Platforms with a healer: real processes under a real supervisor, only those that a test needs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from betting.drills.embedded_target import inject
from betting.embedded.folder import DataFolder
from betting.embedded.platform import Options, Platform, running
from betting.embedded.topology import SERVICES, SHARD_COUNT
from betting.internal.v1 import supervisor_pb2_grpc
from betting.runtime.principal import METADATA_KEY, service_principal
from betting_operator import flight_files
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.flight import Record


@dataclass
class RunningPlatform:
    """A running platform and what is needed to look at it."""

    platform: Platform
    folder: Path
    database: asyncpg.Connection
    notes: list[str]

    async def owners(self) -> set[str]:
        """Who owns shards now; "" stands for shards that nobody has."""
        rows = await self.database.fetch("SELECT DISTINCT coalesce(owner, '') FROM betting.shards")
        return {row[0] for row in rows}

    async def another_connection(self) -> asyncpg.Connection:
        """Beside `database`, for who closes it."""
        return await asyncpg.connect(self.platform.topology.postgres.dsn())

    def life(self, name: str) -> str:
        """The present boot id of a process."""
        return self.platform.supervisor.boot_id(name)

    def owner(self, name: str) -> str:
        """How the directory names this life."""
        return f"{name}@{self.life(name)}"

    def records(self) -> list[Record]:
        """Everything the healer has recorded; a line that is being written is left out."""
        return list(flight_files.records(self.folder / "flight"))

    def done(self, kind: type) -> list[object]:
        """Every action of a kind that was taken."""
        return [action for record in self.records() for action in record.plan.actions if isinstance(action, kind)]

    def diagnoses(self, kind: Kind) -> list[Diagnosis]:
        """Every diagnosis of a kind that was made, tick by tick."""
        return [each for record in self.records() for each in record.diagnoses if each.kind is kind]


StartPlatform = Callable[..., AbstractAsyncContextManager[RunningPlatform]]


@pytest.fixture
def start_platform(tmp_path: Path) -> StartPlatform:
    """`async with start_platform("bet-service", "healer") as running`; more bet-services or fewer shards than usual."""

    @asynccontextmanager
    async def start(
        *names: str, bet_services: int = 2, shard_count: int = SHARD_COUNT
    ) -> AsyncIterator[RunningPlatform]:
        notes: list[str] = []
        services = tuple(
            replace(service, instances=bet_services) if service.name == "bet-service" else service
            for service in SERVICES
            if service.name in names
        )
        folder = DataFolder.at(tmp_path / "data")
        options = Options(folder, free_ports=True, services=services, shard_count=shard_count, inject=inject)
        async with running(options, lambda _name, _s: None, notes.append) as platform:
            database = await asyncpg.connect(platform.topology.postgres.dsn())
            try:
                yield RunningPlatform(platform, options.folder.path, database, notes)
            finally:
                await database.close()

    return start


class CallSupervisor:
    """Calls a platform's supervisor as the healer does."""

    def __init__(self) -> None:
        self._metadata: tuple[tuple[str, bytes], ...] = ()

    @asynccontextmanager
    async def __call__(self, running: RunningPlatform) -> AsyncIterator[supervisor_pb2_grpc.SupervisorServiceStub]:
        """A stub, for the length of a block."""
        topology = running.platform.topology
        secret = bytes.fromhex(topology.folder.internal_secret())
        self._metadata = ((METADATA_KEY, service_principal("test", secret, time.time_ns() // 1_000)),)
        async with grpc.aio.insecure_channel(topology.supervisor_address()) as channel:
            yield supervisor_pb2_grpc.SupervisorServiceStub(channel)

    async def code(self, method: Any, request: Any, metadata: Any = None) -> str:
        """The name of the status that a call ends with."""
        try:
            await method(request, timeout=5, metadata=self._metadata if metadata is None else metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


@pytest.fixture
def call_supervisor() -> CallSupervisor:
    """`async with call_supervisor(running) as stub`, and `call_supervisor.code(stub.X, request)`."""
    return CallSupervisor()
