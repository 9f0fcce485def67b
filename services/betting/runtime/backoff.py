"""Pauses between attempts, doubling up to a maximum. Pure."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_PAUSE_S = 0.05
PAUSE_MAX_S = 0.5


def pauses_s(first_s: float = FIRST_PAUSE_S, maximum_s: float = PAUSE_MAX_S) -> Iterator[float]:
    """Endless pauses, doubling up to a maximum that lets a service be back well within two seconds of its database."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(maximum_s, pause_s * 2)


def jittered(pause_s: float, random_unit: float) -> float:
    """Between half the pause and all of it, so that many do not come back in step; `random_unit` in [0, 1)."""
    return pause_s * (1 + random_unit) / 2
