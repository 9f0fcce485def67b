"""The watchers of prices: one channel per set of events, each change encoded once per channel, every queue bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from betting.odds.quotes import Quote, to_protos
from betting.runtime import errors
from betting.runtime.errors import ServiceError
from betting.v1 import odds_pb2

# Messages waiting for one watcher; they are shared between the watchers of a channel.
QUEUED_MESSAGES_MAX = 256
WATCHERS_MAX = 10_000
# Markets in one message: about 50 kB, far below the message limit.
MARKETS_PER_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """The hub at one moment; totals count since the start of the process."""

    watchers: int
    channels: int
    encoded_total: int
    slow_total: int


class Watcher:
    """One stream's queue. `task` is the task that writes the stream: it is cancelled when the stream must end."""

    def __init__(self, channel: _Channel, task: asyncio.Task[None], snapshot: Sequence[Quote], queued_max: int) -> None:
        self.ended: ServiceError | None = None
        self._channel = channel
        self._task = task
        self._snapshot = snapshot
        self._sequence = channel.sequence
        self._queue: deque[bytes] = deque()
        self._queued_max = queued_max
        self._waiting = asyncio.Event()

    @property
    def queued(self) -> int:
        """Messages not yet taken."""
        return len(self._queue)

    def snapshot(self) -> Iterator[bytes]:
        """The snapshot's parts, the last one marked; encoded as they are taken."""
        starts = range(0, max(1, len(self._snapshot)), MARKETS_PER_MESSAGE)
        for start in starts:
            part = to_protos(self._snapshot[start : start + MARKETS_PER_MESSAGE])
            message = self._channel.message(self._sequence)
            message.snapshot.prices.extend(part)
            message.snapshot.last = start == starts[-1]
            yield message.SerializeToString()

    async def next(self) -> bytes:
        """The next message, waiting for it."""
        while not self._queue:
            self._waiting.clear()
            await self._waiting.wait()
        return self._queue.popleft()

    def put(self, message: bytes) -> bool:
        """Queues a message; False: this watcher is too slow and its stream ends."""
        if len(self._queue) >= self._queued_max:
            self.end(
                errors.resource_exhausted(
                    "SLOW_WATCHER", f"{self._queued_max} changes were not read in time: watch again for a new snapshot"
                )
            )
            return False
        self._queue.append(message)
        self._waiting.set()
        return True

    def end(self, error: ServiceError) -> None:
        """Ends the stream with this status, wherever its writer stands."""
        if self.ended is None:
            self.ended = error
            self._queue.clear()
            self._task.cancel()


class _Channel:
    """The watchers of one set of events (empty: all), who see the same sequence of messages."""

    def __init__(self, events: frozenset[int], epoch: str) -> None:
        self.events = events
        self.epoch = epoch
        self.sequence = 0
        self.watchers: set[Watcher] = set()

    def message(self, sequence: int) -> odds_pb2.WatchPricesResponse:
        return odds_pb2.WatchPricesResponse(sequence=sequence, epoch=self.epoch)

    def of_interest(self, quotes: Sequence[Quote]) -> Sequence[Quote]:
        return [quote for quote in quotes if quote.event_id in self.events] if self.events else quotes

    def delta(self, part: Sequence[Quote]) -> bytes:
        self.sequence += 1
        message = self.message(self.sequence)
        message.delta.prices.extend(to_protos(part))
        return message.SerializeToString()

    def beat(self, at_us: int) -> bytes:
        message = self.message(self.sequence)
        message.beat.at_us = at_us
        return message.SerializeToString()


class Hub:
    """All channels. Not a coroutine in it: a change reaches every queue before anybody else runs."""

    def __init__(self, epoch: str, queued_max: int = QUEUED_MESSAGES_MAX, watchers_max: int = WATCHERS_MAX) -> None:
        assert min(queued_max, watchers_max) > 0
        self.epoch = epoch
        self._queued_max = queued_max
        self._watchers_max = watchers_max
        self._channels: dict[frozenset[int], _Channel] = {}
        self._watchers = 0
        self._encoded_total = 0
        self._slow_total = 0

    def join(self, events: frozenset[int], quotes: Iterable[Quote], task: asyncio.Task[None]) -> Watcher:
        """A new watcher whose snapshot is `quotes` (those of its events) as of now. Raises RESOURCE_EXHAUSTED."""
        if self._watchers >= self._watchers_max:
            raise errors.resource_exhausted(
                "TOO_MANY_WATCHERS", f"{self._watchers_max} streams are open here: try later"
            )
        channel = self._channels.get(events)
        if channel is None:
            channel = self._channels[events] = _Channel(events, self.epoch)
        watcher = Watcher(channel, task, channel.of_interest(list(quotes)), self._queued_max)
        channel.watchers.add(watcher)
        self._watchers += 1
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forgets a watcher, and its channel with the last one."""
        channel = watcher._channel
        if watcher in channel.watchers:
            channel.watchers.remove(watcher)
            self._watchers -= 1
        if not channel.watchers and self._channels.get(channel.events) is channel:
            del self._channels[channel.events]

    def publish(self, quotes: Sequence[Quote]) -> None:
        """Sends changed quotes to the watchers of their events."""
        for channel in self._channels.values():
            concerned = channel.of_interest(quotes)
            for start in range(0, len(concerned), MARKETS_PER_MESSAGE):
                self._send(channel, channel.delta(concerned[start : start + MARKETS_PER_MESSAGE]))

    def beat(self, at_us: int) -> None:
        """Sends a heartbeat to every watcher that has no change to read."""
        for channel in self._channels.values():
            message = channel.beat(at_us)
            self._encoded_total += 1
            for watcher in channel.watchers:
                if watcher.queued == 0 and watcher.ended is None:
                    watcher.put(message)

    def end_all(self, error: ServiceError) -> None:
        """Ends every stream with this status."""
        for channel in self._channels.values():
            for watcher in channel.watchers:
                watcher.end(error)

    def statistics(self) -> HubStatistics:
        """The counts, frozen."""
        return HubStatistics(self._watchers, len(self._channels), self._encoded_total, self._slow_total)

    def _send(self, channel: _Channel, message: bytes) -> None:
        self._encoded_total += 1
        for watcher in channel.watchers:
            if watcher.ended is None and not watcher.put(message):
                self._slow_total += 1
