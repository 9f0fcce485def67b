"""What the healer's flight record says of a time: read by the demo and the quiet runs."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Tick(NamedTuple):
    """One tick of the healer, as far as drills ask. wall_us: microseconds since 1970.

    confirmed: (diagnosis, target) of what was confirmed, moves for balance left out: they go on long after whatever
    made them necessary. diagnoses: certainty and kind, in words. destructive: actions that harm what is well, in words.
    """

    wall_us: int
    confirmed: frozenset[tuple[str, str]]
    diagnoses: tuple[str, ...]
    destructive: tuple[str, ...]


# Every tick so far, oldest first. Given by who knows the healer: drills only break things and measure.
ReadTicks = Callable[[], Iterable[Tick]]


def detections_s(ticks: Iterable[Tick], faults_us: Sequence[int]) -> list[float | None]:
    """For moments in ascending order (microseconds since 1970): seconds until something new was confirmed, or None.

    What was confirmed after the next moment is the next one's.
    """
    found: list[float | None] = [None] * len(faults_us)
    standing: frozenset[tuple[str, str]] = frozenset()
    for tick in ticks:
        number = bisect.bisect_right(faults_us, tick.wall_us) - 1
        if number >= 0 and found[number] is None and tick.confirmed - standing:
            found[number] = (tick.wall_us - faults_us[number]) / 1e6
        standing = tick.confirmed
    return found
