"""The gateway's rate limits, and keeping them together with the other gateways' through Redis.

Every decision is made here, from local buckets. In the background each gateway adds what was taken to a shared counter
per bucket and takes out of its own bucket what the others took. While Redis is away each gateway keeps its own limit:
nobody gets through unlimited.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

import redis.asyncio as redis
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from redis.exceptions import RedisError

from betting.gateway.limits import Bucket, Buckets
from betting.gateway.protocols.codes import Code
from betting.gateway.protocols.failures import DOMAIN, ERROR_INFO, Detail, Failure
from betting.gateway.settings import GatewaySettings
from betting.runtime import logs

MAX_REPORTED_PER_ROUND: Final = 2_000
COUNTER_LIFETIME_S: Final = 120
_PREFIX: Final = "limit:"
_RETRY_INFO: Final = "google.rpc.RetryInfo"

_log = logs.get(__name__)


class Limiter:
    """All buckets of this gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._money = Buckets("money", settings.money_rate)
        self._reads = Buckets("reads", settings.read_rate)
        self._addresses = Buckets("address", settings.address_rate)
        self._sign_ins = Buckets("sign-in", settings.sign_in_rate)
        self._tables = (self._money, self._reads, self._addresses, self._sign_ins)
        self._interval_s = settings.limits_sync_interval.total_seconds()
        self.together = False

    def money(self, user: str) -> Bucket:
        """Bets, deposits and withdrawals of one user."""
        return self._money.get(user, time.monotonic())

    def reads(self, user: str) -> Bucket:
        """Everything else of one user."""
        return self._reads.get(user, time.monotonic())

    def address(self, address: str) -> Bucket:
        """All requests of one remote address."""
        return self._addresses.get(address, time.monotonic())

    def sign_ins(self, address: str) -> Bucket:
        """Registering, logging in and refreshing from one remote address."""
        return self._sign_ins.get(address, time.monotonic())

    async def run(self, client: redis.Redis) -> None:
        """Keeps together with the other gateways; runs for the life of the process."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.sync(client)
                self.together = True
            except (RedisError, OSError, TimeoutError) as error:
                if self.together:
                    _log.warning("rate limits not shared: each gateway keeps its own", error=str(error))
                self.together = False

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
        raise _limited(wait_s, f"{what}: {bucket.per_s:g} a second and {bucket.burst:g} at once are allowed")


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
