"""A token bucket: so many a second on average, so many at once. Pure: the time is passed in."""

from __future__ import annotations


class TokenBucket:
    """Holds at most `capacity` tokens, starts full, and gains `per_s` tokens a second.

    now_s: seconds of a clock of the caller's, always the same one; a time before an earlier one adds nothing. `tokens`
    is what was there at the latest of these times. It is below zero while there is a debt, which time pays off first.
    """

    __slots__ = ("_at_s", "capacity", "per_s", "tokens")

    def __init__(self, per_s: float, capacity: float, now_s: float) -> None:
        assert per_s > 0
        assert capacity >= 1
        self.per_s = per_s
        self.capacity = capacity
        self.tokens = float(capacity)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """The tokens there are now; below zero: the debt."""
        if now_s > self._at_s:
            self.tokens = min(self.capacity, self.tokens + (now_s - self._at_s) * self.per_s)
            self._at_s = now_s
        return self.tokens

    def wait_s(self, count: int, now_s: float) -> float:
        """Seconds until `take` would give this many tokens; 0: it would now."""
        missing = min(count, self.capacity) - self.level(now_s)
        return missing / self.per_s if missing > 0 else 0.0

    def take(self, count: int, now_s: float) -> float:
        """Takes `count` tokens and returns 0, or takes none and returns the seconds to wait.

        A full bucket gives more than its capacity, on debt: otherwise such a request would be refused for ever.
        """
        wait_s = self.wait_s(count, now_s)
        if wait_s == 0:
            self.tokens -= count
        return wait_s

    def debit(self, count: int, now_s: float) -> None:
        """Takes `count` tokens whether or not they are there."""
        self.tokens = self.level(now_s) - count

    def credit(self, count: float) -> None:
        """Puts in `count` tokens, as far as they fit."""
        self.tokens = min(self.capacity, self.tokens + count)
