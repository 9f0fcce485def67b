"""The simulated world: shards behind the journal's fence, processes that live and hang, and a database they share.

The claim rules are the real ones. Time passes by steps that the simulation makes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property

from betting.bets import claims
from betting.journal.directory import InstanceRow, ShardRow
from betting.life import Life
from betting_operator.healing.signals import Exit, Rebalance

SHARDS = 4
INSTANCES = ("bet-service-1", "bet-service-2", "bet-service-3")
FEED, ODDS, CONSUMER = "season-replay", "odds-service", "notification-service"
OTHERS = ("wallet-service", "api-gateway", "event-service", "user-service", FEED, ODDS, CONSUMER)
NODES = {
    "a": ("bet-service-1", "api-gateway", ODDS),
    "b": ("bet-service-2", "wallet-service", "user-service", FEED),
    "c": ("bet-service-3", "event-service", CONSUMER),
}
NODE_OF = {name: node for node, names in NODES.items() for name in names}
LOOK_MS = 500
BEAT_MS = 1_000
PROBE_MS = 1_000
RESTART_MS = 700
ALIVE_MS = 5_000
ORPHANED_AFTER_S = 10.0


class Broken(AssertionError):
    """An invariant does not hold; the message says which, when, and of whom."""


@dataclass
class Row:
    """A row of `shards`."""

    owner: str | None = None
    epoch: int = 0
    desired: str | None = None


@dataclass
class Running:
    """One life of a process. memory: the shards a bet-service holds, at which epoch and up to which sequence."""

    name: str
    boot: int
    started_ms: int
    pod: str = ""
    frozen_until_ms: int = 0
    frozen_since_ms: int = -1
    asleep_since_ms: int = -1
    asleep_until_ms: int = 0
    slow_until_ms: int = 0
    stuck_since_ms: int = -1
    stuck_until_ms: int = 0
    answered_ms: dict[str, int] = field(default_factory=dict)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    lost_at_ms: dict[int, int] = field(default_factory=dict)

    @cached_property
    def life(self) -> Life:
        """As the healer names it."""
        return Life("bet-service" if self.name in INSTANCES else self.name, self.name, str(self.boot))

    @cached_property
    def owner(self) -> str:
        """As the directory does."""
        return str(self.life)


class Host:
    """Where processes run: each is started again, wherever it is."""

    def starts(self, _name: str) -> bool:
        """Whether a process of this name can be started now."""
        return True

    def pod_of(self, _name: str) -> str:
        """The pod that it is started in now; "" where there are none."""
        return ""


@dataclass
class World:
    """Everything but the healer. fence: whether an append checks owner and epoch; beside: whether health is answered
    beside the work. Several ask the processes for their health (`askers`): here "healer", and "platform", the
    supervisor. frozen_until_ms: of those who ask.
    """

    dice: random.Random
    fence: bool = True
    beside: bool = True
    askers: tuple[str, ...] = ("healer", "platform")
    host: Host = field(default_factory=Host)
    now_ms: int = 0
    platform_woke_ms: int = 0
    database_away_until_ms: int = 0
    read_only_until_ms: int = 0
    deaf_until_ms: dict[str, int] = field(default_factory=dict)
    unheard_until_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    beatless_until_ms: dict[str, int] = field(default_factory=dict)
    frozen_until_ms: dict[str, int] = field(default_factory=dict)
    lost_until_ms: dict[str, int] = field(default_factory=dict)
    # Of the processes.
    lives: dict[str, Running | None] = field(default_factory=dict)
    down_until_ms: dict[str, int] = field(default_factory=dict)
    exits: list[Exit] = field(default_factory=list)
    boots: int = 0
    position: int = 0
    head: int = 0
    alive_ms: int = 0
    odds_heard_ms: int = 0
    # In the database.
    rows: list[Row] = field(default_factory=lambda: [Row() for _ in range(SHARDS)])
    journal: list[list[tuple[int, str]]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])
    beats: dict[str, int] = field(default_factory=dict)
    exited: set[str] = field(default_factory=set)
    term: int = 0
    healer_beat_ms: int = -1_000_000
    # What people asked for.
    rebalance: Rebalance = field(default_factory=Rebalance)
    log: list[str] = field(default_factory=list)

    kills: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deaf_until_ms = dict.fromkeys(self.askers, 0)
        for name in (*INSTANCES, *OTHERS):
            self.start(name)

    def start(self, name: str) -> None:
        """A new life of a process, as the supervisor begins it."""
        self.boots += 1
        life = self.lives[name] = Running(name, self.boots, self.now_ms, self.host.pod_of(name))
        life.answered_ms = dict.fromkeys(self.askers, self.now_ms)
        if name in INSTANCES:
            self.exited |= {owner for owner in self.beats if Life.parse("bet-service", owner).instance == name}
            self.beats[life.owner] = self.now_ms

    def end(self, life: Running, how: str) -> None:
        """The end of a life; the next one begins soon."""
        self.lives[life.name] = None
        self.down_until_ms[life.name] = self.now_ms + RESTART_MS
        self.exits.append(Exit(life.life, self.now_ms, how))

    def live(self, name: str) -> None:
        """What a process does in one step."""
        life = self.lives[name]
        if life is None:
            if self.now_ms >= self.down_until_ms[name] and self.host.starts(name):
                self.start(name)
            return
        if self.now_ms < max(life.frozen_until_ms, life.asleep_until_ms):
            return
        slow = self.now_ms < life.slow_until_ms
        if self.now_ms % PROBE_MS == 0 and (self.beside or not slow):
            for who in self.askers:
                if self.is_heard(who, name):
                    life.answered_ms[who] = self.now_ms
        if slow:
            return  # of what follows little gets done
        if name in INSTANCES and self.now_ms >= self.database_away_until_ms:
            self._own(life)

    @property
    def asleep(self) -> bool:
        """Whether a process is stopped by a sleep of all."""
        return any(life is not None and self.now_ms < life.asleep_until_ms for life in self.lives.values())

    @property
    def writable(self) -> bool:
        """Whether the database takes writes now."""
        return self.now_ms >= max(self.database_away_until_ms, self.read_only_until_ms)

    def works(self, name: str) -> Running | None:
        """A life that gets something done now."""
        life = self.lives[name]
        if life is None or self.now_ms < max(life.frozen_until_ms, life.asleep_until_ms, life.slow_until_ms):
            return None
        return life

    def answers(self, name: str) -> Running | None:
        """A life that answers how it is now."""
        life = self.lives[name]
        if life is None or self.now_ms < max(life.frozen_until_ms, life.asleep_until_ms):
            return None
        return life if self.beside or self.now_ms >= life.slow_until_ms else None

    def sticks(self, name: str) -> Running | None:
        """A life that answers its probes and waits for Postgres with all its work."""
        life = self.lives[name]
        return life if life is not None and self.now_ms < life.stuck_until_ms else None

    def life_of(self, owner: str | None) -> Running | None:
        """The life of this name in the directory, while it lives."""
        return next((each for each in self.lives.values() if each is not None and each.owner == owner), None)

    def follow(self) -> None:
        """The journal grows, a consumer follows it a little later, a producer shows signs of life."""
        if self.writable and any(self.works(name) for name in INSTANCES) and self.now_ms % 500 == 0:
            self.head += 1
        if self.writable and self.works(CONSUMER) and self.now_ms % 1_000 == 0:
            self.position = self.head
        if self.works(ODDS):
            self.odds_heard_ms = self.now_ms
            if self.works(FEED) and not self.sticks(ODDS) and self.now_ms % ALIVE_MS == 0:
                self.alive_ms = self.now_ms

    def is_heard(self, who: str, name: str) -> bool:
        """Whether a probe is asked and answered; a healer that is frozen asks nobody."""
        frozen = self.now_ms < self.frozen_until_ms.get(who, 0)
        reached = self.now_ms >= max(self.deaf_until_ms[who], self.unheard_until_ms.get((who, name), 0))
        return reached and not frozen

    def _own(self, life: Running) -> None:
        """What a bet-service does: beats, appends, looks at the directory."""
        if self.writable and self.now_ms % BEAT_MS == 0 and self.now_ms >= self.beatless_until_ms.get(life.name, 0):
            if life.owner in self.exited:
                self.note(f"{life.owner} hears that it has ended")
                self.end(life, "exit code 1")
                return
            self.beats[life.owner] = self.now_ms
        for shard in list(life.memory):
            if self.writable and self.dice.random() < 0.5:
                self._append(life, shard)
        if self.now_ms % LOOK_MS == 0:
            self._look(life)

    def _append(self, life: Running, shard: int) -> None:
        epoch, head = life.memory[shard]
        row = self.rows[shard]
        if self.fence and (row.owner, row.epoch) != (life.owner, epoch):
            del life.memory[shard]
            life.lost_at_ms[shard] = self.now_ms
            return
        if len(self.journal[shard]) != head:  # the journal's key: the second fence
            del life.memory[shard]
            return
        if epoch != row.epoch:
            raise Broken(
                f"{self.now_ms} ms: {life.owner} appended to shard {shard} at epoch {epoch}, it is {row.epoch}"
            )
        self.journal[shard].append((epoch, life.owner))
        life.memory[shard] = (epoch, head + 1)

    def _look(self, life: Running) -> None:
        if not self.writable:
            return
        beats = [
            InstanceRow(n, n, (1,), (self.now_ms - at) / 1_000, False, n in self.exited) for n, at in self.beats.items()
        ]
        rows = [
            ShardRow(n, row.owner, row.owner, row.epoch, "owned" if row.owner else "free", row.desired, "")
            for n, row in enumerate(self.rows)
        ]
        lost = {shard for shard, at in life.lost_at_ms.items() if self.now_ms - at < 30_000}
        away_until_ms = max(self.database_away_until_ms, self.read_only_until_ms)
        void = self.now_ms - away_until_ms < 2_000 and away_until_ms > 0
        healer_s = (self.now_ms - self.healer_beat_ms) / 1_000
        world = claims.ClaimInputs(life.owner, rows, beats, healer_s, lost, False, void, tuple(reversed(life.memory)))
        todo = claims.plan(world, ORPHANED_AFTER_S)
        for move in todo.hand_over[:1]:
            row = self.rows[move.shard]
            if move.shard in life.memory and row.owner == life.owner:
                row.owner, row.desired = None, move.to or row.desired
                del life.memory[move.shard]
        for taken in (*todo.claim, *todo.steal):
            row = self.rows[taken.shard]
            if row.epoch == taken.epoch and taken.shard not in life.memory:
                row.owner, row.epoch = life.owner, row.epoch + 1
                life.memory[taken.shard] = (row.epoch, len(self.journal[taken.shard]))
        for shard, row in enumerate(self.rows):
            if row.owner == life.owner and shard not in life.memory:
                row.epoch += 1
                life.memory[shard] = (row.epoch, len(self.journal[shard]))

    def lose(self, node: str, for_ms: int) -> None:
        """Nothing on a node does anything, or is heard, for so long."""
        self.note(f"node {node} is lost for {for_ms} ms")
        self.lost_until_ms[node] = self.now_ms + for_ms
        for name in NODES[node]:
            life = self.lives[name]
            if life is not None:
                life.frozen_until_ms, life.frozen_since_ms = self.now_ms + for_ms, self.now_ms

    def note(self, line: str) -> None:
        """Adds a line to the history."""
        self.log.append(f"{self.now_ms:>6} ms  {line}")
