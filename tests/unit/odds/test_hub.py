"""Fan-out to watchers: shared encoding, bounded queues, sequences per channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from betting.odds.hub import MARKETS_PER_MESSAGE, Hub, Watcher
from betting.odds.quotes import OPEN, Quote, SelectionPrice
from betting.runtime.errors import ServiceError, unavailable
from betting.v1.odds_pb2 import WatchPricesResponse


def quote(market_id: int, version: int = 1) -> Quote:
    return Quote(market_id, market_id // 10, OPEN, version, 99, (SelectionPrice(1, 1, 2),), 5, "feed", False)


@pytest.fixture
async def task() -> AsyncIterator[asyncio.Task[None]]:
    """A task that stands for a stream's writer."""

    async def write_for_ever() -> None:
        await asyncio.Event().wait()

    made = asyncio.ensure_future(write_for_ever())
    await asyncio.sleep(0)
    yield made
    made.cancel()
    await asyncio.gather(made, return_exceptions=True)


async def read(watcher: Watcher) -> WatchPricesResponse:
    return WatchPricesResponse.FromString(await watcher.next())


async def test_one_encoding_serves_a_channel(task: asyncio.Task[None]) -> None:
    """A hundred watchers of everything get the very same bytes, encoded once."""
    hub = Hub("e")
    watchers = [hub.join(frozenset(), [], task) for _ in range(100)]
    hub.publish([quote(11)])
    messages = [await watcher.next() for watcher in watchers]
    assert all(message is messages[0] for message in messages)
    assert hub.statistics().encoded_total == 1


async def test_sequences_rise_by_one_per_channel(task: asyncio.Task[None]) -> None:
    """Each set of events has its own; a late watcher starts where its channel stands."""
    hub = Hub("e")
    everything, some = hub.join(frozenset(), [], task), hub.join(frozenset({2}), [quote(11), quote(21)], task)
    hub.publish([quote(11, 2)])
    hub.publish([quote(21, 2), quote(11, 3)])
    assert [(await read(everything)).sequence for _ in range(2)] == [1, 2]
    filtered = await read(some)
    assert (filtered.sequence, [each.market_id for each in filtered.delta.prices]) == (1, [21])
    late = WatchPricesResponse.FromString(next(hub.join(frozenset(), [quote(11)], task).snapshot()))
    assert (late.sequence, late.epoch, late.snapshot.last) == (2, "e", True)
    own = WatchPricesResponse.FromString(next(some.snapshot()))
    assert [each.market_id for each in own.snapshot.prices] == [21]


async def test_large_changes_are_cut(task: asyncio.Task[None]) -> None:
    """A change of many markets is several deltas, each with its own sequence."""
    hub = Hub("e")
    watcher = hub.join(frozenset(), [], task)
    hub.publish([quote(number) for number in range(10, 10 + MARKETS_PER_MESSAGE + 1)])
    parts = [await read(watcher) for _ in range(2)]
    assert [(part.sequence, len(part.delta.prices)) for part in parts] == [(1, MARKETS_PER_MESSAGE), (2, 1)]


async def test_a_full_queue_ends_the_stream(task: asyncio.Task[None]) -> None:
    """Beyond the bound the watcher's queue is emptied, its writer cancelled, its end says why; others go on."""
    hub = Hub("e", queued_max=3)
    slow, quick = hub.join(frozenset(), [], task), hub.join(frozenset(), [], task)
    for version in range(1, 5):
        hub.publish([quote(11, version)])
        await quick.next()
    assert slow.ended is not None
    assert slow.ended.reason == "SLOW_WATCHER"
    assert (slow.queued, hub.statistics().slow_total) == (0, 1)
    assert quick.ended is None
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_beats_do_not_pile_up(task: asyncio.Task[None]) -> None:
    """A watcher with something still to read gets no beat; one that has read everything gets it at its sequence."""
    hub = Hub("e", queued_max=3)
    watcher = hub.join(frozenset(), [], task)
    hub.publish([quote(11)])
    for _ in range(10):
        hub.beat(7)
    assert (watcher.queued, watcher.ended) == (1, None)
    await watcher.next()
    hub.beat(8)
    beat = await read(watcher)
    assert (beat.sequence, beat.beat.at_us) == (1, 8)


async def test_watchers_are_counted_and_bounded(task: asyncio.Task[None]) -> None:
    """One too many is refused; leaving, also twice, makes room and forgets the channel."""
    hub = Hub("e", watchers_max=1)
    watcher = hub.join(frozenset({1}), [], task)
    with pytest.raises(ServiceError, match="TOO_MANY_WATCHERS"):
        hub.join(frozenset(), [], task)
    assert hub.statistics().channels == 1
    hub.leave(watcher)
    hub.leave(watcher)
    assert (hub.statistics().watchers, hub.statistics().channels) == (0, 0)
    hub.join(frozenset(), [], task)


async def test_all_streams_can_be_ended(task: asyncio.Task[None]) -> None:
    """Stepping aside ends everybody with the same status."""
    hub = Hub("e")
    watcher = hub.join(frozenset(), [], task)
    hub.end_all(unavailable("NOT_ACTIVE", "gone"))
    assert watcher.ended is not None
    assert watcher.ended.reason == "NOT_ACTIVE"
