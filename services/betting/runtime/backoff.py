"""Pauses between attempts to reach something at start-up. Pure."""

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
