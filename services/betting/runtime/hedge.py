"""When to send a slow read a second time: after the 95th percentile of what was seen lately. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 256
SAMPLES_MIN = 20
REFRESH_EVERY = 16


@dataclass(frozen=True, slots=True)
class LatencyStatistics:
    """Recent latencies of one method in seconds; `p95_s` is None until enough were seen."""

    samples: int
    p95_s: float | None


class LatencyWindow:
    """The last 256 latencies of one method; the percentile is worked out anew every 16 observations."""

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._count = 0
        self._p95_s: float | None = None

    def observe(self, seconds: float) -> None:
        """Counts a call that succeeded."""
        if len(self._ring) < WINDOW:
            self._ring.append(seconds)
        else:
            self._ring[self._count % WINDOW] = seconds
        self._count += 1
        if self._count >= SAMPLES_MIN and (self._p95_s is None or self._count % REFRESH_EVERY == 0):
            self._p95_s = _percentile(sorted(self._ring))

    def hedge_after_s(self, remaining_s: float | None) -> float | None:
        """Seconds to wait before the second attempt, or None: not enough seen, or the deadline comes first."""
        if self._p95_s is None or (remaining_s is not None and self._p95_s >= remaining_s):
            return None
        return self._p95_s

    def statistics(self) -> LatencyStatistics:
        """The figures, frozen."""
        return LatencyStatistics(len(self._ring), self._p95_s)


def _percentile(ascending: list[float]) -> float:
    """Nearest rank: the smallest value with at least 95 % of all at or below it."""
    rank = -(-len(ascending) * 95 // 100)
    return ascending[rank - 1]
