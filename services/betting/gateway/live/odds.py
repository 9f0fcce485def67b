"""Sends prices to the clients that watch an event: one watch of odds-service for all, one frame for all members of a
room.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from betting.clients.odds_watch import watch
from betting.gateway.live import messages
from betting.gateway.live.messages import Outgoing
from betting.gateway.live.writer import Writer
from betting.runtime import logs, metrics
from betting.runtime.client import Target
from betting.runtime.loops import woken_within
from betting.v1.odds_pb2 import MarketPrices

UPDATE = "odds:update"


class Room:
    """The clients of one event, with a sequence of its updates.

    A snapshot has the current sequence; each delta adds one.
    """

    def __init__(self, event_id: int, markets: Iterable[MarketPrices], *, stale: bool) -> None:
        self.event_id = event_id
        self._markets = {each.market_id: each for each in markets}
        self._stale = stale
        self._sequence = 0
        self._snapshot: Outgoing | None = None

    def replace(self, markets: Iterable[MarketPrices]) -> Outgoing | None:
        """Replaces all markets, which are then fresh. Returns the message to send; None: no change."""
        before, self._markets = self._markets, {each.market_id: each for each in markets}
        if before == self._markets and not self._stale:
            return None
        self._stale = False
        self._next()
        return self.snapshot()

    def change(self, markets: Iterable[MarketPrices]) -> Outgoing:
        """Replaces these markets. Returns the delta to send."""
        changed = list(markets)
        self._markets.update((each.market_id, each) for each in changed)
        self._next()
        return self._message("delta", changed)

    def grow_stale(self) -> Outgoing | None:
        """Marks the prices as stale. Returns the message to send; None: they were stale before."""
        if self._stale:
            return None
        self._stale = True
        self._next()
        return self._message("delta", ())

    def snapshot(self) -> Outgoing:
        """All markets; encoded once until the next change."""
        if self._snapshot is None:
            self._snapshot = self._message("snapshot", self._markets.values())
        return self._snapshot

    def _next(self) -> None:
        self._sequence += 1
        self._snapshot = None

    def _message(self, kind: str, markets: Iterable[MarketPrices]) -> Outgoing:
        data = {
            "eventId": str(self.event_id),
            "kind": kind,
            "sequence": self._sequence,
            "stale": self._stale,
            "markets": [_market(each) for each in markets],
        }
        return messages.event(UPDATE, data)


def _market(prices: MarketPrices) -> dict[str, Any]:
    """The market as in the JSON of OddsService."""
    return MessageToDict(prices)


# Without a beat for so long, prices are shown as stale.
STALE_AFTER_S: Final = 3.0
CATCH_UP_S: Final = 0.02
IDLE_TURN_S: Final = 0.5
# Nobody watching for so long, and odds-service is not watched either.
IDLE_S: Final = 30.0
READY_S: Final = 3.0

_log = logs.get(__name__)


class Member:
    """One subscription. behind: it gets a snapshot once it has read what it was sent."""

    __slots__ = ("behind", "room", "writer")

    def __init__(self, writer: Writer, room: Room) -> None:
        self.writer = writer
        self.room = room
        self.behind = True


class LiveOdds:
    """The price subscriptions of this gateway. odds: odds-service; None if it is not configured."""

    def __init__(self, odds: Target | None) -> None:
        self._odds = odds
        self._book: dict[int, dict[int, MarketPrices]] = {}
        self._rooms: dict[int, Room] = {}
        self._members: dict[int, dict[str, Member]] = {}
        self._behind: set[Member] = set()
        self._some_behind = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._beat_s = 0.0
        self._empty_since_s = time.monotonic()
        self._delivered = metrics.counter("betting_live_deliveries_total", "Price updates written to clients")
        self._conflated = metrics.counter("betting_live_conflated_total", "Price updates skipped for a slow client")

    async def run(self) -> None:
        """Background task: watches odds-service while somebody is subscribed.

        Returns at once without an odds-service.
        """
        if self._odds is None:
            _log.warning("no odds-service configured")
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_while_wanted(self._odds))
            group.create_task(self._catch_up_for_ever())

    async def knows(self, event_id: int) -> bool | None:
        """Whether an event has prices; None: not known at the moment."""
        if not self._rooms:
            self._empty_since_s = time.monotonic()
        self._wanted.set()
        return event_id in self._book if await woken_within(self._ready, READY_S) else None

    def join(self, sid: str, writer: Writer, event_id: int) -> None:
        """Subscribes `sid` to an event: a snapshot at once, then each update."""
        room = self._rooms.get(event_id)
        if room is None:
            stale = not self._is_fresh()
            room = self._rooms[event_id] = Room(event_id, self._book.get(event_id, {}).values(), stale=stale)
        member = Member(writer, room)
        self._members.setdefault(event_id, {})[sid] = member
        self._catch_up(member)

    def leave(self, sid: str, event_id: int) -> None:
        """Ends the subscription of `sid` to one event; nothing when there is none."""
        members = self._members.get(event_id, {})
        member = members.pop(sid, None)
        if member is not None:
            self._behind.discard(member)
        if not members:
            self._members.pop(event_id, None)
            self._rooms.pop(event_id, None)
        if not self._rooms:
            self._empty_since_s = time.monotonic()

    def replace(self, markets: Sequence[MarketPrices]) -> None:
        """Takes a snapshot of all markets from odds-service and sends what changed to each room."""
        self._book = defaultdict(dict)
        for each in markets:
            self._book[each.event_id][each.market_id] = each
        self.beat()
        self._ready.set()
        for event_id, room in self._rooms.items():
            self._broadcast(event_id, room.replace(self._book[event_id].values()))

    def change(self, markets: Iterable[MarketPrices]) -> None:
        """Takes a delta from odds-service and sends it to the rooms of its events."""
        by_event: dict[int, list[MarketPrices]] = defaultdict(list)
        for each in markets:
            self._book[each.event_id][each.market_id] = each
            by_event[each.event_id].append(each)
        self.beat()
        for event_id, changed in by_event.items():
            room = self._rooms.get(event_id)
            if room is not None:
                self._broadcast(event_id, room.change(changed))

    def beat(self, _at_us: int = 0) -> None:
        """Heartbeat of the watch: all prices sent so far are true now. Without one for STALE_AFTER_S they are stale."""
        self._beat_s = time.monotonic()

    def _broadcast(self, event_id: int, message: Outgoing | None) -> None:
        """The hot loop: the same bytes to every member that keeps up."""
        if message is None:
            return
        members = self._members[event_id]
        written = 0
        for member in members.values():
            if member.behind:
                continue
            if member.writer.is_full:
                self._fall_behind(member)
            else:
                member.writer.write(message)
                written += 1
        self._delivered.inc(written)
        self._conflated.inc(len(members) - written)

    def _fall_behind(self, member: Member) -> None:
        member.behind = True
        self._behind.add(member)
        self._some_behind.set()

    def _catch_up(self, member: Member) -> None:
        """Sends a member the latest state in place of the updates it missed, once it has read enough."""
        if member.writer.is_full:
            self._fall_behind(member)
            return
        member.behind = False
        self._behind.discard(member)
        member.writer.write(member.room.snapshot())

    async def _catch_up_for_ever(self) -> None:
        while True:
            await woken_within(self._some_behind, IDLE_TURN_S)
            self._some_behind.clear()
            await asyncio.sleep(CATCH_UP_S)
            for member in list(self._behind):
                self._catch_up(member)
            if self._rooms and not self._is_fresh():
                for event_id, room in self._rooms.items():
                    self._broadcast(event_id, room.grow_stale())

    async def _watch_while_wanted(self, odds: Target) -> None:
        while True:
            await self._wanted.wait()
            watching = asyncio.create_task(
                watch(odds, on_snapshot=self.replace, on_delta=self.change, on_beat=self.beat)
            )
            while self._rooms or time.monotonic() - self._empty_since_s < IDLE_S:
                await asyncio.wait([watching], timeout=1.0)
                if watching.done():
                    watching.result()
            # Before anybody else runs: who asks from now on waits for the next watch.
            self._wanted.clear()
            self._ready.clear()
            watching.cancel()
            await asyncio.wait([watching])

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._beat_s < STALE_AFTER_S
