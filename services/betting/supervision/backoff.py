"""How long to wait before a process is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.1
MAX_S = 10.0
JITTER = 0.2
HEALTHY_S = 20.0
_DOUBLINGS_MAX = 10


@dataclass
class Backoff:
    """Doubles from 0.1 s to 10 s, ±20 %; begins anew after a life of 20 s, so one crash a day costs 0.1 s."""

    failures: int = 0

    def next_delay_s(self, uptime_s: float, draw: float) -> float:
        """The wait after a life of `uptime_s`; `draw` is a random number in [0, 1)."""
        if uptime_s >= HEALTHY_S:
            self.failures = 0
        delay_s = min(MAX_S, FIRST_S * (1 << min(self.failures, _DOUBLINGS_MAX)))
        self.failures += 1
        return delay_s * (1 + JITTER * (2 * draw - 1))
