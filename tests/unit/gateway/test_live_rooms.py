"""The prices of one event as watchers see them, and the order in which one client gets its messages."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from betting.gateway.live import messages
from betting.gateway.live.bets import Follower
from betting.gateway.live.odds import Room
from betting.gateway.live.writer import Flusher, Writer
from betting.v1.odds_pb2 import MarketPrices

MARKETS = st.lists(st.builds(MarketPrices, market_id=st.integers(1, 3), version=st.integers(0, 3)), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["change", "replace", "stale"]), MARKETS), max_size=20)


def data_of(message: messages.Outgoing) -> Any:
    """What it says."""
    return json.loads(message.text[1:])[1]


@given(MARKETS, STEPS, st.integers(0, 20))
def test_whoever_joins_or_falls_behind_knows_what_everybody_knows(
    first: list[MarketPrices], steps: list[tuple[str, list[MarketPrices]]], joins_at: int
) -> None:
    """A snapshot and all that follows, each one more than the last, give the newest prices; wherever one begins."""
    room = Room(7, first, stale=False)
    told = [data_of(room.snapshot())] if joins_at == 0 else []
    for number, (what, markets) in enumerate(steps, 1):
        if what == "change":
            message = room.change(markets)
        else:
            message = room.replace(markets) if what == "replace" else room.grow_stale()
        if told and message is not None:
            told.append(data_of(message))
        if number == joins_at:
            told = [data_of(room.snapshot())]
    now = data_of(room.snapshot())
    known: dict[str, Any] = {}
    for before, update in zip([None, *told], told, strict=False):
        assert before is None or update["sequence"] == before["sequence"] + 1
        if update["kind"] == "snapshot":
            known = {}
        known |= {market["marketId"]: market for market in update["markets"]}
    if told:
        assert known == {market["marketId"]: market for market in now["markets"]}
        assert (told[-1]["sequence"], told[-1]["stale"]) == (now["sequence"], now["stale"])


def test_the_same_prices_again_are_no_news() -> None:
    """Unless they were stale."""
    prices = [MarketPrices(market_id=1, version=1)]
    room = Room(7, prices, stale=False)
    assert room.replace(prices) is None
    assert room.grow_stale() is not None
    assert room.grow_stale() is None
    fresh = room.replace(prices)
    assert fresh is not None
    assert data_of(fresh)["stale"] is False


class Connection:
    """One with a WebSocket; `sent` has both ways out in the order of the wire."""

    def __init__(self) -> None:
        self.closed = False
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.sent: list[str] = []
        self.transport = self

    @property
    def takes_frames(self) -> bool:
        return self.queue.empty()

    def enqueue(self, text: str) -> None:
        self.queue.put_nowait(f"4{text}")

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        """Finished frames, as they reach the transport."""
        while data:
            length = data[1]
            self.sent.append(data[2 : 2 + length].decode())
            data = data[2 + length :]

    def send_queued(self) -> None:
        """What python-engineio's writer does."""
        while not self.queue.empty():
            self.sent.append(self.queue.get_nowait())


async def test_messages_keep_their_order_whatever_python_socketio_sends_between() -> None:
    """One that waits to be written in company is not overtaken by one that is queued behind an acknowledgement."""
    connection = Connection()
    writer = Writer(cast("Any", connection), Flusher())
    writer.write(messages.event("bet", 1))
    connection.enqueue("an acknowledgement")
    writer.write(messages.event("bet", 2))
    connection.send_queued()
    writer.flush()
    writer.write(messages.event("bet", 3))
    writer.flush()
    assert [each for each in connection.sent if "bet" in each] == ['42["bet",1]', '42["bet",2]', '42["bet",3]']


@given(st.sets(st.integers(1, 30)), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_a_follower_gets_each_message_after_its_cursor_once(
    entries: set[int], after: int, position: int, repeats: int
) -> None:
    """The past from the journal, what came meanwhile from the stream, repeats of both."""

    class Written:
        def __init__(self) -> None:
            self.messages: list[int] = []

        def write(self, message: Any) -> None:
            self.messages.append(message)

    written: Any = Written()
    follower = Follower("sid", written, b"bet", after)
    live = sorted(each for each in entries if each > position)
    for sequence in live:
        follower.offer(sequence, sequence)  # type: ignore[arg-type]
    assert written.messages == []
    coming, follower.waiting = follower.waiting or [], None
    for sequence in sorted(each for each in entries if after < each <= position):
        follower.offer(sequence, sequence)  # type: ignore[arg-type]
    for sequence, message in coming:
        follower.offer(sequence, message)
    for sequence in sorted(each for each in entries if each >= repeats):
        follower.offer(sequence, sequence)  # type: ignore[arg-type]
    assert written.messages == sorted(each for each in entries if each > after and (each <= position or each in live))
