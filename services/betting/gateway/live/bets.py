"""Sends the changes of bets to the bettors who follow them: each change once, in order, and again after a reconnect.

Every gateway reads the shards' streams while one of its clients follows a bet, so any gateway can serve any client.
Without Redis the consumer polls the journal; docs/architecture/live.md has the guarantees.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from struct import error as StructError
from typing import Any, Final

import asyncpg
import redis.asyncio

from betting.engine.entries import Entry, Kind
from betting.engine.records import RESETTLED_BODY, SETTLED_BODY, unpack_placed
from betting.gateway.live import messages
from betting.gateway.live.messages import Outgoing
from betting.gateway.live.writer import Writer
from betting.journal import reader
from betting.runtime import logs, metrics, postgres
from betting.runtime.errors import unavailable
from betting.runtime.loops import woken_within
from betting.streams.consumer import Consumer

PLACED = "bet:placed"
SETTLED = "bet:settled"
REOPENED = "bet:reopened"


def message_of(shard: int, entry: Entry) -> Outgoing | None:
    """The message for the followers of a bet; None: no message. int64 values are strings, as in JSON of protobuf.

    Raises struct.error for a body that is not of its kind.
    """
    if entry.bet is None:
        return None
    match entry.kind:
        case Kind.BET_PLACED:
            return _event(PLACED, shard, entry, _placed(entry))
        case Kind.BET_SETTLED:
            version, number, payout = SETTLED_BODY.unpack(entry.body)
            return _event(SETTLED, shard, entry, _settled(version, number, payout, corrects=None))
        case Kind.BET_RESETTLED:
            version, number, before, after = RESETTLED_BODY.unpack(entry.body)
            return _event(SETTLED, shard, entry, _settled(version, number, after, corrects=before))
        case Kind.BET_REOPENED:
            version, number, _payout = SETTLED_BODY.unpack_from(entry.body)
            return _event(REOPENED, shard, entry, {"settlement": number, "resultVersion": version})
        case _:
            return None


def _event(name: str, shard: int, entry: Entry, more: dict[str, Any]) -> Outgoing:
    assert entry.bet is not None
    data = {
        "betId": str(uuid.UUID(bytes=entry.bet)),
        "shard": shard,
        "sequence": str(entry.sequence),
        "atUs": str(entry.at_us),
        **more,
    }
    return messages.event(name, data)


def _placed(entry: Entry) -> dict[str, Any]:
    placed = unpack_placed(entry.body)
    legs = [
        {
            "marketId": str(leg.market),
            "selectionId": leg.selection,
            "price": {"numerator": leg.numerator, "denominator": leg.denominator},
        }
        for leg in placed.record.legs
    ]
    return {
        "stakeMinor": str(placed.record.stake_minor),
        "potentialPayoutMinor": str(placed.potential_payout_minor),
        "legs": legs,
    }


def _settled(version: int, number: int, payout_minor: int, *, corrects: int | None) -> dict[str, Any]:
    data: dict[str, Any] = {"settlement": number, "resultVersion": version, "payoutMinor": str(payout_minor)}
    if corrects is not None:
        data["correctedPayoutMinor"] = str(corrects)
    return data


TIMEOUT_S = 3.0
READY_S: Final = 3.0
IDLE_S: Final = 30.0

_log = logs.get(__name__)


class Follower:
    """A client that follows one bet.

    sent: the last sequence written; waiting: messages that came while the past was read.
    """

    __slots__ = ("bet", "sent", "sid", "waiting", "writer")

    def __init__(self, sid: str, writer: Writer, bet: bytes, after: int) -> None:
        self.sid = sid
        self.writer = writer
        self.bet = bet
        self.sent = after
        self.waiting: list[tuple[int, Outgoing]] | None = []

    def offer(self, sequence: int, message: Outgoing) -> None:
        """Sends the next message, unless it was sent before."""
        if self.waiting is not None:
            self.waiting.append((sequence, message))
        elif sequence > self.sent:
            self.writer.write(message)
            self.sent = sequence


class LiveBets:
    """The followed bets of this gateway. too_slow: called with the sid of a client that does not read its messages."""

    def __init__(
        self, redis_client: redis.asyncio.Redis, pool: asyncpg.Pool, shard_count: int, too_slow: Callable[[str], None]
    ) -> None:
        self._redis = redis_client
        self._pool = pool
        self._shards = range(shard_count)
        self._too_slow = too_slow
        self._followers: dict[bytes, dict[str, Follower]] = {}
        self._consumer = self._new_consumer()
        self._wanted = asyncio.Event()
        self._empty_since_s = time.monotonic()
        self._delivered = metrics.counter("betting_live_bet_messages_total", "Messages about bets written to clients")

    async def run(self) -> None:
        """Runs for the life of the process: reads the shards' streams while a client follows a bet."""
        while True:
            await self._wanted.wait()
            following = asyncio.create_task(self._consumer.run())
            while self._followers or time.monotonic() - self._empty_since_s < IDLE_S:
                await asyncio.wait([following], timeout=1.0)
                if following.done():
                    following.result()
            # Before anybody else runs: who follows from now on waits for the next one.
            self._wanted.clear()
            self._consumer = self._new_consumer()
            following.cancel()
            await asyncio.wait([following])

    async def follow(self, sid: str, writer: Writer, shard: int, bet: bytes, after: int) -> None:
        """Sends the changes of a bet after this sequence, and every later one.

        Raises ServiceError when the past cannot be read; then the bet is not followed.
        """
        await self._started()
        follower = Follower(sid, writer, bet, after)
        self._followers.setdefault(bet, {})[sid] = follower
        try:
            past = await self._past(shard, bet, after)
        except BaseException:
            if self._is_current(follower):
                self.leave(sid, bet)
            raise
        if not self._is_current(follower):
            return  # it has left, or subscribed anew, meanwhile: then the past is told there
        coming, follower.waiting = follower.waiting or [], None
        for entry in past:
            self._send([follower], shard, entry)
        for sequence, message in coming:
            follower.offer(sequence, message)

    async def _past(self, shard: int, bet: bytes, after: int) -> list[Entry]:
        upto = self._consumer.position(shard)
        async with postgres.translated(), self._pool.acquire(timeout=TIMEOUT_S) as connection:
            return await reader.entries_of_bet(connection, shard, bet, after, upto, timeout_s=TIMEOUT_S)

    def leave(self, sid: str, bet: bytes) -> None:
        """Ends the subscription of `sid` to one bet; nothing when there is none."""
        followers = self._followers.get(bet, {})
        followers.pop(sid, None)
        if not followers:
            self._followers.pop(bet, None)
        if not self._followers:
            self._empty_since_s = time.monotonic()

    def _is_current(self, follower: Follower) -> bool:
        return self._followers.get(follower.bet, {}).get(follower.sid) is follower

    async def take(self, shard: int, entries: Sequence[Entry]) -> None:
        """The handler of the consumer. It never waits, so positions and followers advance together."""
        for entry in entries:
            followers = self._followers.get(entry.bet) if entry.bet is not None else None
            if followers:
                self._send(list(followers.values()), shard, entry)

    def _send(self, followers: Sequence[Follower], shard: int, entry: Entry) -> None:
        try:
            message = message_of(shard, entry)
        except StructError as problem:
            _log.error("entry unreadable", shard=shard, sequence=entry.sequence, problem=str(problem))
            return
        if message is None:
            return
        for follower in followers:
            follower.offer(entry.sequence, message)
            self._delivered.inc()
            if follower.writer.is_overfull:
                self._too_slow(follower.sid)

    async def _started(self) -> None:
        if not self._followers:
            self._empty_since_s = time.monotonic()
        self._wanted.set()
        if not await woken_within(self._consumer.started, READY_S):
            raise unavailable("NOT_FOLLOWING", "bets cannot be followed just now: try again in a moment")

    def _new_consumer(self) -> Consumer:
        return Consumer(None, self._redis, self._pool, self._shards, self.take)
