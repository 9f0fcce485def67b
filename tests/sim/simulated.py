"""A platform in one thread on a clock of its own: the real brain and the real claim rules, around a simulated world.

The world has shards with the journal's fence, instances that own them, a supervisor, a healer, and a database that they
all share. Every choice comes from one seed, so a failing run is repeated by its number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from betting.bets import claims
from betting.journal.directory import InstanceRow, ShardRow
from betting.life import Life
from betting_operator.healing.actions import Action, Kill, MarkDead, Place
from betting_operator.healing.brain import decide
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import (
    Answer,
    Consumer,
    Database,
    Exit,
    Feed,
    Observation,
    Owner,
    Phase,
    Probe,
    Process,
    Report,
    Shard,
)

SHARDS = 4
INSTANCES = ("bet-service-1", "bet-service-2", "bet-service-3")
FEED, ODDS, CONSUMER = "season-replay", "odds-service", "notification-service"
OTHERS = ("wallet-service", "api-gateway", "event-service", "user-service", FEED, ODDS, CONSUMER)
STEP_MS = 100
TICK_MS = 500
LOOK_MS = 500
BEAT_MS = 1_000
PROBE_MS = 1_000
RESTART_MS = 700
ORPHANED_AFTER_S = 10.0
FAULTY_MS = 30_000
SETTLING_MS = 25_000
ALIVE_MS = 5_000
FAULTS = (
    "kill", "freeze", "freeze", "freeze", "freeze", "database", "read-only", "read-only", "sleep", "sleep-but-healer",
    "overload", "overload", "deaf", "unheard", "unheard", "beatless", "beatless", "healer-freeze", "healer-freeze",
    "healer-kill",
)  # fmt: skip
# Many independent faults: one in eight seconds for five minutes; nobody may hang for longer than this.
STORM_MS = 300_000
STORM_EVERY_MS = 8_000
HANGS_MS_MAX = 15_000


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
    frozen_until_ms: int = 0
    frozen_since_ms: int = -1
    asleep_since_ms: int = -1
    asleep_until_ms: int = 0
    slow_until_ms: int = 0
    answered_ms: dict[str, int] = field(default_factory=dict)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    lost_at_ms: dict[int, int] = field(default_factory=dict)
    superseded: bool = False

    @property
    def life(self) -> Life:
        """As the healer names it."""
        return Life("bet-service" if self.name in INSTANCES else self.name, self.name, str(self.boot))

    @property
    def owner(self) -> str:
        """As the directory does."""
        return str(self.life)


@dataclass
class Simulation:
    """Switches of the canaries, each an old fault: runs must break with it. fence: whether an append checks owner and
    epoch. writes_seen: whether the healer knows that nothing can be written; pause_seen: its own pause.
    beside: whether health is answered beside the work. storm: many independent faults instead of some of each kind.
    """

    seed: int
    fence: bool = True
    writes_seen: bool = True
    pause_seen: bool = True
    beside: bool = True
    storm: bool = False
    slept_ms: int = 0
    platform_woke_ms: int = 0
    read_only_until_ms: int = 0
    position: int = 0
    head: int = 0
    alive_ms: int = 0
    odds_heard_ms: int = 0
    stopped_ms: dict[str, int] = field(default_factory=dict)
    now_ms: int = 0
    rows: list[Row] = field(default_factory=lambda: [Row() for _ in range(SHARDS)])
    journal: list[list[tuple[int, str]]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])
    beats: dict[str, int] = field(default_factory=dict)
    exited: set[str] = field(default_factory=set)
    lives: dict[str, Running | None] = field(default_factory=dict)
    down_until_ms: dict[str, int] = field(default_factory=dict)
    exits: list[Exit] = field(default_factory=list)
    boots: int = 0
    term: int = 0
    healer_beat_ms: int = -1_000_000
    database_away_until_ms: int = 0
    deaf_until_ms: dict[str, int] = field(default_factory=lambda: {"healer": 0, "platform": 0})
    unheard_until_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    beatless_until_ms: dict[str, int] = field(default_factory=dict)
    healer_frozen_until_ms: int = 0
    healer_down_until_ms: int = 0
    healer_term: int = 0
    healer_late_ms: int = 0
    healer_next_ms: int = 0
    memory: Memory = field(default_factory=Memory)
    told: int = 0
    kills: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        for name in (*INSTANCES, *OTHERS):
            self._start(name)

    def run(self) -> None:
        """Faults for a while, then calm. Raises Broken."""
        faulty_ms = STORM_MS if self.storm else FAULTY_MS
        while (lived_ms := self.now_ms - self.slept_ms) < faulty_ms + SETTLING_MS:
            if self.storm:
                if lived_ms < faulty_ms and lived_ms % STORM_EVERY_MS == 0:
                    self._strike()
                self._check_hanging()
            elif lived_ms < faulty_ms and not self._asleep and self.dice.random() < 0.02:
                self._fault()
            for name in (*INSTANCES, *OTHERS):
                self._live(name)
            self._follow()
            self._heal()
            self.now_ms += STEP_MS
        self._check_served()

    # What breaks.

    def _strike(self) -> None:
        """One random process is killed, or hangs for good."""
        life = self.lives[self.dice.choice((*INSTANCES, *OTHERS))]
        if life is None or life.frozen_until_ms > self.now_ms:
            return
        if self.dice.random() < 0.3:
            self._end(life, "killed by SIGKILL")
        else:
            self._note(f"freeze {life.owner} for good")
            life.frozen_until_ms, life.frozen_since_ms = self.now_ms + 10 * STORM_MS, self.now_ms

    def _sleep(self, *, healer: bool) -> None:
        """Everything is stopped, and goes on one after the other within a second and a half."""
        for_ms = self.dice.choice((4_000, 25_000, 70_000))
        self._note(f"everybody sleeps for {for_ms} ms" + ("" if healer else ", the healer does not"))
        for life in self.lives.values():
            if life is not None:
                life.asleep_since_ms = self.now_ms
                life.asleep_until_ms = self.now_ms + for_ms + self.dice.randrange(0, 1_500, STEP_MS)
        if healer:
            self.healer_frozen_until_ms = self.now_ms + for_ms
            self.slept_ms += for_ms
            self.platform_woke_ms = self.now_ms + for_ms

    def _fault(self) -> None:
        name = self.dice.choice((*INSTANCES, *OTHERS))
        life, for_ms = self.lives[name], self.dice.choice((1_500, 2_900, 4_000, 12_000, 60_000))
        match self.dice.choice(FAULTS):
            case "kill" if life is not None:
                self._note(f"kill {life.owner}")
                self._end(life, "killed by SIGKILL")
            case "freeze" if life is not None:
                self._note(f"freeze {life.owner} for {for_ms} ms")
                life.frozen_until_ms, life.frozen_since_ms = self.now_ms + for_ms, self.now_ms
            case "database":
                self._note("the database is away for 5 s")
                self.database_away_until_ms = self.now_ms + 5_000
            case "read-only":
                for_ms = self.dice.choice((4_000, 15_000))
                self._note(f"the database takes no writes for {for_ms} ms")
                self.read_only_until_ms = self.now_ms + for_ms
            case "sleep":
                self._sleep(healer=True)
            case "sleep-but-healer":
                self._sleep(healer=False)
            case "overload" if life is not None:
                self._note(f"{life.owner} is overloaded for 12 s")
                life.slow_until_ms = self.now_ms + 12_000
            case "deaf":
                who = self.dice.choice(("healer", "platform"))
                self._note(f"the {who}'s probes are lost for 8 s")
                self.deaf_until_ms[who] = self.now_ms + 8_000
            case "unheard":
                who = self.dice.choice(("healer", "platform"))
                self._note(f"the {who} cannot reach {name} for 8 s")
                self.unheard_until_ms[who, name] = self.now_ms + 8_000
            case "beatless":
                self._note(f"{name} cannot beat for 6 s")
                self.beatless_until_ms[name] = self.now_ms + 6_000
            case "healer-freeze":
                self._note("the healer is frozen for 4 s")
                self.healer_frozen_until_ms = self.now_ms + 4_000
            case "healer-kill":
                self._note("the healer is killed")
                self.healer_down_until_ms = self.now_ms + RESTART_MS
                self.healer_term, self.memory = 0, Memory()

    # Processes.

    def _start(self, name: str) -> None:
        self.boots += 1
        life = self.lives[name] = Running(name, self.boots, self.now_ms)
        life.answered_ms = {"healer": self.now_ms, "platform": self.now_ms}
        if name in INSTANCES:
            self.exited |= {owner for owner in self.beats if Life.parse("bet-service", owner).instance == name}
            self.beats[life.owner] = self.now_ms

    def _end(self, life: Running, how: str) -> None:
        self.lives[life.name] = None
        self.down_until_ms[life.name] = self.now_ms + RESTART_MS
        self.exits.append(Exit(life.life, self.now_ms, how))

    def _live(self, name: str) -> None:
        life = self.lives[name]
        if life is None:
            if self.now_ms >= self.down_until_ms[name]:
                self._start(name)
            return
        if self.now_ms < max(life.frozen_until_ms, life.asleep_until_ms):
            return
        slow = self.now_ms < life.slow_until_ms
        if self.now_ms % PROBE_MS == 0 and (self.beside or not slow):
            for who in self.deaf_until_ms:
                if self._is_heard(who, name):
                    life.answered_ms[who] = self.now_ms
        if slow:
            return  # of what follows little gets done
        if name in INSTANCES and self.now_ms >= self.database_away_until_ms:
            self._own(life)

    @property
    def _asleep(self) -> bool:
        return any(life is not None and self.now_ms < life.asleep_until_ms for life in self.lives.values())

    @property
    def _writable(self) -> bool:
        return self.now_ms >= max(self.database_away_until_ms, self.read_only_until_ms)

    def _works(self, name: str) -> Running | None:
        """A life that gets something done now."""
        life = self.lives[name]
        if life is None or self.now_ms < max(life.frozen_until_ms, life.asleep_until_ms, life.slow_until_ms):
            return None
        return life

    def _follow(self) -> None:
        """The journal grows, a consumer follows it a little later, a producer shows signs of life."""
        if self._writable and any(self._works(name) for name in INSTANCES) and self.now_ms % 500 == 0:
            self.head += 1
        if self._writable and self._works(CONSUMER) and self.now_ms % 1_000 == 0:
            self.position = self.head
        if self._works(ODDS):
            self.odds_heard_ms = self.now_ms
            if self._works(FEED) and self.now_ms % ALIVE_MS == 0:
                self.alive_ms = self.now_ms

    def _is_heard(self, who: str, name: str) -> bool:
        """Whether a probe is asked and answered; a healer that is frozen asks nobody."""
        frozen = who == "healer" and self.now_ms < self.healer_frozen_until_ms
        reached = self.now_ms >= max(self.deaf_until_ms[who], self.unheard_until_ms.get((who, name), 0))
        return reached and not frozen

    def _own(self, life: Running) -> None:
        """What a bet-service does: beats, appends, looks at the directory."""
        if self._writable and self.now_ms % BEAT_MS == 0 and self.now_ms >= self.beatless_until_ms.get(life.name, 0):
            if life.owner in self.exited:
                self._note(f"{life.owner} hears that it has ended")
                self._end(life, "exit code 1")
                return
            self.beats[life.owner] = self.now_ms
        for shard in list(life.memory):
            if self._writable and self.dice.random() < 0.5:
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
        if not self._writable:
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

    # The healer.

    def _heal(self) -> None:
        if self.now_ms < self.healer_down_until_ms or self.now_ms < self.healer_next_ms:
            return
        if self.now_ms < self.healer_frozen_until_ms:
            self.healer_late_ms += STEP_MS
            return
        self.healer_next_ms = self.now_ms + TICK_MS
        reads = self.now_ms >= self.database_away_until_ms
        if not self.healer_term:
            if not self._writable:
                return
            self.term += 1
            self.healer_term = self.term
        if self._writable and self.healer_term == self.term:
            self.healer_beat_ms = self.now_ms
        tick = decide(self.memory, self._seen(reads), Policy())
        self.memory, self.healer_late_ms = tick.memory, 0
        for action in tick.plan.actions:
            self._act(action, self._writable)

    def _seen(self, reads: bool) -> Observation:
        exits, self.told = self.exits[self.told :], len(self.exits)
        processes = [self._process(name) for name in (*INSTANCES, *OTHERS)]
        probes = [
            Probe(
                life.life,
                Answer.SERVING if not silent else Answer.SILENT,
                silent,
                lag_ms=1_500 if self.now_ms < life.slow_until_ms else 0,
            )
            for life in self.lives.values()
            if life is not None
            for silent in [self._silent(life, "healer")]
        ]
        seen = Observation(
            at_ms=self.now_ms,
            late_ms=self.healer_late_ms if self.pause_seen else 0,
            term=self.healer_term,
            processes=tuple(processes),
            exits=tuple(exits),
            probes=tuple(probes),
            reports=tuple(self._reports()),
            database=self._database(reads),
            feeds=self._feeds(),
        )
        if not reads:
            return seen
        owners = (
            Owner(Life.parse("bet-service", name), self.now_ms - at, False, name in self.exited)
            for name, at in self.beats.items()
        )
        shards = (
            Shard(n, _life(row.owner), row.epoch, "owned" if row.owner else "free", _life(row.desired))
            for n, row in enumerate(self.rows)
        )
        life = self.lives[CONSUMER]
        holder = life.life if life is not None else None
        consumer = Consumer("notifications", 0, self.position, self.head, holder)
        return replace(seen, owners=tuple(owners), shards=tuple(shards), consumers=(consumer,))

    def _database(self, reads: bool) -> Database:
        if not reads:
            return Database.AWAY
        return Database.OK if self._writable or not self.writes_seen else Database.READ_ONLY

    def _feeds(self) -> tuple[Feed, ...] | None:
        if self.now_ms - self.odds_heard_ms > 6_000:
            return None
        return (Feed("replay", FEED, self.alive_ms, suspended=False),)

    def _reports(self) -> list[Report]:
        """The gateway's callers wait for who is slow, hangs or sleeps."""
        gateway = self._works("api-gateway")
        if gateway is None:
            return []
        found = []
        for life in self.lives.values():
            if life is not None and life.name in INSTANCES and self._works(life.name) is None:
                waited_ms = self.now_ms - max(life.started_ms, self.stopped_ms.setdefault(life.owner, self.now_ms))
                found.append(Report(gateway.name, life.life, 5, waited_ms, None))
            elif life is not None:
                self.stopped_ms.pop(life.owner, None)
        return found

    def _process(self, name: str) -> Process:
        workload = "bet-service" if name in INSTANCES else name
        life = self.lives[name]
        if life is None:
            return Process(workload, name, "", Phase.DOWN, 0)
        return Process(workload, name, str(life.boot), Phase.RUNNING, 0, self._silent(life, "platform"))

    def _silent(self, life: Running, who: str) -> int:
        answered_ms = life.answered_ms[who]
        if who == "platform":  # the supervisor knows its own pause; it slept when all did, the healer included
            answered_ms = max(answered_ms, self.platform_woke_ms)
        silent_ms = self.now_ms - answered_ms
        return silent_ms if silent_ms > PROBE_MS else 0

    def _act(self, action: Action, writes: bool) -> None:
        match action:
            case MarkDead(owner=owner, term=term) if writes and term == self.term:
                self._check_marked_dead(str(owner))
                self.exited.add(str(owner))
            case Place(wanted=wanted, term=term) if writes and term == self.term:
                for shard, owner in wanted:
                    self.rows[shard].desired = str(owner)
            case Kill(life=named):
                life = self.lives[named.instance]
                if life is not None and life.life == named:
                    self._check_killed(life)
                    self.kills.append(life.owner)
                    self._end(life, "killed by SIGKILL")
            case _:
                pass

    # What must hold.

    def _check_killed(self, life: Running) -> None:
        """It was frozen, or two of three vantage points were really cut off from it: nobody could know better.

        Nor could a healer that began to look in the middle of a sleep of all, and found one that woke up last.
        """
        slack_ms = PROBE_MS + TICK_MS
        if self.now_ms <= life.asleep_until_ms + slack_ms and self.memory.evidence.since_ms > life.asleep_since_ms >= 0:
            return
        frozen = life.frozen_since_ms >= 0 and self.now_ms <= life.frozen_until_ms + slack_ms
        ends = [
            *(
                max(self.deaf_until_ms[who], self.unheard_until_ms.get((who, life.name), 0))
                for who in self.deaf_until_ms
            ),
            self.beatless_until_ms.get(life.name, 0),
        ]
        cut_off = sum(end_ms > 0 and self.now_ms <= end_ms + slack_ms for end_ms in ends)
        if not frozen and cut_off < 2:
            raise Broken(f"{self.now_ms} ms: {life.owner} was killed and was not hung")

    def _check_hanging(self) -> None:
        """Whoever hangs is found and ended, however many did before."""
        for life in self.lives.values():
            if life is not None and life.frozen_until_ms > self.now_ms:
                hangs_ms = self.now_ms - life.frozen_since_ms
                if hangs_ms > HANGS_MS_MAX:
                    raise Broken(f"{self.now_ms} ms: {life.owner} has been left hanging for {hangs_ms} ms")

    def _check_marked_dead(self, owner: str) -> None:
        life = next((each for each in self.lives.values() if each is not None and each.owner == owner), None)
        if life is not None:
            self._check_killed(life)

    def _check_served(self) -> None:
        """After the calm: every shard is held by a living owner at the directory's epoch, and journals only grew."""
        for shard, row in enumerate(self.rows):
            life = next((each for each in self.lives.values() if each is not None and each.owner == row.owner), None)
            if life is None or life.memory.get(shard, (0, 0))[0] != row.epoch:
                raise Broken(f"shard {shard} is not served after the calm: owner {row.owner}, epoch {row.epoch}")
            epochs = [epoch for epoch, _owner in self.journal[shard]]
            if epochs != sorted(epochs):
                raise Broken(f"shard {shard} has entries of an older epoch after a newer one")

    def _note(self, line: str) -> None:
        self.log.append(f"{self.now_ms:>6} ms  {line}")


def _life(owner: str | None) -> Life | None:
    return None if owner is None else Life.parse("bet-service", owner)
