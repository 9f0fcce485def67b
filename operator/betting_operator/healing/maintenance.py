"""Maintenance windows: when planned work may be begun. Weekly, in UTC, as the windows of RDS and EKS are.

Repairs are never held by them: they are what a platform does when something fails, at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTES_PER_DAY = 24 * 60
_MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY
_EPOCH_DAY = DAYS.index("Thursday")  # 1970-01-01


@dataclass(frozen=True, slots=True)
class Window:
    """Begins on each of these days, start_min minutes after midnight UTC, and may last into the next day."""

    days: tuple[str, ...]
    start_min: int
    duration_min: int


def why_held(windows: Collection[Window], wall_s: int) -> str:
    """Why planned work may not be begun now; "" when it may: inside of a window, or where there are none.

    wall_s: seconds since 1970.
    """
    minute = (wall_s // 60 + _EPOCH_DAY * MINUTES_PER_DAY) % _MINUTES_PER_WEEK
    openings = [(opening, window) for window in windows for opening in _openings(window)]
    if not openings or any((minute - opening) % _MINUTES_PER_WEEK < each.duration_min for opening, each in openings):
        return ""
    opening = min((opening for opening, _each in openings), key=lambda each: (each - minute) % _MINUTES_PER_WEEK)
    return f"outside of the maintenance windows: the next opens on {_named(opening)} UTC"


def _openings(window: Window) -> Iterator[int]:
    """In minutes after Monday, 00:00."""
    for day in window.days:
        yield DAYS.index(day) * MINUTES_PER_DAY + window.start_min


def _named(minute: int) -> str:
    day, rest = divmod(minute, MINUTES_PER_DAY)
    return f"{DAYS[day]} at {rest // 60:02}:{rest % 60:02}"
