"""health-monitor among real services, dead ones and frozen ones."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import in_process
import prometheus_client
import pytest

from betting.bets.main import compose as compose_bets
from betting.bets.settings import BetSettings
from betting.embedded.postgres import PostgresServer
from betting.health.main import compose
from betting.health.monitor import Monitor, Producers
from betting.health.observations import MonitoredInstance
from betting.health.probing import Prober, Resolver
from betting.health.settings import HealthSettings
from betting.health.store import PlatformStore
from betting.journal import healing_switch, redis_record
from betting.journal.migrate import migrate
from betting.runtime.client import Target
from betting.runtime.clock import SystemClock
from betting.runtime.errors import ServiceError
from betting.runtime.names import AddressInfo
from betting.runtime.outcomes import PeerRecords
from betting.runtime.principal import Role
from betting.runtime.service import Composition, ServiceContext
from betting.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.SERVICE_STATE_SERVING
UNREACHABLE = health_pb2.SERVICE_STATE_UNREACHABLE
OPERATOR = in_process.user_token(uuid.uuid4().bytes, role=Role.OPERATOR)
POLL_S = 0.05

Status = health_pb2.GetPlatformStatusResponse


class Health:
    """Asks a health-monitor."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stub = target.stub(health_pb2_grpc.HealthMonitorServiceStub)

    async def status(self, principal: bytes | None = OPERATOR) -> Status:
        """The platform's status."""
        request = health_pb2.GetPlatformStatusRequest()
        return await self._target.call(self._stub.GetPlatformStatus, request, idempotent=True, principal=principal)

    async def until(self, true: Callable[[Status], bool], timeout_s: float = 15) -> Status:
        """Asks again until a status is as expected."""
        status = await self.status()
        try:
            async with asyncio.timeout(timeout_s):
                while not true(status):
                    await asyncio.sleep(POLL_S)
                    status = await self.status()
        except TimeoutError:
            pytest.fail(f"this status was not the expected one: {status}")
        return status


Start = Callable[..., AbstractAsyncContextManager[Health]]


@pytest.fixture
def start() -> Start:
    """Starts a health-monitor that looks twenty times a second."""

    @asynccontextmanager
    async def started(**overrides: Any) -> AsyncIterator[Health]:
        defaults = {"instance": "health-monitor", "poll_interval": POLL_S, "probe_timeout": 0.3}
        settings = in_process.settings(HealthSettings, **(defaults | overrides))
        async with (
            in_process.running(compose, settings, service="health-monitor") as address,
            in_process.calling(address) as target,
        ):
            yield Health(target)

    return started


async def compose_nothing(_context: ServiceContext[Any]) -> Composition:
    """A service with no methods of its own: health and diagnostics come with the runtime."""
    return Composition(servicers=[])


def state_of(status: Status, service: str) -> int:
    """The state of the only instance of a service."""
    (instance,) = [instance for instance in status.instances if instance.workload == service]
    return int(instance.state)


async def test_live_and_dead_services_are_told_apart(start: Start, database: Any, unused_tcp_port: int) -> None:
    """One answers with boot id and memory, one is refused; the call itself succeeds."""
    other = in_process.settings(instance="wallet-1")
    async with in_process.running(compose_nothing, other, service="wallet-service") as wallet:
        peers = {"wallet_service": wallet, "user_service": f"127.0.0.1:{unused_tcp_port}"}
        async with start(postgres_dsn=database.dsn, **peers) as health:
            status = await health.until(lambda status: "directory" not in status.unknown)
    live = next(instance for instance in status.instances if instance.workload == "wallet-service")
    assert (live.state, live.instance, live.address) == (SERVING, "wallet-1", wallet)
    assert live.resident_bytes > 1_000_000
    assert len(live.boot_id) == 16
    assert state_of(status, "user-service") == UNREACHABLE


async def test_a_service_that_dies_and_returns_is_followed(start: Start, database: Any, unused_tcp_port: int) -> None:
    """Serving, unreachable but still named, serving with another boot id."""
    address = f"127.0.0.1:{unused_tcp_port}"
    settings = in_process.settings(instance="wallet-1", grpc_address=address)
    async with start(postgres_dsn=database.dsn, wallet_service=address) as health:
        async with in_process.running(compose_nothing, settings, service="wallet-service"):
            before = await health.until(lambda status: state_of(status, "wallet-service") == SERVING)
        gone = await health.until(lambda status: state_of(status, "wallet-service") == UNREACHABLE)
        assert gone.instances[0].boot_id == before.instances[0].boot_id
        assert gone.instances[0].resident_bytes == 0
        async with in_process.running(compose_nothing, settings, service="wallet-service"):
            after = await health.until(lambda status: state_of(status, "wallet-service") == SERVING)
        assert after.instances[0].boot_id != before.instances[0].boot_id


async def test_the_healers_alerts_are_shown_as_long_as_they_stand_without_postgres(
    start: Start, unused_tcp_port: int
) -> None:
    """Over the wire, from the process itself: Postgres may be what a full disk has taken."""
    healers: list[ServiceContext[Any]] = []

    async def compose_healer(context: ServiceContext[Any]) -> Composition:
        healers.append(context)
        return Composition(servicers=[])

    nowhere = f"postgresql://betting@127.0.0.1:{unused_tcp_port}/betting"
    settings = in_process.settings(instance="healer")
    async with (
        in_process.running(compose_healer, settings, service="healer") as address,
        start(postgres_dsn=nowhere, monitored=f"healer={address}") as health,
    ):
        await health.until(lambda status: state_of(status, "healer") == SERVING)
        [healer] = healers
        healer.alerts = ("disk-full: disk: the disk is nearly full (1 MiB free)",)
        status = await health.until(lambda status: list(status.attention) == list(healer.alerts))
        assert "directory" in status.unknown
        healer.alerts = ()
        await health.until(lambda status: not status.attention)


class Names:
    """A resolver of names, as a hosts file; a name without an address cannot be resolved."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = hosts

    async def getaddrinfo(self, host: str, port: int) -> list[AddressInfo]:
        """As socket.getaddrinfo answers."""
        found = self.hosts.get(host, [])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[ip_address(each).version], socket.SOCK_STREAM, 6, "", (each, port)) for each in found]


@asynccontextmanager
async def looking(
    names: Names, *watched: MonitoredInstance, peers: PeerRecords | None = None
) -> AsyncIterator[Monitor]:
    """A monitor without Postgres that looks when it is told to."""

    async def no_pool() -> asyncpg.Pool:
        raise AssertionError("not asked")

    prober = Prober(2.0, lambda: OPERATOR, peers or PeerRecords())
    store = PlatformStore(no_pool, interval_s=60, recount_interval_s=60)
    resolver = Resolver(2.0, names.getaddrinfo)
    try:
        yield Monitor(
            watched, prober, resolver, store, Producers(None, 1.0), interval_s=60, now_us=SystemClock().now_us
        )
    finally:
        await prober.close()


def shown(status: Status) -> dict[str, tuple[str, int]]:
    """Instance and state, by address."""
    return {each.address: (each.instance, int(each.state)) for each in status.instances}


async def test_whom_it_asks_in_vain_it_reports_as_silent_also_after_that_one_left_dns(unused_tcp_port: int) -> None:
    """An instance that hangs leaves DNS as soon as it is not ready: the healer needs the word on it a little longer."""
    address = f"127.0.0.1:{unused_tcp_port}"
    names, peers = Names(wallets=["127.0.0.1"]), PeerRecords()
    settings = in_process.settings(instance="wallet-1", grpc_address=address)
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(
            looking(names, MonitoredInstance("wallet-service", f"wallets:{unused_tcp_port}"), peers=peers)
        )
        async with in_process.running(compose_nothing, settings, service="wallet-service"):
            await monitor.look()
            [answered] = peers.statistics(time.monotonic())
            assert (answered.unanswered, answered.life and answered.life.instance) == (0, "wallet-1")
        for _probe in range(2):
            await monitor.look()
        names.hosts["wallets"] = ["127.0.0.9"]
        await monitor.look()
        told = [each for each in peers.statistics(time.monotonic()) if each.life == answered.life]
        assert [each.unanswered for each in told] == [2]


async def test_every_instance_behind_a_name_is_asked(unused_tcp_port: int) -> None:
    """A headless Service of two: both are shown, as they come, go and change their addresses."""
    one, two, three = (f"127.0.0.{host}:{unused_tcp_port}" for host in (1, 2, 3))
    names = Names(wallets=["127.0.0.1", "127.0.0.2"])

    def wallet(instance: str, address: str) -> AbstractAsyncContextManager[str]:
        settings = in_process.settings(instance=instance, grpc_address=address)
        return in_process.running(compose_nothing, settings, service="wallet-service")

    watched = MonitoredInstance("wallet-service", f"wallets:{unused_tcp_port}")
    async with looking(names, watched) as monitor, wallet("wallet-1", one):
        async with wallet("wallet-2", two):
            await monitor.look()
            assert shown(monitor.status()) == {one: ("wallet-1", SERVING), two: ("wallet-2", SERVING)}
        await monitor.look()
        assert shown(monitor.status()) == {one: ("wallet-1", SERVING), two: ("wallet-2", UNREACHABLE)}
        names.hosts["wallets"] = []  # the resolver is down: what it said last
        await monitor.look()
        assert shown(monitor.status()) == {one: ("wallet-1", SERVING), two: ("wallet-2", UNREACHABLE)}
        async with wallet("wallet-3", three):
            names.hosts["wallets"] = ["127.0.0.1", "127.0.0.3", "::1"]
            await monitor.look()
            assert shown(monitor.status()) == {one: ("wallet-1", SERVING), three: ("wallet-3", SERVING)}


async def test_one_life_that_is_reached_in_several_ways_is_shown_once(unused_tcp_port: int) -> None:
    """By a name, by its address, and at an address where something else used to be."""
    settings = in_process.settings(instance="wallet-1", grpc_address=f"0.0.0.0:{unused_tcp_port}")
    names = Names(wallets=["127.0.0.1", "127.0.0.2"])
    addresses = (f"wallets:{unused_tcp_port}", f"127.0.0.1:{unused_tcp_port}")
    async with (
        in_process.running(compose_nothing, settings, service="wallet-service"),
        looking(names, *(MonitoredInstance("wallet-service", each) for each in addresses)) as monitor,
    ):
        await monitor.look()
        assert [each.instance for each in monitor.status().instances] == ["wallet-1"]


async def test_an_address_that_only_grpc_understands_is_asked_as_it_is(unused_tcp_port: int) -> None:
    """As is a name that nobody can resolve: it is shown as it was given."""
    settings = in_process.settings(instance="wallet-1", grpc_address=f"127.0.0.1:{unused_tcp_port}")
    target, nowhere = f"ipv4:127.0.0.1:{unused_tcp_port}", f"nowhere.invalid:{unused_tcp_port}"
    async with (
        in_process.running(compose_nothing, settings, service="wallet-service"),
        looking(Names(), MonitoredInstance("wallet-service", target), MonitoredInstance("x", nowhere)) as monitor,
    ):
        for _ in range(2):
            await monitor.look()
        assert shown(monitor.status()) == {target: ("wallet-1", SERVING), nowhere: ("", UNREACHABLE)}


async def test_a_service_that_accepts_and_never_answers_is_unreachable(start: Start, database: Any) -> None:
    """As a frozen process is: the kernel accepts for it; nobody waits longer than the probe's timeout."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        port = frozen.getsockname()[1]
        async with start(postgres_dsn=database.dsn, event_service=f"127.0.0.1:{port}") as health:
            await health.until(lambda status: state_of(status, "event-service") == UNREACHABLE)


async def test_only_operators_and_services_may_look(start: Start, database: Any) -> None:
    """A bettor and nobody are refused."""
    async with start(postgres_dsn=database.dsn) as health:
        for token, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            (in_process.user_token(uuid.uuid4().bytes), grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(ServiceError) as refused:
                await health.status(token)
            assert refused.value.code == code


@pytest.fixture
def own_postgres(tmp_path: Path, unused_tcp_port: int) -> Iterator[PostgresServer]:
    """A migrated Postgres that this test may kill; not running yet."""
    server = PostgresServer(tmp_path / "pg", unused_tcp_port, durable=False)
    server.start()
    migrate(server.spec.dsn("postgres"))
    server.stop()
    yield server
    server.stop()


async def test_without_postgres_it_starts_and_says_so(start: Start, own_postgres: PostgresServer) -> None:
    """The directory is unknown until Postgres comes, and again whenever it is gone; the call never fails."""
    async with start(postgres_dsn=own_postgres.spec.dsn("postgres")) as health:
        assert {"directory", "bets_accepted_total"} <= set((await health.status()).unknown)
        await asyncio.to_thread(own_postgres.start)
        await health.until(lambda status: "directory" not in status.unknown)
        await asyncio.to_thread(own_postgres.kill)
        await health.until(lambda status: "directory" in status.unknown)
        await asyncio.to_thread(own_postgres.start)
        await health.until(lambda status: "directory" not in status.unknown)


async def test_shards_are_shown_with_their_owners_figures(
    start: Start, database: Any, valkey: Any, unused_tcp_port: int
) -> None:
    """A real bet-service claims the shards; when it stops, they are free and nobody tells of them."""
    settings = in_process.settings(
        BetSettings,
        instance="bet-service-1",
        grpc_address=f"127.0.0.1:{unused_tcp_port}",
        postgres_dsn=database.dsn,
        redis_url=valkey.url,
        shard_count=4,
    )
    in_process.install(database.dsn, 4)
    async with start(postgres_dsn=database.dsn) as health:
        async with in_process.running(compose_bets, settings, service="bet-service"):
            owned = await health.until(
                lambda status: len(status.shards) == 4 and all(shard.reported for shard in status.shards), 30
            )
            (instance,) = owned.instances
            assert (instance.workload, instance.instance, instance.state) == ("bet-service", "bet-service-1", SERVING)
            assert {shard.owner for shard in owned.shards} == {f"bet-service-1@{instance.boot_id}"}
            assert {shard.state for shard in owned.shards} == {"owned"}
            assert [shard.shard_id for shard in owned.shards] == [0, 1, 2, 3]
        freed = await health.until(lambda status: not any(shard.reported for shard in status.shards))
        assert len(freed.shards) == 4


async def test_who_is_redis_primary_is_shown(start: Start, database: Any) -> None:
    """As recorded; nobody, before the first start of a platform with a Redis of its own."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with start(postgres_dsn=database.dsn) as health:
            status = await health.until(lambda status: "directory" not in status.unknown)
            assert status.redis.primary == ""
            await redis_record.begin(connection, "valkey-2", "5e5e5e5e5e5e5e5e")
            status = await health.until(lambda status: status.redis.primary == "valkey-2")
            assert (status.redis.epoch, status.redis.phase, status.redis.candidate) == (1, "steady", "")
    finally:
        await connection.close()


async def test_a_pause_of_healing_is_shown_with_its_reason_and_since_when(start: Start, database: Any) -> None:
    """A pause that is given another reason is the same pause; without a healer that is said too."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with start(postgres_dsn=database.dsn) as health:

            def modes(status: Any) -> dict[str, tuple[str, bool]]:
                return {each.mode: (each.reason, each.since_us > 0) for each in status.healing_modes}

            absent = ("no healer has ever beaten", False)
            await healing_switch.pause(connection, "network work")
            paused = await health.until(lambda status: modes(status).get("paused") == ("network work", True))
            assert modes(paused) == {"paused": ("network work", True), "absent": absent}
            await healing_switch.pause(connection, "more of it")
            await healing_switch.set_dry_run(connection, True)
            later = await health.until(lambda status: modes(status).get("paused") == ("more of it", True))
            assert later.healing_modes[0].since_us == paused.healing_modes[0].since_us
            await health.until(lambda status: modes(status).get("dry-run") == ("nothing is done", True))
            await healing_switch.resume(connection)
            await healing_switch.set_dry_run(connection, False)
            await health.until(lambda status: modes(status) == {"absent": absent})
    finally:
        await healing_switch.resume(connection)
        await healing_switch.set_dry_run(connection, False)
        await connection.close()


async def test_what_waits_for_a_person_is_shown(start: Start, database: Any) -> None:
    """Matches that the season replay cannot finish, until they are finished."""
    async with start(postgres_dsn=database.dsn) as health:
        connection = await asyncpg.connect(database.dsn)
        try:
            await connection.execute("INSERT INTO odds.replays VALUES ('E0-2024-25', 0, 0, 1000, 1)")
            query = (
                "INSERT INTO odds.replay_matches (replay, event_id, stage, attention) VALUES ('E0-2024-25', $1, 1, $2)"
            )
            await connection.executemany(query, [(1, ""), (2, "A v B was offered and is gone")])
            status = await health.until(lambda status: len(status.attention) > 0)
            assert list(status.attention) == ["A v B was offered and is gone"]
            await connection.execute("UPDATE odds.replay_matches SET attention = ''")
            await health.until(lambda status: not status.attention)
        finally:
            await connection.close()


async def test_metrics_follow_the_status(start: Start, database: Any, unused_tcp_port: int) -> None:
    """The registry serves what the call says, and forgets it when the monitor stops."""
    async with start(postgres_dsn=database.dsn, user_service=f"127.0.0.1:{unused_tcp_port}") as health:
        await health.until(lambda status: state_of(status, "user-service") == UNREACHABLE)
        text = prometheus_client.generate_latest().decode()
        assert 'betting_platform_instance_serving{watched_instance="127.0.0.1:' in text
        assert "betting_platform_bets_accepted 0.0" in text
    assert "betting_platform" not in prometheus_client.generate_latest().decode()
