"""A shard whose journal does not replay: is the shard at fault, or the version that loads it? Pure.

An instance that cannot load a shard asks one of another generation, a live one that takes shards: it releases the shard
to that one, says so in its own row (`InstanceRow.refused`), owns nothing and is not ready from then on. If the other
loads the shard, it stays so: this version is at fault, and the roll stops here. If every generation there is has
failed, the shard is frozen, as where there is only one generation, and the instances go on with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from betting.bets import claims
from betting.journal.directory import Observed, ShardRow

# An instance that has frozen so many shards, and could not load more than it has loaded, takes no more until somebody
# unfreezes one: with nobody to ask, too, a version that can read nothing freezes no more than these.
FROZEN_MAX = 3


@dataclass(slots=True)
class Loads:
    """What became of the shards that this life tried to load.

    loaded: how many it could. failed: those that it could not. frozen: those of them that it has frozen, because nobody
    else was there to try, and the epoch of each.
    """

    loaded: int = 0
    failed: set[int] = field(default_factory=set)
    frozen: dict[int, int] = field(default_factory=dict)

    def succeeded(self, shard: int) -> None:
        """It is loaded."""
        self.loaded += 1
        self.failed.discard(shard)

    def forget_unfrozen(self, shards: Iterable[ShardRow]) -> None:
        """Who unfreezes a shard says that its cause is gone: it tells nothing about this version any more.

        Nothing else raises the epoch of a frozen shard.
        """
        for row in shards:
            if row.epoch > self.frozen.get(row.shard, row.epoch):
                del self.frozen[row.shard]
                self.failed.discard(row.shard)

    @property
    def mostly_fail(self) -> bool:
        """Then it is not ready: it is more likely this version than the shards."""
        return len(self.failed) > self.loaded

    @property
    def exhausted(self) -> bool:
        """Then it takes no more shards."""
        return self.mostly_fail and len(self.frozen) >= FROZEN_MAX


def whom_to_ask(me: str, shard: int, seen: Observed, orphaned_after_s: float) -> str | None:
    """Who is to load this shard, which `me` could not. None: nobody is left to ask, it is to be frozen."""
    generations = {each.life: each.generation for each in seen.instances}
    failed = {each.generation for each in seen.instances if each.refused == shard} | {generations.get(me, 0)}
    able = {life for life in _able(me, seen, orphaned_after_s) if generations[life] not in failed}
    return claims.least_loaded(seen.shards, seen.instances, able) or None


def owns_nothing(me: str, seen: Observed, orphaned_after_s: float) -> bool:
    """Whether `me` has refused a shard, and that the shard is at fault is not known."""
    refused = next((each.refused for each in seen.instances if each.life == me), None)
    row = next((each for each in seen.shards if each.shard == refused), None)
    if row is None or row.state not in ("free", "owned"):
        return False
    if row.owner not in (None, me):
        return True
    return bool(_able(me, seen, orphaned_after_s))


def to_rehearse(me: str, seen: Observed, orphaned_after_s: float) -> list[ShardRow]:
    """Shards that instances of another generation serve now: `me` must be able to load them too."""
    generations = {each.life: each.generation for each in seen.instances}
    mine = generations.get(me, 0)
    lives = {i.life for i in seen.instances if not i.exited and i.beat_age_s <= orphaned_after_s}
    return [
        row
        for row in seen.shards
        if row.state == "owned" and row.owner in lives and generations[row.owner or ""] != mine
    ]


def _able(me: str, seen: Observed, orphaned_after_s: float) -> Sequence[str]:
    """Everybody else who takes shards."""
    return [
        each.life
        for each in seen.instances
        if each.life != me and not each.exited and not each.draining and each.beat_age_s <= orphaned_after_s
    ]
