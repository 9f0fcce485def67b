"""What one bet-service process is: its name, the shards it owns, and the parts they share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from betting.bets.book import PriceBook
from betting.bets.clock import DatabaseClock
from betting.bets.committer import Committer
from betting.bets.shard import OwnedShard
from betting.engine.prices import Limits
from betting.runtime.clock import US_PER_S
from betting.runtime.token_bucket import TokenBucket

MAX_ACCOUNTS_WATCHED = 100_000


class RefusalLimit:
    """Recorded refusals are entries, and entries cost: each account may cause so many, then waits.

    A token bucket per account, filled with time. Accounts that are never refused cost nothing.
    """

    def __init__(self, burst: int = 20, per_second: float = 2.0) -> None:
        self.burst = burst
        self.per_second = per_second
        self._buckets: dict[bytes, TokenBucket] = {}

    def __bool__(self) -> bool:
        """Whether any account has been refused at all."""
        return bool(self._buckets)

    def blocked(self, account: bytes, now_us: int) -> bool:
        """Whether this account has used up its refusals. `account` is user + currency."""
        bucket = self._buckets.get(account)
        return bucket is not None and bucket.wait_s(1, now_us / US_PER_S) > 0

    def wait_s(self, account: bytes, now_us: int) -> int:
        """Whole seconds until this account may be refused again; at least 1."""
        bucket = self._buckets.get(account)
        return 1 if bucket is None else max(1, math.ceil(bucket.wait_s(1, now_us / US_PER_S)))

    def record(self, account: bytes, now_us: int) -> None:
        """Counts one recorded refusal."""
        bucket = self._buckets.get(account)
        if bucket is None:
            if len(self._buckets) >= MAX_ACCOUNTS_WATCHED:
                self._forget_full(now_us)
            bucket = self._buckets[account] = TokenBucket(self.per_second, self.burst, now_us / US_PER_S)
        bucket.debit(1, now_us / US_PER_S)

    def _forget_full(self, now_us: int) -> None:
        full = [a for a, bucket in self._buckets.items() if bucket.level(now_us / US_PER_S) >= self.burst]
        for account in full or list(self._buckets)[: MAX_ACCOUNTS_WATCHED // 10]:
            del self._buckets[account]


@dataclass(slots=True)
class Instance:
    """`name` is instance name and boot id: a restart never inherits an epoch."""

    name: str
    address: str
    shard_count: int
    clock: DatabaseClock
    book: PriceBook
    limits: Limits
    committer: Committer
    refusal_limit: RefusalLimit = field(default_factory=RefusalLimit)
    shards: dict[int, OwnedShard] = field(default_factory=dict)
    bets_accepted: int = 0
    calls: int = 0  # that asked for shards, so far
    draining: bool = False
