"""notification-service on a real journal, Redis and gRPC: each cause once, and nobody sees another's."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import in_process
import pytest
import redis.asyncio
from bet_processes import BetProcess, environment, running
from scribe import OWNER, Scribe, own

from betting.engine.outcomes import Outcome
from betting.journal import consumers, install
from betting.journal.connection import connect, prepare
from betting.journal.consumers import ClaimLost, Claims
from betting.journal.projector import project
from betting.notifications.causes import Notice
from betting.notifications.janitor import Janitor
from betting.notifications.main import CONSUMER, compose
from betting.notifications.store import Store
from betting.runtime.clock import now_us
from betting.runtime.errors import ServiceError
from betting.runtime.redis import open_client
from betting.streams.outbox import Outbox
from betting.v1 import notification_pb2 as pb
from betting.v1 import notification_pb2_grpc

pytestmark = pytest.mark.slow

SHARDS = 2
WON = {1: int(Outcome.WON), 2: int(Outcome.LOST)}
ANN, BOB = bytes([1]) * 16, bytes([2]) * 16
WAIT_S = 20.0
HOLDERS = "SELECT count(DISTINCT claimed_by) FROM betting.consumer_positions WHERE consumer = 'notifications'"


class World:
    """A shard whose entries a scribe writes, published and projected as an owner would."""

    def __init__(self, connection: asyncpg.Connection, outbox: Outbox) -> None:
        self.connection = connection
        self.outbox = outbox
        self.scribe = Scribe(0, now_us())

    async def commit(self) -> None:
        """Journal, streams, read models."""
        self.outbox.committed(0, await self.scribe.commit(self.connection))
        await project(self.connection, 0)

    async def a_season(self) -> None:
        """Ann pays in, wins one bet and loses another; Bob pays in."""
        self.scribe.deposit(ANN, 10_000)
        self.scribe.deposit(BOB, 500)
        self.scribe.place(ANN, 100, [(1, 1)])
        self.scribe.place(ANN, 200, [(1, 2)])
        self.scribe.result(1, 1, WON)
        self.scribe.settle_open(1, 1)
        await self.commit()


class Reader:
    """One user's view of the service."""

    def __init__(self, target: Any, user: bytes) -> None:
        self._target = target
        self._stub = target.stub(notification_pb2_grpc.NotificationServiceStub)
        self._principal = in_process.user_token(user)

    async def call(self, name: str, request: Any) -> Any:
        """Any method."""
        method = getattr(self._stub, name)
        return await self._target.call(method, request, idempotent=False, principal=self._principal, timeout_s=10)

    async def listed(self, **fields: Any) -> pb.ListNotificationsResponse:
        """A page."""
        reply: pb.ListNotificationsResponse = await self.call(
            "ListNotifications", pb.ListNotificationsRequest(**fields)
        )
        return reply

    async def until(self, count: int) -> list[pb.Notification]:
        """All of them, once there are so many."""
        async with asyncio.timeout(WAIT_S):
            while len(found := (await self.listed(page_size=500)).notifications) < count:  # noqa: ASYNC110 - others write
                await asyncio.sleep(0.05)
        return list(found)


@pytest.fixture
async def world(database: Any, valkey: Any) -> AsyncIterator[World]:
    """An empty journal with its outbox running."""
    connection = await connect(database.dsn, OWNER)
    await install.initialise(connection, SHARDS)
    await own(connection, range(SHARDS))
    client = open_client(valkey.url, "test")
    async with asyncpg.create_pool(database.dsn, init=prepare, min_size=1, max_size=2) as pool:
        outbox = Outbox(client, pool)
        outbox.follow(0, 0)
        publishing = asyncio.create_task(outbox.run())
        yield World(connection, outbox)
        while not publishing.done():  # the Redis client can lose a cancellation
            publishing.cancel()
            await asyncio.wait([publishing], timeout=0.2)
    await client.aclose()
    await connection.close()


@pytest.fixture
async def service(world: World, database: Any, valkey: Any) -> AsyncIterator[Callable[[bytes], Reader]]:
    """The service in this process; a reader for any user."""
    settings = in_process.settings(
        instance="notification-service", postgres_dsn=database.dsn, redis_url=valkey.url, shard_count=SHARDS
    )
    async with (
        in_process.running(compose, settings, service="notification-service") as address,
        in_process.calling(address) as target,
    ):
        yield lambda user: Reader(target, user)


async def test_a_user_reads_what_happened_newest_first(world: World, service: Any) -> None:
    """Paid in, won, lost: each with its amounts and a sentence; the bets by their ids."""
    await world.a_season()
    notifications = await service(ANN).until(3)
    assert {n.kind for n in notifications[:2]} == {pb.NOTIFICATION_KIND_BET_WON, pb.NOTIFICATION_KIND_BET_LOST}
    assert notifications[2].text == "You paid in 100.00 GBP."
    won = next(n for n in notifications if n.kind == pb.NOTIFICATION_KIND_BET_WON)
    assert (won.stake_minor, won.amount_minor, won.currency, won.read) == (100, 200, "GBP", False)
    assert uuid.UUID(won.bet_id)
    assert [n.notification_id for n in notifications] == sorted(
        (n.notification_id for n in notifications), reverse=True
    )


async def test_read_and_unread(world: World, service: Any) -> None:
    """By id, and everything up to one; repeating it changes nothing."""
    await world.a_season()
    ann = service(ANN)
    first, *rest = await ann.until(3)
    assert (await ann.call("GetUnreadCount", pb.GetUnreadCountRequest())).unread == 3
    mark = pb.MarkReadRequest(notification_ids=[first.notification_id])
    assert (await ann.call("MarkRead", mark)).marked == 1
    assert (await ann.call("MarkRead", mark)).marked == 0
    assert [n.notification_id for n in (await ann.listed(unread_only=True)).notifications] == [
        n.notification_id for n in rest
    ]
    assert (await ann.call("MarkRead", pb.MarkReadRequest(up_to_id=first.notification_id))).marked == 2
    assert (await ann.call("GetUnreadCount", pb.GetUnreadCountRequest())).unread == 0


async def test_nobody_sees_reads_or_deletes_anothers(world: World, service: Any) -> None:
    """Ids are taken, and change nothing that is not one's own."""
    await world.a_season()
    ann, bob = service(ANN), service(BOB)
    hers = [n.notification_id for n in await ann.until(3)]
    assert [n.text for n in await bob.until(1)] == ["You paid in 5.00 GBP."]
    assert (await bob.call("MarkRead", pb.MarkReadRequest(notification_ids=hers))).marked == 0
    assert (await bob.call("DeleteNotifications", pb.DeleteNotificationsRequest(notification_ids=hers))).deleted == 0
    assert len((await ann.listed()).notifications) == 3
    assert (await service(bytes(16)).listed()).notifications == []
    gone = pb.DeleteNotificationsRequest(notification_ids=hers[:2])
    assert (await ann.call("DeleteNotifications", gone)).deleted == 2
    assert (await ann.call("DeleteNotifications", gone)).deleted == 0
    assert [n.notification_id for n in (await ann.listed()).notifications] == hers[2:]


async def test_pages_neither_skip_nor_repeat_while_new_ones_arrive(world: World, service: Any) -> None:
    """The token is a place in the journal."""
    for _ in range(7):
        world.scribe.deposit(ANN, 1)
    await world.commit()
    ann = service(ANN)
    everything = [n.notification_id for n in await ann.until(7)]
    seen, token = [], ""
    while True:
        page = await ann.listed(page_size=3, page_token=token)
        seen += [n.notification_id for n in page.notifications]
        token = page.next_page_token
        if not token:
            break
        world.scribe.deposit(ANN, 1)
        await world.commit()
    assert seen == everything


async def test_each_cause_is_told_once_whatever_is_lost(world: World, service: Any, valkey: Any) -> None:
    """Redis wiped in between, and the consumer's position set back as a crash would."""
    await world.a_season()
    ann = service(ANN)
    before = await ann.until(3)
    await ann.call("MarkRead", pb.MarkReadRequest(up_to_id=before[0].notification_id))
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.flushall()
    world.scribe.withdraw(ANN, 50)
    await world.commit()
    after = await ann.until(4)
    assert after[0].text == "You withdrew 0.50 GBP."
    assert [n.read for n in after] == [False, True, True, True]
    assert [n.notification_id for n in after[1:]] == [n.notification_id for n in before]


async def test_kill_9_in_the_middle_loses_and_repeats_nothing(
    world: World, database: Any, valkey: Any, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """The service as a process, killed again and again while entries come: in the end each cause is there once."""
    address = f"127.0.0.1:{unused_tcp_port_factory()}"
    settings = environment("notification-service", address, database.dsn, valkey.url, "", shard_count=str(SHARDS))
    committed = 0
    for _turn in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "betting.notifications", env=settings, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            target = committed + 200
            while committed < target:
                for _ in range(20):
                    world.scribe.deposit(ANN, 1)
                await world.commit()
                committed += 20
            await _until_told(world, committed - 150)
        finally:
            process.kill()
            await process.wait()
    settled = in_process.settings(
        instance="notification-service", postgres_dsn=database.dsn, redis_url=valkey.url, shard_count=SHARDS
    )
    async with in_process.running(compose, settled, service="notification-service"):
        await _until_told(world, committed)
    told = await world.connection.fetchval("SELECT count(*) FROM betting.notifications")
    causes = await world.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = 2")
    assert told == causes == committed


async def _until_told(world: World, count: int) -> None:
    async with asyncio.timeout(30):
        count_told = "SELECT count(*) FROM betting.notifications"
        while await world.connection.fetchval(count_told) < count:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.02)


async def test_an_entry_that_cannot_be_read_costs_its_own_notification_only(world: World, service: Any) -> None:
    """A body that is not of its kind: said in the log, counted, and the next ones are told."""
    await world.a_season()
    ann = service(ANN)
    await ann.until(3)
    last = world.scribe.state.head
    await world.connection.execute(
        "INSERT INTO betting.journal SELECT shard, $1, 2, 1, at_us, account, bet, NULL, market, 0, 0, 0, 0, 0, '\\x00' "
        "FROM betting.journal WHERE shard = 0 AND sequence = $2",
        last + 1,
        last,
    )
    world.scribe.state.head = last + 1
    world.scribe.withdraw(ANN, 50)
    entries = await world.scribe.commit(world.connection)
    world.outbox.committed(0, entries)
    assert (await ann.until(4))[0].text == "You withdrew 0.50 GBP."


async def holding(pool: asyncpg.Pool, member: str) -> Store:
    """A store whose process holds a fair share of the shards."""
    claims = Claims(pool, CONSUMER, member, range(SHARDS))
    await consumers.save(pool, CONSUMER, dict.fromkeys(range(SHARDS), 0))
    await claims.renew()
    return Store(pool, claims)


async def test_what_was_deleted_does_not_come_back_with_entries_that_come_again(world: World, database: Any) -> None:
    """A crash brings entries again, also to another process; one that was frozen meanwhile adds nothing at all."""
    async with asyncpg.create_pool(database.dsn, init=prepare, min_size=1, max_size=2) as pool:
        frozen = await holding(pool, "notification-service-1@1")
        notices = [Notice(ANN, n, 1, None, 0, n, 0, 0) for n in range(1, 4)]
        assert await frozen.add(notices, 0, 3) == 3
        await pool.execute("DELETE FROM betting.notifications")
        assert await frozen.add(notices, 0, 3) == 0
        await pool.execute("UPDATE betting.consumer_members SET seen_at = now() - interval '1 minute'")
        other = await holding(pool, "notification-service-2@1")
        late = [Notice(ANN, 4, 1, None, 0, 4, 0, 0)]
        with pytest.raises(ClaimLost):
            await frozen.add(late, 0, 4)
        assert await other.add(notices + late, 0, 4) == 1
        assert [row[0] for row in await pool.fetch("SELECT sequence FROM betting.notifications")] == [4]


async def test_two_services_share_the_shards_and_one_takes_over_from_the_other(
    world: World, database: Any, valkey: Any, tmp_path: Path
) -> None:
    """Each reads half of the shards; when one is killed the other reads all; each cause is told once."""
    processes = [notification_process(n, database, valkey, tmp_path) for n in (1, 2)]
    scribes = [world.scribe, Scribe(1, now_us())]

    async def pay_in(times: int) -> None:
        for scribe in scribes:
            for _ in range(times):
                scribe.deposit(bytes([scribe.state.shard + 1]) * 16, 1)
            await scribe.commit(world.connection)

    async with running(*processes):
        await pay_in(20)
        await _until_told(world, 40)
        async with asyncio.timeout(WAIT_S):
            while True:  # the second joined after the first had all
                if await world.connection.fetchval(HOLDERS) == 2:
                    break
                await asyncio.sleep(0.05)
        await pay_in(20)
        await _until_told(world, 80)
        processes[0].kill()
        await pay_in(20)
        await _until_told(world, 120)
        assert await world.connection.fetchval(HOLDERS) == 1
    told = await world.connection.fetchval("SELECT count(*) FROM betting.notifications")
    assert told == await world.connection.fetchval("SELECT count(*) FROM betting.journal WHERE kind = 2") == 120


def notification_process(number: int, database: Any, valkey: Any, folder: Path) -> BetProcess:
    """A notification-service that can be killed."""
    name, address = f"notification-service-{number}", in_process.free_address()
    settings = environment(name, address, database.dsn, valkey.url, "", shard_count=str(SHARDS))
    return BetProcess(name, address, settings, folder / f"{name}.log", "betting.notifications")


async def test_only_the_newest_of_an_account_are_kept(world: World, database: Any) -> None:
    """The janitor looks at accounts that got one."""
    async with asyncpg.create_pool(database.dsn, init=prepare, min_size=1, max_size=2) as pool:
        store = await holding(pool, "notification-service@1")
        account, other = os.urandom(16), os.urandom(16)
        await store.add([Notice(account, n, 1, None, 0, n, 0, 0) for n in range(1, 13)], 0, 12)
        await store.add([Notice(other, n, 1, None, 0, n, 0, 0) for n in range(1, 4)], 1, 3)
        janitor = Janitor(store, keep=5)
        janitor.touched([account, other])
        assert await janitor.sweep() == 7
        rows = await pool.fetch("SELECT account, sequence FROM betting.notifications ORDER BY sequence")
        assert [row["sequence"] for row in rows if row["account"] == account] == [8, 9, 10, 11, 12]
        assert len([row for row in rows if row["account"] == other]) == 3
        assert await janitor.sweep() == 0


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("ListNotifications", pb.ListNotificationsRequest(page_size=501), "PAGE_SIZE_OUT_OF_RANGE"),
        ("ListNotifications", pb.ListNotificationsRequest(page_token="x"), "PAGE_TOKEN_INVALID"),
        ("MarkRead", pb.MarkReadRequest(), "NOTIFICATION_IDS"),
        ("MarkRead", pb.MarkReadRequest(up_to_id=-1), "UP_TO_ID"),
        ("MarkRead", pb.MarkReadRequest(notification_ids=[1] * 501), "NOTIFICATION_IDS"),
        ("DeleteNotifications", pb.DeleteNotificationsRequest(), "NOTIFICATION_IDS"),
        ("DeleteNotifications", pb.DeleteNotificationsRequest(notification_ids=[0]), "NOTIFICATION_IDS"),
    ],
)
async def test_what_cannot_be_meant_is_refused(service: Any, method: str, request_: Any, reason: str) -> None:
    """With a reason that a program can branch on."""
    with pytest.raises(ServiceError) as refused:
        await service(ANN).call(method, request_)
    assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
