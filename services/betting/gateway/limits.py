"""Token buckets: who may do how much. Pure; time comes in as seconds on any steady scale."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit: so many a second on average, so many at once."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError(f"a rate needs per_s above 0 and a burst of at least 1, not {self.per_s} and {self.burst}")


class Bucket:
    """What one user or address may still do.

    `unreported` is what was taken here and not yet told the other gateways; `seen_total` is the shared counter as last
    read, None before the first reading.
    """

    __slots__ = ("_at_s", "burst", "key", "per_s", "seen_total", "tokens", "unreported")

    def __init__(self, key: str, rate: Rate, now_s: float) -> None:
        self.key = key
        self.per_s = rate.per_s
        self.burst = rate.burst
        self.tokens = rate.burst
        self._at_s = now_s
        self.unreported = 0
        self.seen_total: int | None = None

    def take(self, count: int, now_s: float) -> float:
        """Takes `count` tokens and returns 0, or takes none and returns the seconds until they are there."""
        tokens = self.tokens + (now_s - self._at_s) * self.per_s
        self._at_s = now_s
        tokens = min(tokens, self.burst)
        if tokens >= count or tokens >= self.burst:
            # A request larger than the burst is let through by a full bucket, and paid off afterwards.
            self.tokens = tokens - count
            self.unreported += count
            return 0.0
        self.tokens = tokens
        return (min(count, self.burst) - tokens) / self.per_s

    def report(self) -> int:
        """What to add to the shared counter; the caller gives it back with `give_back` if that fails."""
        count = self.unreported
        self.unreported = 0
        return count

    def give_back(self, count: int) -> None:
        """A report that did not arrive."""
        self.unreported += count

    def reconcile(self, reported: int, total: int) -> None:
        """Takes out what the other gateways took since the last reading, given the counter after adding `reported`."""
        seen = self.seen_total
        self.seen_total = total
        if seen is None:
            return
        others = total - reported - (seen if total >= seen + reported else 0)
        if others > 0:
            self.tokens = max(self.tokens - others, -self.burst)


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
