"""What an instance may conclude from what it sees: nothing from beats it could not see, no bets by a clock that is off.

Pure; times in seconds of this machine's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from betting.journal.directory import InstanceRow

# Beats come every second, and who was cut off has to connect first.
GRACE_S = 2.0
# A look that took this long was an outage, also when it was answered in the end.
SLOW_LOOK_S = 1.0
# Whose own beats did not arrive (the database took no writes, or this process was stopped) cannot judge others'.
OWN_BEAT_LATE_S = 3.0
MAX_WALL_ERROR_US = 2_000_000


class DirectoryView:
    """Since when the directory could be read without a gap. After one, beats count again when a grace has passed."""

    def __init__(self) -> None:
        self._void_until_s = float("-inf")

    def failed(self, now_s: float) -> None:
        """Records that the directory could not be read."""
        self._void_until_s = now_s + GRACE_S

    def looked(self, began_s: float, now_s: float, own_beat_age_s: float = 0.0) -> None:
        """Records a successful read. own_beat_age_s: the age of our own heartbeat in it, in seconds."""
        if now_s - began_s > SLOW_LOOK_S or own_beat_age_s > OWN_BEAT_LATE_S:
            self.failed(now_s)

    def beats_void(self, now_s: float) -> bool:
        return now_s < self._void_until_s


def should_step_aside(me: str, wall_error_us: int, instances: Sequence[InstanceRow], orphaned_after_s: float) -> bool:
    """Whether this instance should own nothing because its wall clock is off: if there is anybody else.

    When all are off (then it is the database's clock), the first by name of those alive stays: somebody has to.
    """
    if abs(wall_error_us) <= MAX_WALL_ERROR_US:
        return False
    others = [i for i in instances if i.life != me and not i.exited and i.beat_age_s <= orphaned_after_s]
    return _somebody_able(others) or any(i.life < me for i in others)


def _somebody_able(instances: Collection[InstanceRow]) -> bool:
    return any(not i.draining for i in instances)
