"""Two odds-services, two feeds: one acts, the other stands by and takes over. Real processes, real Postgres."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import bet_processes
import grpc
import in_process
import pytest
from bet_processes import BetProcess
from clocks import ManualClock
from cutting_proxy import CuttingProxy
from grpc_health.v1 import health_pb2, health_pb2_grpc

from betting.clients.odds_watch import watch
from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.odds.board import Board
from betting.odds.hub import Hub
from betting.odds.store import Store
from betting.odds.writer import Intervals, PriceWriter
from betting.runtime import logs
from betting.runtime.breaker import BreakerPolicy
from betting.runtime.client import Target
from betting.runtime.election import SILENT_AFTER_S, Election, Lease
from betting.runtime.errors import ServiceError, unavailable
from betting.runtime.principal import service_principal
from betting.v1 import event_pb2, odds_pb2, odds_pb2_grpc

pytestmark = pytest.mark.slow

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HOUR_US = 3_600_000_000
PATIENT = BreakerPolicy(calls_min=100_000)
# Nobody takes over from a silent process within the test: only a release or an own earlier life is taken.
NEVER = "3600"


@dataclass
class Book:
    """What a watcher knows."""

    prices: dict[int, int] = field(default_factory=dict)
    beats: int = 0

    def whole(self, prices: list[odds_pb2.MarketPrices]) -> None:
        self.prices = {each.market_id: each.prices[0].price.numerator for each in prices}

    def changed(self, prices: list[odds_pb2.MarketPrices]) -> None:
        self.prices |= {each.market_id: each.prices[0].price.numerator for each in prices}

    def beat(self, _at_us: int) -> None:
        self.beats += 1

    async def known(self) -> dict[int, int]:
        return self.prices

    async def beaten(self) -> int:
        return self.beats


class Pair:
    """Two odds-services, the lease they share, and their callers."""

    def __init__(self, dsn: str, ports: Callable[[], int], folder: Path) -> None:
        self._dsn = dsn
        self._folder = folder
        self.addresses = [f"127.0.0.1:{ports()}" for _ in range(2)]
        self.token = service_principal("feed-1", bytes.fromhex(in_process.SECRET), time.time_ns() // 1000)

    def process(self, number: int, **settings: str) -> BetProcess:
        name, address = f"odds-{number + 1}", self.addresses[number]
        environment = bet_processes.environment(name, address, self._dsn, "", "", **settings)
        return BetProcess(name, address, environment, self._folder / f"{name}.log", "betting.odds")

    async def lease(self, name: str = "odds-service") -> Any:
        connection = await asyncpg.connect(self._dsn)
        try:
            query = "SELECT term, split_part(process, '@', 1) AS holder, beat_at, now() - beat_at AS age "
            return await connection.fetchrow(query + "FROM odds.leases WHERE name = $1", name)
        finally:
            await connection.close()

    async def holder(self) -> str:
        return str((await self.lease())["holder"])

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def publish(self, address: str, price: int) -> None:
        """One market's price as a whole snapshot. Raises ServiceError."""
        async with in_process.calling(address, breaker=PATIENT) as target:
            await self.publish_to(target, price)

    async def publish_to(self, target: Target, price: int, timeout_s: float = 5.0) -> None:
        """The same on a connection that is there."""
        offer = odds_pb2.MarketPrices(
            market_id=11,
            event_id=1,
            status=event_pb2.MARKET_STATUS_OPEN,
            closes_at_us=time.time_ns() // 1000 + HOUR_US,
        )
        for selection_id in (1, 2):
            added = offer.prices.add(selection_id=selection_id)
            added.price.numerator, added.price.denominator = price, 100
        request = feed_pb2.PublishPricesRequest(
            producer_id="feed", producer_name="A feed", changes=[offer], snapshot=True
        )
        method = target.stub(feed_pb2_grpc.PriceFeedServiceStub).PublishPrices
        await target.call(method, request, idempotent=False, principal=self.token, timeout_s=timeout_s)

    async def history(self, address: str) -> list[int]:
        """The prices that the market ever had, newest first."""
        async with in_process.calling(address) as target:
            request = odds_pb2.ListPriceHistoryRequest(market_id=11, page_size=100)
            stub = target.stub(odds_pb2_grpc.OddsServiceStub)
            found = await target.call(stub.ListPriceHistory, request, idempotent=True)
        return [each.prices[0].price.numerator for each in found.prices]

    @asynccontextmanager
    async def watching(self, *addresses: str) -> AsyncIterator[Book]:
        """A watcher that knows both addresses, as a service's settings would name them, or these."""
        book = Book()
        async with in_process.service_context() as context:
            target = context.target("odds-service", ",".join(addresses or self.addresses))
            task = asyncio.ensure_future(
                watch(target, on_snapshot=book.whole, on_delta=book.changed, on_beat=book.beat)
            )
            try:
                yield book
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def health(address: str, name: str = "") -> int | None:
    """What a process says of itself; None: it does not answer."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=name)
            return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)).status)
        except grpc.aio.AioRpcError:
            return None


async def refused(call: Awaitable[None]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


@pytest.fixture
def pair(database: Any, unused_tcp_port_factory: Callable[[], int], tmp_path: Path) -> Pair:
    """Two instances on one database; not started yet."""
    return Pair(database.dsn, unused_tcp_port_factory, tmp_path)


@asynccontextmanager
async def standing(pair: Pair, eventually: Any, **settings: str) -> AsyncIterator[tuple[BetProcess, BetProcess]]:
    """The first one active, the second standing by."""
    first, second = pair.process(0, **settings), pair.process(1, **settings)
    async with bet_processes.running(first):
        second.start()
        try:
            await eventually(lambda: health(second.address, "betting.v1.OddsService"), lambda said: said == NOT_SERVING)
            yield first, second
        finally:
            if second._process is not None:
                second.kill()


async def test_the_second_stands_by_while_the_first_beats(pair: Pair, eventually: Any) -> None:
    """It takes nothing from the living: not at its start, nor later. It is alive, not ready, and refuses calls."""
    async with standing(pair, eventually) as (first, second), pair.watching() as book:
        before = await pair.lease()
        await pair.publish(first.address, 91)
        await eventually(pair.lease, lambda found: (found["beat_at"] - before["beat_at"]).total_seconds() > 4)
        assert (await pair.lease())["term"] == before["term"]
        assert await pair.holder() == "odds-1"
        assert [await health(second.address, name) for name in ("", "live")] == [NOT_SERVING, SERVING]
        assert [await health(first.address, name) for name in ("", "live")] == [SERVING, SERVING]
        failure = await refused(pair.publish(second.address, 95))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_ACTIVE")
        assert book.prices == {11: 91}


async def test_the_second_takes_over_from_the_killed(pair: Pair, eventually: Any) -> None:
    """Within seconds it has the prices and its watchers, and says SERVING."""
    async with standing(pair, eventually) as (first, second), pair.watching() as book:
        await pair.publish(first.address, 91)

        await eventually(book.beaten, lambda count: count > 0)
        killed_s = time.monotonic()
        first.kill()
        await second.ready()
        active_s = time.monotonic() - killed_s
        book.beats = 0
        await eventually(book.beaten, lambda count: count > 0)
        assert book.prices == {11: 91}
        await pair.publish(second.address, 97)
        assert await pair.history(second.address) == [97, 91]
        assert active_s < 2 * SILENT_AFTER_S + 3


async def test_the_frozen_one_wakes_up_and_cannot_write(pair: Pair, eventually: Any) -> None:
    """Also a publication that it took before it noticed: nothing of it is stored, and it stands by from then on."""
    async with standing(pair, eventually) as (first, second), pair.watching() as book:
        async with in_process.calling(first.address, breaker=PATIENT) as target:
            await pair.publish_to(target, 91)
            first.freeze()
            late = asyncio.ensure_future(refused(pair.publish_to(target, 13, timeout_s=60)))
            await second.ready()

            await pair.publish(second.address, 97)
            await eventually(book.known, lambda prices: prices == {11: 97})
            first.resume()
            assert (await late).reason == "NOT_ACTIVE"
        await eventually(lambda: health(first.address), lambda said: said == NOT_SERVING)
        assert await pair.history(second.address) == [97, 91]
        assert (await refused(pair.publish(first.address, 14))).reason == "NOT_ACTIVE"
        term = (await pair.lease())["term"]
        beat_at = (await pair.lease())["beat_at"]
        await eventually(pair.lease, lambda found: (found["beat_at"] - beat_at).total_seconds() > 4)
        assert ((await pair.lease())["term"], await pair.holder()) == (term, "odds-2")


async def test_a_watcher_connected_to_the_frozen_one_alone_finds_the_next(pair: Pair, eventually: Any) -> None:
    """It opens a new connection, long before keepalive ends the one it has (13 s); a balancer stands for DNS."""
    async with (
        standing(pair, eventually) as (first, second),
        CuttingProxy(f"//{first.address}") as balancer,
        pair.watching(balancer.address) as book,
    ):
        await pair.publish(first.address, 91)
        await eventually(book.known, lambda prices: prices == {11: 91})
        balancer.lead_to(f"//{second.address}")
        first.freeze()
        frozen_s = time.monotonic()
        await second.ready()
        await pair.publish(second.address, 97)
        await eventually(book.known, lambda prices: prices == {11: 97})
        assert time.monotonic() - frozen_s < 10
        first.resume()


async def test_stopping_in_order_hands_over_at_once(pair: Pair, eventually: Any) -> None:
    """SIGTERM gives the lease up: the second does not wait for silence."""
    async with standing(pair, eventually, takeover_after=NEVER) as (first, second), pair.watching() as book:
        await pair.publish(first.address, 91)
        stopping = asyncio.ensure_future(first.stop())
        await second.ready()
        await stopping
        await pair.publish(second.address, 97)
        await eventually(book.known, lambda prices: prices == {11: 97})


async def test_an_instance_that_is_started_again_does_not_wait(pair: Pair, eventually: Any) -> None:
    """Its own killed life is over, whoever started it has seen that: it is active as soon as it runs."""
    first = pair.process(0, takeover_after=NEVER)
    async with bet_processes.running(first):
        term = (await pair.lease())["term"]
        first.kill()
        first.start()
        await first.ready()
        assert (await pair.lease())["term"] == term + 1


async def test_time_in_which_nobody_could_beat_is_no_silence(pair: Pair, eventually: Any) -> None:
    """The database takes no writes for long, then both processes are stopped for long: the first stays active."""
    async with standing(pair, eventually) as (first, second):
        term = (await pair.lease())["term"]
        await pair.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            await pair.execute("SELECT pg_reload_conf()")
            await eventually(pair.lease, lambda found: found["age"].total_seconds() > 2 * SILENT_AFTER_S)
        finally:
            await pair.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await pair.execute("SELECT pg_reload_conf()")
        await eventually(pair.lease, lambda found: found["age"].total_seconds() < 1)
        assert ((await pair.lease())["term"], await pair.holder()) == (term, "odds-1")

        first.freeze()
        second.freeze()
        await eventually(pair.lease, lambda found: found["age"].total_seconds() > 2 * SILENT_AFTER_S)
        second.resume()
        first.resume()
        await eventually(pair.lease, lambda found: found["age"].total_seconds() < 1)
        beat_at = (await pair.lease())["beat_at"]
        await eventually(pair.lease, lambda found: (found["beat_at"] - beat_at).total_seconds() > 2)
        assert ((await pair.lease())["term"], await pair.holder()) == (term, "odds-1")


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@asynccontextmanager
async def lease_locked(dsn: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Statements on the lease of the name "test" wait for the end of the block; yields what waits until one does."""
    connection, other = await asyncpg.connect(dsn), await asyncpg.connect(dsn)

    async def until_one_waits() -> None:
        async with asyncio.timeout(20):
            while True:
                if await other.fetchval(WAITING):
                    return
                await asyncio.sleep(0.01)

    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM odds.leases FOR UPDATE")
            yield until_one_waits
    finally:
        await connection.close()
        await other.close()


async def test_who_stops_while_it_looks_does_not_keep_the_lease(pair: Pair, database: Any) -> None:
    """A standby is told to stop in the moment in which it takes the lease over: the next one need not wait."""
    async with asyncpg.create_pool(database.dsn, min_size=2, max_size=2) as pool:
        await pair.execute("INSERT INTO odds.leases VALUES (1, '', now(), 'test')")
        election = Election(Lease(pool, "test", "standby@1"), logs.get("test"))
        async with lease_locked(database.dsn) as until_one_waits:
            looking = asyncio.ensure_future(election.look())
            await until_one_waits()
            resigning = asyncio.ensure_future(election.resign())
            await asyncio.sleep(0)
        await asyncio.gather(looking, resigning)
    assert not election.is_active
    assert not election.activity.active
    assert (await pair.lease("test"))["holder"] == ""


async def test_a_beat_from_before_a_pause_is_told_to_nobody(database: Any) -> None:
    """The database's answer waited while the process was stopped, for longer than others wait before they take over."""
    clock, hub = ManualClock(1_800_000_000_000_000), Hub("boot")
    async with asyncpg.create_pool(database.dsn, min_size=2, max_size=2) as pool:
        lease = Lease(pool, "odds-service", "odds-1@1")
        intervals = Intervals(tick_s=0.2, beat_s=30.0, history_s=0.0)
        writer = PriceWriter(Store(pool), lease, Board(20_000_000), hub, clock, logs.get("test"), intervals)
        await writer.start()
        task = asyncio.current_task()
        assert task is not None
        watcher = hub.join(frozenset(), [], task)
        await writer.beat()
        assert watcher.queued == 1
        await watcher.next()
        async with lease_locked(database.dsn) as until_one_waits:
            beating = asyncio.ensure_future(writer.beat())
            await until_one_waits()
            clock.time_us += 3_000_000
        await beating
        assert watcher.queued == 0


async def test_who_cannot_load_the_prices_is_not_ready_and_replaces_nobody(pair: Pair, eventually: Any) -> None:
    """As a version that does not fit the database: not even the killed. Once it can, it is ready, and takes over."""
    first, second = pair.process(0), pair.process(1)
    async with bet_processes.running(first):
        assert await health(first.address, "ready") == SERVING
        await pair.execute("ALTER TABLE odds.current RENAME TO elsewhere")
        second.start()
        try:
            await eventually(lambda: health(second.address, "betting.v1.OddsService"), lambda said: said == NOT_SERVING)
            first.kill()
            await eventually(pair.lease, lambda found: found["age"].total_seconds() > 2 * SILENT_AFTER_S + 1)
            assert await pair.holder() == "odds-1"
            assert [await health(second.address, name) for name in ("", "ready", "live")] == [
                NOT_SERVING,
                NOT_SERVING,
                SERVING,
            ]
            await pair.execute("ALTER TABLE odds.elsewhere RENAME TO current")
            await second.ready()
            assert await pair.holder() == "odds-2"
            assert await health(second.address, "ready") == SERVING
        finally:
            second.kill()


async def test_a_standby_that_has_loaded_the_prices_is_ready(pair: Pair, eventually: Any) -> None:
    """It serves nobody yet, and a roll may go on."""
    async with standing(pair, eventually) as (_first, second):
        await eventually(lambda: health(second.address, "ready"), lambda said: said == SERVING)
        assert await health(second.address) == NOT_SERVING


async def test_an_election_waits_for_what_the_work_starts_from(database: Any) -> None:
    """A lease that nobody holds is not taken before it could be read; how often that failed does not matter."""
    read = False

    async def rehearse() -> None:
        if not read:
            raise unavailable("POSTGRES_ERROR", "not there")

    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=1) as pool:
        election = Election(Lease(pool, "test", "a@1"), logs.get("test"), rehearse=rehearse)
        for _ in range(3):
            await election.look()
        assert not election.is_active
        assert not election.able.active
        read = True
        await election.look()
        assert election.is_active
        assert election.able.active
