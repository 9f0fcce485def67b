"""Instances and the healer, each deciding by itself from what it has read, bring every shard to rest on one of them.

Only the decisions are real here (`bets.claims`, `placement`, the healer's placement); the directory is a list.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from betting.bets import claims
from betting.journal.directory import InstanceRow, ShardRow
from betting.life import Life
from betting.placement import Candidate
from betting_operator.healing import placement as healer_placement
from betting_operator.healing.signals import BET_SERVICE, Owner, Shard

ORPHANED_AFTER_S = 10.0
HEALER_SILENT_AFTER_MS = 3_000
ROUNDS_MAX = 600

Seen = tuple[tuple[ShardRow, ...], tuple[InstanceRow, ...]]


@dataclass
class Instance:
    """One life; it beats while it is alive and not stopped (SIGSTOP)."""

    generation: int
    started_s: float
    beat_s: float
    draining: bool = False
    exited: bool = False  # somebody saw it end
    alive: bool = True
    stopped: bool = False
    memory: list[int] = field(default_factory=list)


class World:
    """A history is decided by its seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        count = self.random.choice((4, 16, 64, 128))
        self.shards = [ShardRow(shard, None, None, 0, "free", None, "") for shard in range(count)]
        self.instances: dict[str, Instance] = {}
        self.now_s = 0.0
        self.generation = 1
        self.healer = self.random.random() < 0.6
        self.healer_beat_s: float | None = None

    def start(self) -> None:
        number = len(self.instances)
        self.instances[f"bet-service-{number}@{number:016x}"] = Instance(self.generation, self.now_s, self.now_s)

    def at_work(self) -> list[str]:
        return [life for life, each in self.instances.items() if each.alive and not each.stopped]

    def able(self) -> list[str]:
        return [life for life in self.at_work() if not self.instances[life].draining]

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for life in self.at_work():
            self.instances[life].beat_s = self.now_s

    def read(self) -> Seen:
        rows = (
            InstanceRow(
                life, "a", (1,), self.now_s - i.beat_s, i.draining, i.exited, i.generation, self.now_s - i.started_s
            )
            for life, i in sorted(self.instances.items())
        )
        return tuple(self.shards), tuple(rows)

    def look(self, me: str) -> bool:
        """One look of an instance; a few of its statements leave out a locked row. False: it found nothing to do."""
        mine = self.instances[me]
        shards, instances = self.read()
        plan = claims.plan(
            claims.ClaimInputs(
                me=me,
                shards=shards,
                instances=instances,
                healer_beat_age_s=None if self.healer_beat_s is None else self.now_s - self.healer_beat_s,
                lost_recently=(),
                draining=mine.draining,
                newest=tuple(reversed(mine.memory)),
                entries={shard: self.random.choice((0, 100, 5_000)) for shard in mine.memory},
            ),
            ORPHANED_AFTER_S,
        )
        for move in plan.hand_over:
            if move.to is not None and self.random.random() < 0.95:
                self._write(move.shard, None, move.to)
        for row in (*plan.claim, *plan.steal):
            if self.shards[row.shard].epoch == row.epoch and self.random.random() < 0.95:
                self._write(row.shard, me, row.desired_owner)
        if mine.draining and all(row.owner != me for row in self.shards):
            mine.alive, mine.exited = False, True
        return any(plan)

    def heal(self, seen: Seen | None = None) -> bool:
        """One tick of the healer, perhaps on what it read some time ago. False: it found nothing to do."""
        shards, instances = seen or self.read()
        self.healer_beat_s = self.now_s
        owners = [
            Owner(
                Life.parse(BET_SERVICE, i.life),
                int(i.beat_age_s * 1_000),
                i.draining,
                i.exited,
                i.generation,
                int(i.age_s * 1_000),
            )
            for i in instances
        ]
        alive = {o.life: o for o in owners if not o.exited and o.beat_age_ms < HEALER_SILENT_AFTER_MS}
        eligible = sorted(life for life, owner in alive.items() if not owner.draining)
        if not eligible:
            return False
        rows = [Shard(r.shard, _life(r.owner), r.epoch, r.state, _life(r.desired_owner)) for r in shards]
        wanted = healer_placement._wanted(rows, [alive[life] for life in eligible])
        placed = [
            (row.shard, wanted[row.shard])
            for row in rows
            if healer_placement._is_unowned(row, alive) and row.desired_owner != wanted[row.shard]
        ]
        placed += healer_placement._moves(rows, eligible, wanted)
        for shard, life in placed:
            self.shards[shard] = self.shards[shard]._replace(desired_owner=str(life))
        return bool(placed)

    def happen(self) -> None:
        """Something changes, but never so that nobody is left."""
        what = self.random.choice(("roll", "scale out", "kill", "drain", "stop", "wait", "healer"))
        victim = self.instances[self.random.choice(self.able())]
        spare = len(self.able()) > 1
        if what == "roll":
            self.generation += 1
            self.start()
        elif what == "scale out":
            self.start()
        elif what == "kill" and spare:
            victim.alive, victim.exited = False, self.random.random() < 0.7
        elif what == "drain" and spare:
            victim.draining = True
        elif what == "stop" and spare:
            victim.stopped = True
        elif what == "wait":
            self.pass_time(130)
        elif what == "healer":
            self.healer = not self.healer

    def live(self) -> None:
        """Looks and ticks in any order, the healer's on what has been read up to some looks before."""
        seen: Seen | None = None
        for _ in range(60):
            self.pass_time(self.random.choice((0.01, 0.05, 0.3)))
            if self.healer and self.random.random() < 0.2:
                self.heal(seen if self.random.random() < 0.3 else None)
            if self.random.random() < 0.3:
                seen = self.read()
            self.look(self.random.choice(self.at_work()))

    def settle(self) -> None:
        """Returns once nobody finds anything to do three times in a row."""
        quiet = 0
        for _ in range(ROUNDS_MAX):
            self.pass_time(0.05)
            busy = self.healer and self.heal()
            for life in self.random.sample(self.at_work(), len(self.at_work())):
                busy |= self.look(life)
            quiet = 0 if busy else quiet + 1
            if quiet == 3:
                return
        raise AssertionError("shards are moved for ever")

    def _write(self, shard: int, owner: str | None, desired: str | None) -> None:
        row = self.shards[shard]
        if row.owner is not None:
            self.instances[row.owner].memory.remove(shard)
        epoch = row.epoch if owner is None else row.epoch + 1
        if owner is not None:
            self.instances[owner].memory.append(shard)
        self.shards[shard] = ShardRow(shard, owner, owner and "a", epoch, "owned" if owner else "free", desired, "")


def _life(text: str | None) -> Life | None:
    return None if text is None else Life.parse(BET_SERVICE, text)


def history(seed: int) -> None:
    """Raises AssertionError where shards end with nobody, on one that has too many, or never come to rest."""
    world = World(seed)
    for _ in range(world.random.randint(1, 4)):
        world.start()
    for _ in range(world.random.randint(1, 6)):
        world.live()
        world.happen()
    world.pass_time(ORPHANED_AFTER_S + 1)  # also the healer's beat, if it is gone
    world.settle()
    owners: Sequence[str | None] = [row.owner for row in world.shards]
    assert set(owners) <= set(world.able()), "a shard has no owner that serves it"
    world.pass_time(130)  # no roll lasts that long
    world.settle()
    held = Counter(row.owner for row in world.shards)
    shares = [held[life] for life in world.able()]
    assert sum(shares) == len(world.shards), "a shard has no owner that serves it"
    assert max(shares) - min(shares) <= 1, "one has more than its share"


def histories(seeds: Iterable[int]) -> None:
    """Raises AssertionError, which names the seed."""
    for seed in seeds:
        try:
            history(seed)
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_every_history_ends_with_each_shard_on_one_at_work(first: int) -> None:
    """Rolls, scaling, kills, drains, stops, with and without a healer, and with one that acts on what has passed."""
    histories(range(first, first + 20))


def test_instances_that_do_not_agree_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary: by their own placement every look wants the shards elsewhere."""
    turn = random.Random(0)

    def placed(count: int, candidates: Collection[Candidate], *_rest: object) -> dict[int, str]:
        names = sorted(each.name for each in candidates)
        return {shard: turn.choice(names) for shard in range(count)} if names else {}

    monkeypatch.setattr(claims, "place", placed)
    with pytest.raises(AssertionError, match="moved for ever"):
        histories(range(10))


def test_who_takes_nothing_that_it_was_given_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary: free shards stay with nobody."""
    monkeypatch.setattr(claims, "plan", _taking_nothing(claims.plan))
    with pytest.raises(AssertionError, match="no owner"):
        histories(range(10))


def _taking_nothing(plan: Callable[..., claims.ClaimPlan]) -> Callable[..., claims.ClaimPlan]:
    def planned(inputs: claims.ClaimInputs, orphaned_after_s: float) -> claims.ClaimPlan:
        found = plan(inputs, orphaned_after_s)
        return found._replace(claim=tuple(row for row in found.claim if row.desired_owner != inputs.me))

    return planned
