"""Valkeys simulated: they die, hang, lose each other, replicate, and count their replicas as Valkey does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from simulated_world import Broken

from betting.life import Life
from betting_operator.healing.redis_signals import REDIS_WORKLOAD, RedisRecord, RedisRole
from betting_operator.healing.signals import Exit

RESTART_MS = 700
MAX_LAG_S = 2
COUNTED_MS = 1_000
OLDER_TEMPLATE = 0.1  # so many lives of a quorum are configured to wait for nobody


@dataclass
class Running:
    """One life of a node. data: what was written, in its order. min_replicas: how many replicas it waits for.

    acks: when the last word of each replica's life was read; good: how many of them counted when they were counted
    last. unread: whose words came while it was frozen; left: who has closed its connection, which has not come through
    yet; closed: which has, and is not read yet.
    """

    name: str
    boot: int
    follows: str
    min_replicas: int = 0
    role: RedisRole = RedisRole.REPLICA
    data: list[int] = field(default_factory=list)
    synced_with: int = -1
    heard_ms: int | None = None
    acks: dict[int, int] = field(default_factory=dict)
    good: int = 0
    counted_ms: int = 0
    unread: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    frozen_until_ms: int = 0
    platform_ms: int = 0

    @property
    def life(self) -> Life:
        """As the healer names it."""
        return Life(REDIS_WORKLOAD, self.name, self.boot_id)

    @property
    def boot_id(self) -> str:
        """As the record names it."""
        return str(self.boot)


@dataclass
class Valkeys:
    """The nodes, and the paths between them. record: what Postgres has; see RedisWorld for the rest."""

    seed: int
    quorum: bool = False
    pods: bool = False
    now_ms: int = 0
    record: RedisRecord = field(default_factory=lambda: RedisRecord("valkey-1", "1", 1))
    lives: dict[str, Running | None] = field(default_factory=dict)
    down_until_ms: dict[str, int] = field(default_factory=dict)
    cut_until_ms: dict[frozenset[str], int] = field(default_factory=dict)
    exits: list[Exit] = field(default_factory=list)
    lost_until_ms: dict[str, int] = field(default_factory=dict)
    boots: int = 0
    writes: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.names = ("valkey-1", "valkey-2", "valkey-3")[: 3 if self.quorum or self.pods else 2]
        for name in self.names:
            self._boot(name)

    def _boot(self, name: str) -> None:
        """Of two the other is followed; where replicas make a quorum, only whom the record names: an old primary that
        wakes up must not find a replica. A pod follows nobody until it is told whom."""
        self.boots += 1
        follows = next(each for each in self.names if each != name)
        if self.quorum:
            follows = self.record.primary if self.record.primary != name else ""
        if self.pods:
            follows = ""
        min_replicas = int(self.quorum and self.dice.random() >= OLDER_TEMPLATE)
        self.lives[name] = Running(name, self.boots, follows, min_replicas, platform_ms=self.now_ms)

    def _end(self, name: str) -> None:
        life = self.lives[name]
        if life is None:
            return
        self._note(f"{name}@{life.boot} ends with {len(life.data)} writes")
        self._leave(life)
        self.exits.append(Exit(life.life, self.now_ms, "killed by SIGKILL"))
        self.lives[name] = None
        self.down_until_ms[name] = self.now_ms + RESTART_MS

    def _named(self) -> Running:
        life = self.lives[self.record.primary]
        assert life is not None
        return life

    def _live(self, name: str) -> None:
        life = self.lives[name]
        if life is None:
            if self.now_ms >= self.down_until_ms[name]:
                self._boot(name)
            return
        arrived = [boot for boot, replica in life.left.items() if self._reach(name, replica)]
        life.closed |= {boot for boot in arrived if life.left.pop(boot)}
        if self._frozen(life):
            return
        life.platform_ms = self.now_ms
        self._count(life)
        source = self.lives.get(life.follows)
        if life.role is RedisRole.REPLICA and source is not None and self._reach(name, life.follows):
            self._replicate(life, source)

    def _replicate(self, life: Running, source: Running) -> None:
        """A replica is refused by who is none itself; the first time it takes over everything, whatever it had."""
        if source.role is not RedisRole.PRIMARY or self.dice.random() < 0.2:
            return
        if self._frozen(source):
            if life.boot in source.acks:
                source.unread.add(life.boot)
            return
        if life.synced_with != source.boot and len(source.data) < len(life.data):
            self._check_wipe(life, source)
        life.synced_with, life.data, life.heard_ms = source.boot, list(source.data), self.now_ms
        if life.boot not in source.acks:
            source.counted_ms = 0  # a new one counts at once
        source.left.pop(life.boot, None)
        source.acks[life.boot] = self.now_ms

    def _count(self, life: Running) -> None:
        """As Valkey does: what came while it was frozen is read now, and fresh; those that have left count no more; the
        others are counted once a second, by the age of their last word in whole seconds."""
        for boot in life.unread:
            life.acks[boot] = self.now_ms
        for boot in life.closed:
            life.acks.pop(boot, None)
        if life.closed or self.now_ms - life.counted_ms >= COUNTED_MS:
            life.counted_ms = self.now_ms
            life.good = sum(self.now_ms // 1_000 - at // 1_000 <= MAX_LAG_S for at in life.acks.values())
        life.unread.clear()
        life.closed.clear()

    def _leave(self, life: Running) -> None:
        """It closes its connection to whoever it follows, who reads that once it can."""
        for each in self.lives.values():
            if each is not None and life.boot in each.acks:
                each.left[life.boot] = life.name

    def _write(self) -> None:
        """Clients that have not heard of any failover go on writing where they can."""
        took = [life for life in self.lives.values() if life is not None and self._takes_writes(life)]
        for life in took:
            self.writes += 1
            life.data.append(self.writes)
        named = {
            (self.record.primary, self.record.boot_id),
            (self.record.candidate, self.record.candidate_boot_id),
        }
        if len(took) > 1:
            names = " and ".join(f"{life.name}@{life.boot}" for life in took)
            raise Broken(f"{self.now_ms} ms: {names} acknowledge writes at once")
        for life in took:
            if (life.name, life.boot_id) not in named:
                raise Broken(f"{self.now_ms} ms: {life.name}@{life.boot} acknowledges and the record does not name it")

    def _takes_writes(self, life: Running) -> bool:
        return life.role is RedisRole.PRIMARY and not self._frozen(life) and life.good >= life.min_replicas

    def _frozen(self, life: Running) -> bool:
        return self.now_ms < life.frozen_until_ms

    def _frozen_names(self) -> set[str]:
        return {name for name, life in self.lives.items() if life is not None and self._frozen(life)}

    def _reach(self, one: str, other: str) -> bool:
        away = self._lost(one) or self._lost(other)
        return not away and self.now_ms >= self.cut_until_ms.get(frozenset((one, other)), 0)

    def _lost(self, name: str) -> bool:
        return self.now_ms < self.lost_until_ms.get(name, 0)

    def _promote(self, life: Running) -> None:
        if life.role is RedisRole.PRIMARY:
            return
        self._leave(life)
        life.role, life.follows, life.synced_with = RedisRole.PRIMARY, "", life.boot
        life.heard_ms = None
        life.acks.clear()
        life.good = 0
        self._note(f"{life.name}@{life.boot} is primary with {len(life.data)} writes")

    def _check_wipe(self, life: Running, source: Running) -> None:
        """Only the recorded primary's data replaces others'."""
        if (source.name, source.boot_id) != (self.record.primary, self.record.boot_id) and (
            (source.name, source.boot_id) != (self.record.candidate, self.record.candidate_boot_id)
        ):
            raise Broken(f"{self.now_ms} ms: {life.name}@{life.boot} was wiped by {source.name}@{source.boot}")

    def _note(self, line: str) -> None:
        self.log.append(f"{self.now_ms:>6} ms  {line}")
