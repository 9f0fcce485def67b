"""Brings the whole embedded platform up on a data folder, and down again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import psycopg

from betting.embedded import ports_plan, postgres, season_choice
from betting.embedded.folder import DataFolder
from betting.embedded.ports import HOST, require_free
from betting.embedded.redis_keeper import RedisKeeper
from betting.embedded.topology import ENTRY_POINTS, HEALER, SERVICES, SHARD_COUNT, Service, Topology
from betting.journal import connection, install, migrate, schema
from betting.runtime.settings import unknown_variables
from betting.supervision import control, leftovers
from betting.supervision.errors import PlatformError, SettingsRefused
from betting.supervision.supervisor import Progress, Supervisor

_DATABASE_ERRORS = (
    psycopg.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
    migrate.MigrationFailed,
    install.AlreadyInstalled,
)


@dataclass(frozen=True)
class Options:
    """How to run. season, speed (season seconds per real second): None is what the folder plays.

    shard_count: of a new installation. inject: breaks a process on request (fault, process, seconds; 0: for good);
    raises PlatformError. None: refused.
    trust_goals: whether goals of the season file count that other cells of their line contradict.
    """

    folder: DataFolder
    free_ports: bool = False
    season: str | None = None
    speed: float | None = None
    trust_goals: bool = False
    services: tuple[Service, ...] = SERVICES
    extra: dict[str, str] = field(default_factory=dict)
    healer_host: str = HOST
    shard_count: int = SHARD_COUNT
    inject: Callable[[Platform, str, str, float], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Platform:
    """A running platform: its options, topology and supervisor, valid inside of `running`."""

    topology: Topology
    supervisor: Supervisor


@asynccontextmanager
async def running(options: Options, progress: Progress, note: Callable[[str], None]) -> AsyncIterator[Platform]:
    """The platform, from ready to stopped. `progress` hears what became ready, `note` what else is worth saying.

    Raises PlatformError with one clear line when it cannot run here.
    """
    unknown = unknown_variables(os.environ)
    if unknown:
        raise SettingsRefused(f"{'; '.join(unknown)}.")
    folder = options.folder
    folder.prepare()
    instances = [name for each in options.services for name in each.instance_names()]
    with (
        folder.locked(),
        ports_plan.held(instances) if options.free_ports else nullcontext(ports_plan.fixed(instances)) as ports,
    ):
        folder.require_space()
        folder.make_secrets()
        ended = await asyncio.to_thread(leftovers.end, folder.path)
        if ended:
            note(f"ended what an earlier run had left over: {', '.join(ended)}")
        topology = _topology(options, ports, note)
        supervisor = Supervisor(folder.state, dict(topology.ports), note)
        try:
            secret = bytes.fromhex(folder.internal_secret())
            keeper = RedisKeeper(topology, supervisor, note)
            platform = Platform(topology, supervisor)
            inject = None if options.inject is None else partial(options.inject, platform)
            async with control.serving(supervisor, topology.supervisor_address(), secret, inject):
                await _start(topology, supervisor, keeper, progress)
                for name in topology.overridden(os.environ):
                    note(f"{name} in your environment is not used: the embedded platform sets it itself")
                keeping = asyncio.create_task(keeper.run(), name="keep Redis")
                try:
                    yield platform
                finally:
                    keeping.cancel()
                    await asyncio.wait([keeping])
        finally:
            await _stop(topology, supervisor)


async def _start(topology: Topology, supervisor: Supervisor, keeper: RedisKeeper, progress: Progress) -> None:
    await supervisor.start(topology.databases(), progress)
    began_s = time.monotonic()
    await _prepare_database(topology.postgres, topology.shard_count)
    progress("migrations", time.monotonic() - began_s)
    await keeper.begin()
    await supervisor.start(topology.service_processes(), progress)


async def _stop(topology: Topology, supervisor: Supervisor) -> None:
    """Stops the healer first, which would restart the others, then gateways, services side by side, and databases."""
    started = {each.name for each in supervisor.processes}
    services = {name for each in topology.services for name in each.instance_names()}
    await supervisor.stop(started & {HEALER, *ENTRY_POINTS})
    await supervisor.stop(started & services)
    await supervisor.stop()


def _topology(options: Options, ports: Mapping[str, int], note: Callable[[str], None]) -> Topology:
    for name, port in ports.items():
        require_free(port, name)
    season = season_choice.choose(
        options.folder.season_choice, options.season, options.speed, trust_goals=options.trust_goals
    )
    season_choice.record(options.folder.season_choice, season)
    for line in season.odd:
        note(line)
    return Topology(
        options.folder,
        ports,
        options.services,
        {**season.settings(), **options.extra},
        options.healer_host,
        options.shard_count,
    )


async def _prepare_database(spec: postgres.PostgresSpec, shard_count: int) -> None:
    """Database, tables, shards: whatever of them is not there yet."""
    try:
        await asyncio.to_thread(_migrate, spec)
        database = await connection.connect(spec.dsn(), "betting-up")
        try:
            await install.initialise(database, shard_count)
        finally:
            await database.close()
    except schema.UnknownSchema as error:
        raise PlatformError(f"The data in {spec.folder.parent} cannot be used: {error}.") from error
    except _DATABASE_ERRORS as error:
        raise PlatformError(f"The database could not be prepared: {str(error).splitlines()[0]}") from error


def _migrate(spec: postgres.PostgresSpec) -> None:
    postgres.ensure_database(spec)
    migrate.migrate(spec.dsn())
