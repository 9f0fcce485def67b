"""What an instance may conclude from what it sees: nothing from beats it could not see, no bets by a clock that is off,
and that a receiver that takes nothing is given nothing.

Pure; times in seconds of this machine's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from betting.journal.directory import InstanceRow, ShardRow

# Beats come every second, and who was cut off has to connect first.
GRACE_S = 2.0
# A look that took this long was an outage, also when it was answered in the end.
SLOW_LOOK_S = 1.0
# Whose own beats did not arrive (the database took no writes, or this process was stopped) cannot judge others'.
OWN_BEAT_LATE_S = 3.0
MAX_WALL_ERROR_US = 2_000_000
# A receiver takes a group in tenths of a second. Less than the healer waits before it places the shards on another.
REFUSED_AFTER_S = 4.0
# Less than the healer keeps such a receiver from getting shards: what it wants again is not refused any more.
REFUSED_FOR_S = 20.0


class DirectoryView:
    """Since when the directory could be read without a gap. After one, beats count again when a grace has passed."""

    def __init__(self) -> None:
        self._void_until_s = float("-inf")
        self._receivers = Receivers()

    def failed(self, now_s: float) -> None:
        """Records that the directory could not be read."""
        self._void_until_s = now_s + GRACE_S

    def looked(
        self, began_s: float, now_s: float, own_beat_age_s: float = 0.0, shards: Sequence[ShardRow] = ()
    ) -> None:
        """Records a successful read, with what it found. own_beat_age_s: the age of our own heartbeat, in seconds."""
        if now_s - began_s > SLOW_LOOK_S or own_beat_age_s > OWN_BEAT_LATE_S:
            self.failed(now_s)
        self._receivers.looked(shards, now_s, void=self.beats_void(now_s))

    def beats_void(self, now_s: float) -> bool:
        return now_s < self._void_until_s

    def limits(self, now_s: float) -> dict[str, int]:
        """See `Receivers.limits`."""
        return self._receivers.limits(now_s)


class Receivers:
    """Which instances do not take what is released for them, though they beat: shards given to them serve nobody.

    One that has taken none of its shards for REFUSED_AFTER_S is given nothing for REFUSED_FOR_S, and then one shard at
    a time, until it takes one.
    """

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}
        self._waiting: dict[tuple[int, int, str], float] = {}  # shard, epoch, receiver: released since
        self._refused_at_s: dict[str, float] = {}

    def looked(self, shards: Sequence[ShardRow], now_s: float, *, void: bool = False) -> None:
        """Records a look at the directory. void: nobody may have been able to read or write it until now."""
        took = {row.owner for row in shards if row.epoch > self._epochs.get(row.shard, -1)}
        self._epochs = {row.shard: row.epoch for row in shards}
        waiting: dict[tuple[int, int, str], float] = {}
        for row in shards:
            to = row.desired_owner
            if row.state == "free" and to is not None:
                known = (row.shard, row.epoch, to)
                since_s = now_s if void or to in took else self._waiting.get(known, now_s)
                waiting[known] = since_s
                if now_s - since_s >= REFUSED_AFTER_S:
                    self._refused_at_s[to] = now_s
        self._waiting = waiting
        self._refused_at_s = {to: at_s for to, at_s in self._refused_at_s.items() if to not in took}

    def limits(self, now_s: float) -> dict[str, int]:
        """How many shards each of them is given at once, 0 or 1. Who is not in it takes what it is given."""
        return {to: int(now_s - at_s >= REFUSED_FOR_S) for to, at_s in self._refused_at_s.items()}


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
