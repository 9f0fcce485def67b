"""Streams of prices: snapshot, deltas, beats, filters, slow readers, and the client that never gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import asyncpg
import grpc
import in_process
import pytest

from betting.clients import odds_watch as watch
from betting.odds import hub
from betting.runtime.errors import ServiceError
from betting.v1 import event_pb2, odds_pb2, odds_pb2_grpc

OPEN = event_pb2.MARKET_STATUS_OPEN
SUSPENDED = event_pb2.MARKET_STATUS_SUSPENDED


async def test_snapshot_then_deltas_then_beats(odds: Any, make_prices: Any) -> None:
    """The snapshot says where the stream stands, each delta is one more, a beat repeats the last."""
    await odds.publish(make_prices(11), snapshot=True)
    async with aclosing(odds.watch()) as stream:
        snapshot = await anext(stream)
        assert [quote.market_id for quote in snapshot.snapshot.prices] == [11]
        assert snapshot.snapshot.last
        await odds.publish(make_prices(11, 95), make_prices(12))
        delta = await _next(stream, "delta")
        assert delta.sequence == snapshot.sequence + 1
        assert {quote.market_id: quote.version for quote in delta.delta.prices} == {11: 2, 12: 1}
        beat = await _next(stream, "beat")
        assert (beat.sequence, beat.epoch, beat.beat.at_us) == (delta.sequence, snapshot.epoch, odds.clock.time_us)


async def test_an_empty_service_has_an_empty_snapshot(odds: Any) -> None:
    """Nothing to show is a snapshot too, so that a watcher knows it knows everything."""
    async with aclosing(odds.watch()) as stream:
        first = await anext(stream)
        assert first.WhichOneof("update") == "snapshot"
        assert (first.snapshot.last, len(first.snapshot.prices)) == (True, 0)


async def test_large_snapshots_come_in_parts(odds: Any, make_prices: Any) -> None:
    """No part is over the bound, only the last is marked, together they hold each market once."""
    count = 2 * hub.MARKETS_PER_MESSAGE + 1
    await odds.publish(*(make_prices(number) for number in range(10, 10 + count)), snapshot=True)
    parts: list[odds_pb2.WatchPricesResponse] = []
    async with aclosing(odds.watch()) as stream:
        while not parts or not parts[-1].snapshot.last:
            parts.append(await anext(stream))
    assert [len(part.snapshot.prices) for part in parts] == [hub.MARKETS_PER_MESSAGE, hub.MARKETS_PER_MESSAGE, 1]
    assert len({part.sequence for part in parts}) == 1
    assert len({quote.market_id for part in parts for quote in part.snapshot.prices}) == count


async def test_watching_some_events_shows_only_those(odds: Any, make_prices: Any) -> None:
    """Other events appear neither in the snapshot nor as deltas, and do not move the sequence."""
    await odds.publish(make_prices(11), make_prices(21), snapshot=True)
    async with aclosing(odds.watch(2)) as stream:
        snapshot = await anext(stream)
        assert [quote.market_id for quote in snapshot.snapshot.prices] == [21]
        await odds.publish(make_prices(11, 95))
        await odds.publish(make_prices(21, 96))
        delta = await _next(stream, "delta")
        assert (delta.sequence, [quote.market_id for quote in delta.delta.prices]) == (snapshot.sequence + 1, [21])


async def test_silence_reaches_watchers(odds: Any, make_prices: Any) -> None:
    """A silent producer's markets arrive suspended and stale, and open again after its snapshot."""
    await odds.publish(make_prices(11), snapshot=True)
    async with aclosing(odds.watch()) as stream:
        await anext(stream)
        odds.clock.time_us += 21_000_000
        suspended = (await _next(stream, "delta")).delta.prices[0]
        assert (suspended.status, suspended.stale, suspended.version) == (SUSPENDED, True, 2)
        await odds.publish(make_prices(11), snapshot=True)
        reopened = (await _next(stream, "delta")).delta.prices[0]
        assert (reopened.status, reopened.stale, reopened.version) == (OPEN, False, 3)


async def test_no_beat_without_the_database(odds: Any, make_prices: Any, database: Any) -> None:
    """While Postgres does not confirm that this process counts, watchers hear nothing."""
    await odds.publish(make_prices(11), snapshot=True)
    admin = await asyncpg.connect(database.dsn)
    try:
        async with aclosing(odds.watch()) as stream:
            await anext(stream)
            await _next(stream, "beat")
            async with admin.transaction():
                await admin.execute("LOCK TABLE odds.leases")
                # A beat already under way may still arrive.
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await anext(stream)
                        await anext(stream)
                        pytest.fail("two beats came while the database could not confirm one")
    finally:
        await admin.close()


async def test_slow_watchers_are_ended_with_a_reason(start_odds: Any, make_prices: Any) -> None:
    """Who does not read loses the stream, with a status that says to watch again; quick readers see every change."""
    async with start_odds(watcher_queue=8) as odds:
        big = [make_prices(number) for number in range(1000, 3000)]
        await odds.publish(*big, snapshot=True)
        async with _stuck(odds.address) as stuck, aclosing(odds.watch()) as quick:
            await stuck.read()
            await _next_sequence(quick, 0)
            reading = asyncio.ensure_future(_read_until(quick, 40))
            for price in range(100, 110):
                await odds.publish(*(make_prices(number, price) for number in range(1000, 3000)))
            sequences = await reading
            assert sequences == list(range(1, 41))
            code, details = await _ending(stuck)
            assert (code, "watch again" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


async def test_the_number_of_watchers_is_bounded(start_odds: Any) -> None:
    """One stream too many is refused, and there is room again when one has gone."""
    async with start_odds(watchers=1) as odds:
        async with aclosing(odds.watch()) as first:
            await anext(first)
            with pytest.raises(ServiceError) as caught:
                await anext(odds.watch())
            assert caught.value.reason == "TOO_MANY_WATCHERS"
        async with asyncio.timeout(20):
            while True:
                with suppress(ServiceError):
                    async with aclosing(odds.watch()) as again:
                        await anext(again)
                        return
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("reason", "event_ids"), [("EVENT_ID_INVALID", [1, -1]), ("TOO_MANY_EVENTS", list(range(1, 502)))]
)
async def test_bad_watches(odds: Any, reason: str, event_ids: list[int]) -> None:
    """What cannot be watched is INVALID_ARGUMENT with a reason."""
    with pytest.raises(ServiceError) as caught:
        await anext(odds.watch(*event_ids))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_the_client_follows_through_a_restart(
    start_odds: Any, make_prices: Any, unused_tcp_port: int, eventually: Any
) -> None:
    """watch() gives a snapshot, deltas and beats, and after the service was away a fresh snapshot."""
    seen = _Seen()
    address = f"127.0.0.1:{unused_tcp_port}"
    async with in_process.calling(address, "odds-service") as target:
        watching = asyncio.ensure_future(
            watch.watch(target, on_snapshot=seen.snapshot, on_delta=seen.delta, on_beat=seen.beat)
        )
        try:
            async with start_odds(grpc_address=address) as first:
                await first.publish(make_prices(11), snapshot=True)
                await eventually(seen.versions, lambda versions: versions == {11: 1})
                await first.publish(make_prices(11, 95))
                await eventually(seen.versions, lambda versions: versions == {11: 2})
                await eventually(seen.beats, lambda beats: beats > 0)
            snapshots = len(seen.snapshots)
            async with start_odds(grpc_address=address) as second:
                await second.publish(make_prices(11, 97), snapshot=True)
                await eventually(seen.versions, lambda versions: versions == {11: 3})
            assert len(seen.snapshots) > snapshots
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def test_the_client_does_not_trust_silence(start_odds: Any, eventually: Any) -> None:
    """A stream without beats is taken for dead and begun again."""
    seen = _Seen()
    async with start_odds(beat="60", takeover_after="120") as odds:
        watching = asyncio.ensure_future(
            watch.watch(
                odds.target, on_snapshot=seen.snapshot, on_delta=seen.delta, on_beat=seen.beat, silence_max_s=0.05
            )
        )

        async def snapshots() -> int:
            return len(seen.snapshots)

        await eventually(snapshots, lambda count: count >= 3)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


class _Seen:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.book: dict[int, int] = {}
        self.snapshots: list[int] = []
        self.beaten = 0

    async def snapshot(self, prices: list[odds_pb2.MarketPrices]) -> None:
        self.book = {quote.market_id: quote.version for quote in prices}
        self.snapshots.append(len(prices))

    def delta(self, prices: list[odds_pb2.MarketPrices]) -> None:
        self.book |= {quote.market_id: quote.version for quote in prices}

    def beat(self, at_us: int) -> None:
        self.beaten += 1

    async def versions(self) -> dict[int, int]:
        return self.book

    async def beats(self) -> int:
        return self.beaten


@asynccontextmanager
async def _stuck(address: str) -> AsyncIterator[Any]:
    """A stream whose connection takes little that its reader has not read."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        make_stub: Callable[[Any], Any] = odds_pb2_grpc.OddsServiceStub
        call = make_stub(channel).WatchPrices(odds_pb2.WatchPricesRequest())
        yield call
        call.cancel()


async def _ending(call: Any) -> tuple[Any, str]:
    async with asyncio.timeout(10):
        with suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await call.code(), await call.details()


async def _next(stream: AsyncIterator[Any], kind: str) -> Any:
    async with asyncio.timeout(20):
        while (message := await anext(stream)).WhichOneof("update") != kind:
            pass
    return message


async def _next_sequence(stream: AsyncIterator[Any], sequence: int) -> None:
    message = await anext(stream)
    while not message.snapshot.last:
        message = await anext(stream)
    assert message.sequence == sequence


async def _read_until(stream: AsyncIterator[Any], last: int) -> list[int]:
    sequences: list[int] = []
    async with asyncio.timeout(20):
        while not sequences or sequences[-1] < last:
            sequences.append((await _next(stream, "delta")).sequence)
    return sequences
