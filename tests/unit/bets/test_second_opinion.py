"""A version that cannot load shards does not stop more than a few of them; a shard that nobody can load stops alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betting.bets import claims, second_opinion
from betting.bets.second_opinion import FROZEN_MAX, Loads
from betting.journal.directory import InstanceRow, Observed, ShardRow

ORPHANED_AFTER_S = 10.0


@dataclass
class Life:
    """One instance. reads: whether its version can load a shard."""

    row: InstanceRow
    reads: Callable[[int], bool]
    loads: Loads
    owns_nothing: bool = False


class Directory:
    """What the database would say, and what became of it. Instances follow `claims.plan` and `second_opinion`."""

    def __init__(self, shards: int, owner: str | None) -> None:
        state = "owned" if owner else "free"
        self.shards = [ShardRow(shard, owner, owner, 1, state, owner, "") for shard in range(shards)]
        self.lives: dict[str, Life] = {}
        self.healer_beat_s: float | None = None

    def start(self, name: str, generation: int, reads: Callable[[int], bool] = lambda _: True) -> None:
        self.lives[name] = Life(InstanceRow(name, name, (1,), 0.1, False, False, generation, 3.0), reads, Loads())

    def change(self, name: str, **changed: object) -> None:
        self.lives[name].row = self.lives[name].row._replace(**changed)

    @property
    def seen(self) -> Observed:
        return Observed(tuple(self.shards), tuple(life.row for life in self.lives.values()), self.healer_beat_s)

    def states(self) -> Counter[str]:
        return Counter(row.state for row in self.shards)

    def held(self) -> Counter[str | None]:
        return Counter(row.owner for row in self.shards if row.state == "owned")

    def look(self, me: str, *, leaving: bool = False) -> bool:
        """As `Ownership._look_once`. leaving: it drains because its process stops. False: there was nothing to do."""
        life, seen = self.lives[me], self.seen
        life.loads.forget_unfrozen(seen.shards)
        life.owns_nothing = life.loads.exhausted or second_opinion.owns_nothing(me, seen, ORPHANED_AFTER_S)
        aside = leaving or life.owns_nothing
        self.change(me, draining=aside)
        inputs = claims.ClaimInputs(me, seen.shards, self.seen.instances, seen.healer_beat_age_s, (), aside)
        plan = claims.plan(inputs, ORPHANED_AFTER_S)
        for move in plan.hand_over:
            if move.to is not None:
                self.write(move.shard, owner=None, state="free", desired_owner=move.to)
        for row in (*plan.claim, *plan.steal):
            if not life.owns_nothing:
                self.take(me, row.shard)
        return bool(plan.claim or plan.steal or any(move.to for move in plan.hand_over))

    def take(self, me: str, shard: int) -> None:
        """As `Loader`."""
        life = self.lives[me]
        self.write(shard, owner=me, state="owned", epoch=self.shards[shard].epoch + 1)
        if life.reads(shard):
            life.loads.succeeded(shard)
            return
        life.loads.failed.add(shard)
        other = second_opinion.whom_to_ask(me, shard, self.seen, ORPHANED_AFTER_S)
        if other is None:
            self.write(shard, state="frozen")
            life.loads.frozen[shard] = self.shards[shard].epoch
            life.owns_nothing = life.loads.exhausted
        else:
            self.change(me, draining=True, refused=shard)
            self.write(shard, owner=None, state="free", desired_owner=other)
            life.owns_nothing = True

    def write(self, shard: int, **changed: object) -> None:
        self.shards[shard] = self.shards[shard]._replace(**changed)

    def unfreeze(self) -> None:
        """As `betting unfreeze --all`."""
        for row in self.shards:
            if row.state == "frozen":
                self.write(row.shard, owner=None, state="free", epoch=row.epoch + 1)

    def settle(self, *leaving: str) -> None:
        for _ in range(3_000):
            looks = [self.look(name, leaving=name in leaving) for name in self.lives]
            if not any(looks):
                return
        raise AssertionError("shards are moved for ever")


def nothing(_shard: int) -> bool:
    return False


def test_a_version_that_reads_nothing_stops_no_shard_while_another_version_serves() -> None:
    """A giver of 1,024 drains: the newest one fails at its first, and all go to the healthy one."""
    world = Directory(1_024, "a")
    world.start("a", 1)
    world.start("b", 2, nothing)
    world.start("c", 1)
    world.settle("a")
    assert world.states() == {"owned": 1_024}
    assert world.held() == {"c": 1_024}
    assert world.lives["b"].row.draining


def test_a_version_that_reads_nothing_stops_a_few_shards_where_nobody_can_be_asked() -> None:
    """The only other one is leaving: it keeps what the new one does not take."""
    world = Directory(1_024, "a")
    world.start("a", 1)
    world.start("b", 2, nothing)
    world.settle("a")
    assert world.states()["frozen"] == FROZEN_MAX
    world.start("c", 3)
    world.settle("a")
    assert world.states() == {"owned": 1_024 - FROZEN_MAX, "frozen": FROZEN_MAX}


@pytest.mark.parametrize("shards", [3, 16])
def test_an_instance_takes_shards_again_once_what_it_froze_is_unfrozen(shards: int) -> None:
    """Alone, and the first three it was given were bad: after their repair it serves all, is ready, and says so."""
    world = Directory(shards, None)
    bad = {0, 1, 2}
    world.start("a", 1, lambda shard: shard not in bad)
    world.settle()
    assert world.states() == Counter({"frozen": 3, "free": shards - 3})
    assert world.lives["a"].loads.mostly_fail
    bad.clear()
    world.unfreeze()
    world.settle()
    assert world.states() == {"owned": shards}
    assert not world.lives["a"].loads.mostly_fail
    assert not world.lives["a"].row.draining


def test_a_repair_of_one_of_them_is_enough() -> None:
    """Two are still frozen: that is no reason to take nothing."""
    world = Directory(16, None)
    bad = {0, 1, 2}
    world.start("a", 1, lambda shard: shard not in bad)
    world.settle()
    bad.discard(1)
    world.write(1, owner=None, state="free", epoch=world.shards[1].epoch + 1)
    world.settle()
    assert world.states() == {"owned": 14, "frozen": 2}
    assert not world.lives["a"].loads.mostly_fail


def test_unfreezing_without_a_repair_stops_no_more_shards_than_before() -> None:
    """A version that reads nothing, unfrozen again and again."""
    world = Directory(16, None)
    world.start("a", 1, nothing)
    for _ in range(5):
        world.settle()
        assert world.states() == {"frozen": FROZEN_MAX, "free": 16 - FROZEN_MAX}
        assert world.lives["a"].loads.exhausted
        world.unfreeze()


def test_what_was_read_before_a_shard_was_frozen_forgets_nothing() -> None:
    """The directory as it was when the instance took the shard, or while it is frozen."""
    world = Directory(4, None)
    world.start("a", 1, nothing)
    world.take("a", 0)
    frozen = world.shards[0]
    loads = world.lives["a"].loads
    loads.forget_unfrozen([frozen._replace(state="owned")])
    loads.forget_unfrozen([frozen])
    assert (loads.failed, loads.frozen) == ({0}, {0: frozen.epoch})
    loads.forget_unfrozen([frozen._replace(owner=None, state="free", epoch=frozen.epoch + 1)])
    assert (loads.failed, loads.frozen) == (set(), {})


@settings(deadline=None)
@given(
    shards=st.integers(1, 120),
    good=st.integers(1, 3),
    bad=st.integers(1, 3),
    unreadable=st.integers(1, 4),
    roll=st.booleans(),
)
def test_however_many_shards_a_version_cannot_read_none_stops(
    shards: int, good: int, bad: int, unreadable: int, roll: bool
) -> None:
    """Every n-th of them; they end at instances that can, whoever held them before."""
    world = Directory(shards, "old-0")
    world.start("old-0", 1)
    for number in range(1, good + 1):
        world.start(f"old-{number}", 1)
    for number in range(bad):
        world.start(f"new-{number}", 2, lambda shard: shard % unreadable != 0)
    world.settle(*(["old-0"] if roll else []))
    assert world.states() == {"owned": shards}
    for row in world.shards:
        assert world.lives[row.owner or ""].reads(row.shard)


@pytest.mark.parametrize("generations", [(1, 1), (1, 2), (2, 1)])
def test_a_shard_that_nobody_can_read_stops_alone(generations: tuple[int, int]) -> None:
    """At once where there is one version, after both have tried where there are two; both then serve the others."""
    world = Directory(16, "a")
    for name, generation in zip("ab", generations, strict=True):
        world.start(name, generation, lambda shard: shard != 5)
    world.write(5, owner=None, state="free", desired_owner=None)
    world.settle()
    for name in "ab":
        world.change(name, age_s=500.0)  # no roll lasts that long
    world.settle()
    assert [row.shard for row in world.shards if row.state == "frozen"] == [5]
    assert world.held() == {"a": 8, "b": 7} or world.held() == {"a": 7, "b": 8}


def test_who_is_asked_is_of_a_generation_that_has_not_failed_and_takes_shards() -> None:
    """Not the dead, the draining, its own kind, or one that has said the same."""
    world = Directory(4, None)
    for name, generation in (("a", 2), ("b", 2), ("c", 1), ("d", 3)):
        world.start(name, generation)
    assert second_opinion.whom_to_ask("a", 0, world.seen, ORPHANED_AFTER_S) == "d"
    world.change("d", draining=True)
    assert second_opinion.whom_to_ask("a", 0, world.seen, ORPHANED_AFTER_S) == "c"
    world.change("c", beat_age_s=11.0)
    assert second_opinion.whom_to_ask("a", 0, world.seen, ORPHANED_AFTER_S) is None
    world.change("c", beat_age_s=0.1, refused=0)
    assert second_opinion.whom_to_ask("a", 0, world.seen, ORPHANED_AFTER_S) is None
    assert second_opinion.whom_to_ask("a", 1, world.seen, ORPHANED_AFTER_S) == "c"


def test_what_was_refused_is_loaded_again_when_nobody_else_is_left_to_try() -> None:
    """The one that was asked is gone before it took the shard: it is frozen then, and the others are served."""
    world = Directory(8, "a")
    world.start("a", 1)
    world.start("b", 2, lambda shard: shard != 0)
    world.write(0, owner=None, state="free", desired_owner="b")
    world.look("b")
    assert (world.shards[0].desired_owner, world.lives["b"].row.refused) == ("a", 0)
    world.change("a", exited=True)
    del world.lives["a"]
    world.settle()
    assert world.states() == {"owned": 7, "frozen": 1}


def test_a_new_version_tries_shards_of_another_one_only() -> None:
    """Of the living: its own kind proves nothing, and the dead serve nobody."""
    world = Directory(3, "a")
    for name, generation in (("a", 1), ("b", 2), ("c", 2)):
        world.start(name, generation)
    world.write(1, owner="c")
    assert [row.shard for row in second_opinion.to_rehearse("b", world.seen, ORPHANED_AFTER_S)] == [0, 2]
    world.change("a", exited=True)
    assert second_opinion.to_rehearse("b", world.seen, ORPHANED_AFTER_S) == []
