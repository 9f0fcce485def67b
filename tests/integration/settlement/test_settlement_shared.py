"""Several settlement-services share the work: nothing twice, nothing missed when one of them is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import in_process
import pytest
from bet_processes import BetProcess, environment, running
from owner_calls import SHARDS, Owners
from settlement_calls import EVENT, RESULT_MARKET, SERVICE, STARTED_AT_US, TOTAL_MARKET, Settlements, until

from betting.internal.v1 import feed_pb2, feed_pb2_grpc
from betting.runtime.clock import SystemClock
from betting.settlement.catalogue import Catalogue
from betting.settlement.requests import RequestedSettlement
from betting.settlement.runner import Runner
from betting.settlement.store import RUNNING, SettlementStore
from betting.v1 import event_pb2, settlement_pb2

DONE = settlement_pb2.SETTLEMENT_STATUS_DONE
FIRST_EVENT, EVENTS = 100, 30
# As a task leaves one that it cannot even write about, in the process that carries another.
LEFT = """
INSERT INTO settlement.settlements
    (market_id, version, event_id, outcomes, status, voids, shards_total, requested_at_us, due_at, claimed_by)
SELECT $1, 1, event_id, '{"1": 5, "2": 1, "3": 1}', 2, false, $2, 1, clock_timestamp() + interval '6 s', claimed_by
FROM settlement.settlements WHERE market_id = $3"""
CLAIMS = "SELECT count(DISTINCT claimed_by) FROM settlement.settlements WHERE status = 2"


def many_events() -> feed_pb2.UpsertCatalogueRequest:
    """Events with one market each, of the same id."""
    return feed_pb2.UpsertCatalogueRequest(
        events=[
            event_pb2.Event(
                event_id=event,
                league_id="E0",
                home=f"Home {event}",
                away="Away",
                starts_at_us=STARTED_AT_US,
                status=event_pb2.EVENT_STATUS_SCHEDULED,
                markets=[
                    event_pb2.Market(
                        market_id=event,
                        event_id=event,
                        kind=event_pb2.MARKET_KIND_OVER_UNDER,
                        line_quarters=10,
                        status=event_pb2.MARKET_STATUS_OPEN,
                        closes_at_us=in_process.FAR_FUTURE_US,
                        selections=[event_pb2.Selection(selection_id=i, name=str(i)) for i in (1, 2)],
                    )
                ],
            )
            for event in range(FIRST_EVENT, FIRST_EVENT + EVENTS)
        ]
    )


@pytest.fixture
async def catalogue(events: Any) -> Any:
    """The catalogue with many events more."""
    stub = events.target.stub(feed_pb2_grpc.CatalogueFeedServiceStub)
    await events.target.call(stub.UpsertCatalogue, many_events(), idempotent=True, principal=SERVICE)
    return events


async def settle_all(calls: Settlements) -> None:
    """Asks for every event's settlement."""
    for event in range(FIRST_EVENT, FIRST_EVENT + EVENTS):
        request = settlement_pb2.SettleEventRequest(event_id=event, home_goals=2, away_goals=1, version=1)
        await calls.call("SettleEvent", request)


async def both_have_some(owners: Owners) -> None:
    """Each carries settlements, and waits with them for owners."""
    async with asyncio.timeout(20):
        while True:
            if await owners.connection.fetchval(CLAIMS) == 2:
                return
            await asyncio.sleep(0.05)


def shards_carried(text: str) -> int:
    """How often a service has taken a settlement through a shard, from its metrics."""
    [line] = [line for line in text.splitlines() if line.startswith("betting_settlement_shards_total{")]
    return int(float(line.rpartition(" ")[2]))


async def metrics_of(address: str) -> str:
    """What Prometheus would read."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


async def test_two_services_share_the_settlements_and_do_nothing_twice(
    bet_service: Any, catalogue: Any, owners: Owners, database: Any, valkey: Any, tmp_path: Path
) -> None:
    """Whoever is asked: both carry some, and no shard of a settlement is carried by both."""
    metrics = [in_process.free_address() for _ in range(2)]
    processes = [settlement_process(n, catalogue, database, valkey, tmp_path, metrics[n]) for n in range(2)]
    async with running(*processes), in_process.calling(processes[0].address) as target:
        calls = Settlements(target)
        await settle_all(calls)
        await both_have_some(owners)
        async with bet_service():
            for event in range(FIRST_EVENT, FIRST_EVENT + EVENTS):
                await until(calls, event, DONE)
            carried = [shards_carried(await metrics_of(address)) for address in metrics]
    assert sum(carried) == EVENTS * SHARDS
    assert min(carried) > 0


async def test_what_a_killed_service_carried_is_finished_by_the_other(
    bet_service: Any, catalogue: Any, owners: Owners, database: Any, valkey: Any, tmp_path: Path
) -> None:
    """It dies while it carries settlements, some of them half done; every one is done in the end, on every shard."""
    doomed, other = (settlement_process(n, catalogue, database, valkey, tmp_path) for n in range(2))
    async with running(doomed, other), in_process.calling(other.address) as target:
        calls = Settlements(target)
        async with in_process.calling(doomed.address) as its_target:
            await settle_all(Settlements(its_target))
        await both_have_some(owners)
        doomed.kill()
        async with bet_service():
            for event in range(FIRST_EVENT, FIRST_EVENT + EVENTS):
                assert (await until(calls, event, DONE)).shards_done == SHARDS
    settled = "SELECT count(*), count(DISTINCT (shard, market)) FROM betting.journal WHERE kind = 25"
    assert tuple(await owners.connection.fetchrow(settled)) == (EVENTS * SHARDS, EVENTS * SHARDS)


async def test_a_claim_is_one_processs_and_ends_with_its_lease(owners: Owners) -> None:
    """Two claim at once: disjoint. One that lost its claim changes nothing any more."""
    store, rival = SettlementStore(owners.connection, "a@1"), SettlementStore(owners.connection, "b@1")
    results = [RequestedSettlement(market, 1, 1, {1: 5, 2: 1}, voids=False) for market in (1, 2)]
    await store.record_event(results, SHARDS, 1, abandoned=False, must_take=False)
    first, second = await asyncio.gather(store.claim(1, 60.0), rival.claim(1, 60.0))
    assert sorted(first + second) == [(1, 1), (2, 1)]
    assert await rival.claim(5, 60.0) == []
    await owners.connection.execute("UPDATE settlement.settlements SET due_at = now()")  # both leases are over
    assert len(await rival.claim(5, 60.0)) == 2
    row = await store.get(*first[0])
    assert not await store.finished(row, at_us=1)
    await store.stopped(row, "late")
    assert (await store.get(*first[0])).status == RUNNING
    await rival.release()
    assert len(await store.claim(5, 60.0)) == 2
    await SettlementStore(owners.connection, "c@1").inherit()
    assert await rival.claim(5, 60.0) == []
    await SettlementStore(owners.connection, "a@2").inherit()  # the next life of the one that carries them
    assert len(await rival.claim(5, 60.0)) == 2


async def test_a_claim_that_nobody_works_on_any_more_ends(bet_service: Any, settlement: Any, owners: Owners) -> None:
    """A try that could not even say how it ended (Postgres was away) is made again, also while its process carries
    another settlement that takes for ever."""
    stuck = RequestedSettlement(TOTAL_MARKET, 1, EVENT, {1: 5, 2: 1}, voids=False)
    store = SettlementStore(owners.connection, "another@1")
    async with bet_service(), settlement() as calls:
        await store.record(stuck, SHARDS + 1, 1)  # one shard more than there are: nobody serves it
        await until(calls, TOTAL_MARKET, settlement_pb2.SETTLEMENT_STATUS_RUNNING, shards_done=SHARDS)
        await owners.connection.execute(LEFT, RESULT_MARKET, SHARDS, TOTAL_MARKET)
        await until(calls, RESULT_MARKET, DONE)


async def test_who_wakes_up_late_does_not_show_a_result_that_was_corrected(events: Any, owners: Owners) -> None:
    """It was stopped before its last step; another one finished the settlement, and a correction that voids it."""
    late, other = (SettlementStore(owners.connection, f"{name}@1") for name in ("late", "other"))
    catalogue = Catalogue(events.target, lambda: SERVICE)
    no_router: Any = None  # every shard is done
    carrying = Runner(late, no_router, catalogue, SystemClock())
    await late.record(RequestedSettlement(TOTAL_MARKET, 1, EVENT, {1: 5, 2: 1}, voids=False), SHARDS, 1)
    [claim] = await late.claim(1, 0.0)
    row = await late.get(*claim)
    await catalogue.close_market(TOTAL_MARKET)
    for version in (1, 2):
        [claim] = await other.claim(1, 60.0)
        await Runner(other, no_router, catalogue, SystemClock())._finish(await other.get(*claim))
        if version == 1:
            await other.record(RequestedSettlement(TOTAL_MARKET, 2, EVENT, {1: 3, 2: 3}, voids=True), SHARDS, 2)
    await carrying._finish(row)
    assert (await events.market(TOTAL_MARKET)).status == event_pb2.MARKET_STATUS_VOID


def settlement_process(
    number: int, catalogue: Any, database: Any, valkey: Any, folder: Path, metrics: str = ""
) -> BetProcess:
    """A settlement-service that can be killed."""
    name = f"settlement-service-{number}"
    address = in_process.free_address()
    more = {"event_service": catalogue.address} | ({"metrics_address": metrics} if metrics else {})
    settings = environment(name, address, database.dsn, valkey.url, "", **more)
    return BetProcess(name, address, settings, folder / f"{name}.log", "betting.settlement")
