"""How much everybody may do: rates (token buckets) and places (how many at once).

Every decision is made here. Rates are kept together with the other gateways' through Redis: in the background each
gateway adds what was taken to a shared counter per bucket and takes out of its own bucket what the others took. While
Redis is away each gateway keeps its own limit: nobody gets through unlimited. Places are each gateway's own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import redis.asyncio as redis
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from redis.exceptions import RedisError

from betting.gateway.protocols.failures import DOMAIN, ERROR_INFO, Code, Detail, Failure
from betting.gateway.settings import GatewaySettings, Rate
from betting.runtime import logs
from betting.runtime.loops import forever
from betting.runtime.token_bucket import TokenBucket


class Bucket(TokenBucket):
    """What one user or address may still do: the capacity is the rate's burst.

    `unreported` is what was taken here and not yet told the other gateways; `seen_total` is the shared counter as last
    read, None before the first reading.
    """

    __slots__ = ("key", "seen_total", "unreported")

    def __init__(self, key: str, rate: Rate, now_s: float) -> None:
        super().__init__(rate.per_s, rate.burst, now_s)
        self.key = key
        self.unreported = 0
        self.seen_total: int | None = None

    def take(self, count: int, now_s: float) -> float:
        """As TokenBucket.take; what is taken will be told the other gateways."""
        wait_s = super().take(count, now_s)
        if wait_s == 0:
            self.unreported += count
        return wait_s

    def report(self) -> int:
        """What to add to the shared counter; the caller gives it back with `give_back` if that fails."""
        count = self.unreported
        self.unreported = 0
        return count

    def give_back(self, count: int) -> None:
        """Adds `count` tokens back to what is unreported: Redis did not take the report."""
        self.unreported += count

    def reconcile(self, reported: int, total: int) -> None:
        """Takes out what the other gateways took since the last reading, given the counter after adding `reported`.

        A counter that has gone back was lost, wholly or with the last moments before a failover of Redis: what the
        others took meanwhile is not known, and what was taken long before must not be taken again.
        """
        seen = self.seen_total
        self.seen_total = total
        if seen is None:
            return
        others = total - reported - seen
        if others > 0:
            self.tokens = max(self.tokens - others, -self.capacity)


class ConcurrencyLimit:
    """How many of something there may be at once: in all, and of one holder (an address, or a signed-in user).

    what: for the message ("requests"); of_address: the share of one address, of_user: of one user. Some things are
    taken several at once (bytes).
    """

    def __init__(self, what: str, total: int, *, of_address: int, of_user: int) -> None:
        self._what = what
        self._total = total
        self._of_address = of_address
        self._of_user = of_user
        self._held: dict[str | bytes, int] = {}
        self._taken = 0

    def __len__(self) -> int:
        return self._taken

    def held(self, holder: str | bytes) -> int:
        """How many one holder has in use."""
        return self._held.get(holder, 0)

    def take(self, holder: str | bytes, count: int = 1) -> None:
        """Takes places, all of them or none. holder: an address as text, or a user id as bytes.

        Raises Failure: UNAVAILABLE OVERLOADED when all places are taken, RESOURCE_EXHAUSTED TOO_MANY_AT_ONCE when the
        holder has its share. Both say when to come back.
        """
        held = self._held.get(holder, 0)
        most, whose = (self._of_user, "a user") if isinstance(holder, bytes) else (self._of_address, "an address")
        if held + count > most:
            message = f"{whose} may have {most} {self._what} at once: end one, or try again in a second"
            raise Failure(Code.RESOURCE_EXHAUSTED, "TOO_MANY_AT_ONCE", message, headers=_SOON)
        if self._taken + count > self._total:
            message = f"the gateway has {self._total} {self._what} and takes no more: try again in a second"
            raise Failure(Code.UNAVAILABLE, "OVERLOADED", message, headers=_SOON)
        self._held[holder] = held + count
        self._taken += count

    def give_back(self, holder: str | bytes, count: int = 1) -> None:
        """Gives places of `holder` back; KeyError when it has none."""
        held = self._held[holder] - count
        if held:
            self._held[holder] = held
        else:
            del self._held[holder]
        self._taken -= count


class BodyRoom:
    """Room in `limit` for one body, which takes it as its bytes come; given back at the end of the block."""

    def __init__(self, limit: ConcurrencyLimit, holder: str | bytes) -> None:
        self._limit = limit
        self._holder = holder
        self._taken = 0

    def take(self, count: int) -> None:
        """So many bytes more have come. Raises Failure when there is no room for them."""
        if count:
            self._limit.take(self._holder, count)
            self._taken += count

    def __enter__(self) -> BodyRoom:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._taken:
            self._limit.give_back(self._holder, self._taken)


class Turns:
    """One at a time of each holder, in the order in which they come."""

    def __init__(self) -> None:
        self._locks: dict[str | bytes, asyncio.Lock] = {}
        self._waiting: Counter[str | bytes] = Counter()

    @asynccontextmanager
    async def of(self, holder: str | bytes) -> AsyncIterator[None]:
        """A turn of this holder, for the length of a block."""
        self._waiting[holder] += 1
        try:
            async with self._locks.setdefault(holder, asyncio.Lock()):
                yield
        finally:
            self._waiting[holder] -= 1
            if not self._waiting[holder]:
                del self._waiting[holder], self._locks[holder]


class Buckets:
    """The buckets of one limit, the least recently made out first once there are too many."""

    def __init__(self, name: str, rate: Rate, capacity: int = 100_000) -> None:
        self.name = name
        self.rate = rate
        self._capacity = capacity
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def get(self, key: str, now_s: float) -> Bucket:
        """The bucket of this key, a full one for a key not seen before."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(f"{self.name}:{key}", self.rate, now_s)
        return bucket

    def worth_reporting(self, maximum: int) -> list[Bucket]:
        """Buckets with enough unreported use to matter to the other gateways, the largest first."""
        least = max(1.0, self.rate.burst * 0.05)
        busy = [bucket for bucket in self._buckets.values() if bucket.unreported >= least]
        busy.sort(key=lambda bucket: bucket.unreported, reverse=True)
        return busy[:maximum]


MAX_REPORTED_PER_ROUND: Final = 2_000
COUNTER_LIFETIME_S: Final = 120
_PREFIX: Final = "limit:"
_RETRY_INFO: Final = "google.rpc.RetryInfo"
_SOON: Final = (("Retry-After", "1"),)

_log = logs.get(__name__)


class Limiter:
    """The token buckets of this gateway, shared with the other gateways through counters in Redis."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._money = Buckets("money", settings.money_rate)
        self._reads = Buckets("reads", settings.read_rate)
        self._addresses = Buckets("address", settings.address_rate)
        self._sign_ins = Buckets("sign-in", settings.sign_in_rate)
        self._tables = (self._money, self._reads, self._addresses, self._sign_ins)
        self._interval_s = settings.limits_sync_interval.total_seconds()

    def money(self, user: str) -> Bucket:
        """The bucket of one user's bets, deposits and withdrawals (`money_rate`)."""
        return self._money.get(user, time.monotonic())

    def reads(self, user: str) -> Bucket:
        """The bucket of one user's other calls (`read_rate`)."""
        return self._reads.get(user, time.monotonic())

    def address(self, address: str) -> Bucket:
        """The bucket of all requests of one remote address (`address_rate`)."""
        return self._addresses.get(address, time.monotonic())

    def sign_ins(self, address: str) -> Bucket:
        """Registering, logging in and refreshing from one remote address."""
        return self._sign_ins.get(address, time.monotonic())

    async def run(self, client: redis.Redis) -> None:
        """Keeps together with the other gateways; runs for the life of the process."""
        await forever(
            lambda: self.sync(client),
            every_s=self._interval_s,
            first_after_s=self._interval_s,
            log=_log,
            event="rate limits not shared",
            failures=(RedisError, OSError, TimeoutError),
        )

    async def sync(self, client: redis.Redis) -> int:
        """One exchange with Redis; returns how many buckets took part. Raises what the client raises."""
        buckets = [bucket for table in self._tables for bucket in table.worth_reporting(MAX_REPORTED_PER_ROUND)]
        if not buckets:
            return 0
        reports = [bucket.report() for bucket in buckets]
        pipeline = client.pipeline(transaction=False)
        for bucket, count in zip(buckets, reports, strict=True):
            pipeline.incrby(_PREFIX + bucket.key, count)
            pipeline.expire(_PREFIX + bucket.key, COUNTER_LIFETIME_S)
        try:
            totals = (await pipeline.execute())[::2]
        except BaseException:
            for bucket, count in zip(buckets, reports, strict=True):
                bucket.give_back(count)
            raise
        for bucket, count, total in zip(buckets, reports, totals, strict=True):
            bucket.reconcile(count, int(total))
        return len(buckets)


def check(bucket: Bucket, count: int, what: str) -> None:
    """Takes `count` from the bucket; raises Failure RESOURCE_EXHAUSTED RATE_LIMITED that says when to come back."""
    wait_s = bucket.take(count, time.monotonic())
    if wait_s > 0:
        raise _limited(wait_s, f"{what}: {bucket.per_s:g} a second and {bucket.capacity:g} at once are allowed")


def _limited(wait_s: float, what: str) -> Failure:
    whole_s = max(1, math.ceil(wait_s))
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain=DOMAIN)
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=whole_s))
    return Failure(
        Code.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
        f"too many {what}; nothing was done, try again in {whole_s} s",
        details=(Detail(ERROR_INFO, info.SerializeToString()), Detail(_RETRY_INFO, retry.SerializeToString())),
        headers=(("Retry-After", str(whole_s)),),
    )
