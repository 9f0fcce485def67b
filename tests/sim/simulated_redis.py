"""Redis simulated: nodes that die, hang and lose each other, healers that do too, the record, the supervisor's keeper.

The brain and the keeper's rule are the real ones. Clients write to every node that takes writes, so two that do at once
are found. What a healer decided may be done much later, or by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from simulated_valkeys import Valkeys
from simulated_world import Broken

from betting.embedded.redis_keeper import wanted_row
from betting.journal.redis_record import HEALER_GONE_AFTER_S, Row
from betting.life import Life
from betting_operator.healing.actions import Action, Alert, Kill
from betting_operator.healing.brain import decide
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.redis_signals import (
    NOBODY,
    FailoverPhase,
    Redis,
    RedisNode,
    RedisRecord,
    RedisRole,
)
from betting_operator.healing.signals import Database, Exit, Observation, Phase, Process

STEP_MS = 100
TICK_MS = 500
CALM_TICKS = 2
BEHIND_MAX = 20  # writes that a replica may be behind in the end
FAULTY_MS = 25_000
SETTLING_MS = 25_000
HEALERS = "healers"
FAULTS = (
    "kill-primary", "kill-primary", "kill", "kill-all", "freeze-primary", "freeze-primary", "freeze", "cut", "cut",
    "database", "pause", "healer-freeze", "healer-freeze", "healer-kill", "second-healer", "second-healer",
)  # fmt: skip
OF_QUORUMS = ("flap-primary", "flap-primary")
OF_PODS = ("lose-primary", "lose-primary", "lose", "stuck")


@dataclass
class Healer:
    """One healer: what it remembers, and what it is about to do."""

    term: int
    memory: Memory = field(default_factory=Memory)
    todo: list[Action] = field(default_factory=list)
    next_ms: int = 0
    frozen_until_ms: int = 0
    late_ms: int = 0
    answered_ms: dict[str, int] = field(default_factory=dict)
    said: dict[str, RedisNode] = field(default_factory=dict)
    told: int = 0


@dataclass
class RedisWorld(Valkeys):
    """quorum: three nodes, one of two replicas must acknowledge; without pods nobody underneath sees ends or kills.

    pods: three nodes as on Kubernetes. They boot fenced, as replicas of nobody; no keeper names a primary, and at first
    nobody is recorded; the platform's own probe says nothing; a node that is lost ends nothing and tells nothing until
    it is back.

    Canaries, with which runs must break. fence: without it a primary that is to be killed is only said to be dead.
    honest: without it nodes that wait for nobody say that they wait for a replica.
    """

    fence: bool = True
    honest: bool = True
    recorded_ms: int = 0
    inventory: tuple[Process, ...] = ()
    to_end: dict[str, Life] = field(default_factory=dict)  # deleted; their node is to end them
    reported_exits: int = 0
    healers: list[Healer] = field(default_factory=list)
    term: int = 0
    beat_ms: int = 0
    cuts_to_come: list[tuple[int, frozenset[str], int]] = field(default_factory=list)  # when, which path, until when
    database_away_until_ms: int = 0
    paused_until_ms: int = 0
    failovers: int = 0
    kept: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pods:
            self.record = NOBODY
        else:
            first = self._named()
            self.record = replace(self.record, min_replicas=first.min_replicas)
            self._promote(first)
        self._new_healer()

    def run(self) -> None:
        """Faults for a while, then calm. Raises Broken."""
        while self.now_ms < FAULTY_MS + SETTLING_MS:
            if self.now_ms < FAULTY_MS and self.dice.random() < 0.04:
                self._fault()
            for cut in [each for each in self.cuts_to_come if self.now_ms >= each[0]]:
                self.cuts_to_come.remove(cut)
                self.cut_until_ms[cut[1]] = cut[2]
            for name in self.names:
                self._come_back(name)
                self._live(name)
            self._write()
            self._keep()
            if not self.healers and self.dice.random() < 0.1:
                self._new_healer()
            for healer in tuple(self.healers):
                self._heal(healer)
            self.now_ms += STEP_MS
        self._check_calm()

    # What breaks.

    def _fault(self) -> None:
        for_ms = self.dice.choice((1_500, 3_500, 6_000, 12_000))
        faults = FAULTS + OF_PODS * self.pods + OF_QUORUMS * self.quorum
        fault, name = self.dice.choice(faults), self.dice.choice(self.names)
        name = self.record.primary or name if fault.endswith("-primary") else name
        if self._is_beyond(fault, name):
            return
        self._note(f"{fault} {name} {for_ms}")
        match fault:
            case "kill-primary" | "kill":
                self._end(name)
            case "kill-all":
                for each in self.names:
                    self._end(each)
            case "freeze-primary" | "freeze":
                life = self.lives[name]
                if life is not None:
                    life.frozen_until_ms = self.now_ms + for_ms
            case "cut":
                self._cut(name, for_ms)
            case "flap-primary" | "lose-primary" | "lose" | "stuck":
                self._cluster_fault(fault, name, for_ms)
            case "database":
                self.database_away_until_ms = self.now_ms + 4_000
            case "pause":
                self.paused_until_ms = self.now_ms + 8_000
            case _:
                self._healer_fault(fault, for_ms)

    def _cut(self, name: str, for_ms: int) -> None:
        other = self.dice.choice((HEALERS, *self.names))
        if not (self.quorum and {name, other} & self._frozen_names() and other != HEALERS):
            self.cut_until_ms[frozenset((name, other))] = self.now_ms + for_ms

    def _cluster_fault(self, fault: str, name: str, for_ms: int) -> None:
        """stuck: its image is gone, or it crashes as it starts. flap: healers do not reach it; others do again for a
        moment, and do not hear how that ends."""
        if fault.startswith("lose"):
            self.lost_until_ms[name] = self.now_ms + for_ms
            return
        if fault == "stuck":
            self._end(name)
            self.down_until_ms[name] = self.now_ms + 2 * for_ms
            return
        self.cut_until_ms[frozenset((name, HEALERS))] = self.now_ms + 12_000
        for other in self.names:
            if other != name:
                pair = frozenset((name, other))
                self.cut_until_ms[pair] = self.now_ms + 3_300 + self.dice.randrange(1_000)
                self.cuts_to_come.append((self.cut_until_ms[pair] + 300, pair, self.now_ms + 10_000))

    def _is_beyond(self, fault: str, name: str) -> bool:
        """What the quorum does not fence, see docs/architecture/redis-failover.md: a primary that is frozen and whose
        paths to its replicas are cut meanwhile does not read that they have left when it goes on."""
        if not self.quorum:
            return False
        paths = (pair for pair in self.cut_until_ms if name in pair and HEALERS not in pair)
        to_come = any(name in pair for _at_ms, pair, _until_ms in self.cuts_to_come)
        apart = self._lost(name) or to_come or any(self.now_ms < self.cut_until_ms[pair] for pair in paths)
        frozen = self._frozen_names()
        if fault.startswith("flap") and frozen:
            return True
        return (fault.startswith("freeze") and apart) or (fault.startswith("lose") and name in frozen)

    def _healer_fault(self, fault: str, for_ms: int) -> None:
        """A second one may begin while the first one hangs, and that one wakes up with work in its hands."""
        if fault == "second-healer":
            self._new_healer()
            del self.healers[:-2]
        elif self.healers and fault == "healer-freeze":
            self.healers[-1].frozen_until_ms = self.now_ms + for_ms
        elif self.healers:
            self.healers.pop()

    # Nodes.

    def _come_back(self, name: str) -> None:
        """A node that was lost does what it was told meanwhile."""
        named = self.to_end.get(name)
        if named is None or self._lost(name):
            return
        del self.to_end[name]
        life = self.lives[name]
        if life is not None and life.life == named:
            self._end(name)

    # The supervisor's keeper.

    def _keep(self) -> None:
        if self.quorum or self.pods or self.now_ms % 1_000 or self.now_ms < self.database_away_until_ms:
            return
        if self.kept is not None:  # what it has written down it does a second later
            (name, boot_id), self.kept = self.kept, None
            life = self.lives[name]
            if life is not None and life.boot_id == boot_id and not self._frozen(life):
                self._promote(life)
            return
        if not self._paused() and self.now_ms - self.beat_ms < HEALER_GONE_AFTER_S * 1_000:
            return
        lives = {name: life.boot_id for name, life in self.lives.items() if life is not None}
        row = _row(self.record)
        wanted = wanted_row(row, lives)
        if wanted is not None and (wanted != row or self._role(wanted.primary) is not RedisRole.PRIMARY):
            self._note(f"the keeper names {wanted}")
            if wanted != row:
                self._recorded(RedisRecord(wanted.primary, wanted.boot_id, wanted.epoch))
            self.kept = (wanted.primary, wanted.boot_id)

    def _role(self, name: str) -> RedisRole:
        life = self.lives[name]
        return RedisRole.UNKNOWN if life is None else life.role

    def _paused(self) -> bool:
        return self.now_ms < self.paused_until_ms

    def _recorded(self, record: RedisRecord) -> None:
        self.record, self.recorded_ms = record, self.now_ms

    # The healers.

    def _new_healer(self) -> None:
        if self.now_ms >= self.database_away_until_ms:
            self.term += 1
            self.healers.append(Healer(self.term))

    def _heal(self, healer: Healer) -> None:
        if self.now_ms < healer.frozen_until_ms:
            healer.late_ms += STEP_MS
            return
        if healer.todo:
            if self.dice.random() < 0.5:
                self._act(healer, healer.todo.pop(0))
            return
        if self.now_ms < healer.next_ms:
            return
        healer.next_ms = self.now_ms + TICK_MS
        reads = self.now_ms >= self.database_away_until_ms
        if reads and healer.term != self.term:
            self.healers.remove(healer)  # its beat tells it that another has begun
            return
        self.beat_ms = self.now_ms if reads else self.beat_ms
        policy = Policy(paused="network work" if self._paused() else "")
        tick = decide(healer.memory, self._seen(healer, reads), policy)
        healer.memory, healer.late_ms = tick.memory, 0
        healer.todo = [action for action in tick.plan.actions if not isinstance(action, Alert)]
        if any(isinstance(action, MoveRecord | Promote) for action in healer.todo):
            healer.next_ms = self.now_ms
        elif not tick.diagnoses:
            healer.next_ms = self.now_ms + TICK_MS * CALM_TICKS

    def _seen(self, healer: Healer, reads: bool) -> Observation:
        if self.dice.random() < 0.7:  # else the platform's inventory is an old one
            known = {process.instance: process for process in self.inventory}
            self.inventory = tuple(
                known.get(name, Process("valkey", name, "", Phase.STARTING, 0))
                if self._lost(name)
                else self._process(name)
                for name in self.names
            )
            self.reported_exits = len(self.exits)
        exits = self.exits[healer.told : self.reported_exits]
        healer.told = max(healer.told, self.reported_exits)
        nodes = tuple(self._asked(healer, name) for name in self.names)
        age_ms = self.now_ms - self.recorded_ms
        return Observation(
            at_ms=self.now_ms,
            late_ms=healer.late_ms,
            term=healer.term,
            processes=None if self.quorum and not self.pods else self.inventory,
            exits=() if self.quorum and not self.pods else tuple(exits),
            database=Database.OK if reads else Database.AWAY,
            redis=Redis(self.record, age_ms, nodes) if reads else None,
        )

    def _process(self, name: str) -> Process:
        life = self.lives[name]
        if life is None:
            return Process("valkey", name, "", Phase.STARTING if self.pods else Phase.DOWN, 0)
        silent_ms = 0 if self.pods else self.now_ms - life.platform_ms
        phase = Phase.STOPPING if name in self.to_end else Phase.RUNNING
        return Process("valkey", name, life.boot_id, phase, 0, silent_ms if silent_ms > 1_000 else 0)

    def _asked(self, healer: Healer, name: str) -> RedisNode:
        life = self.lives[name]
        if life is None or self._frozen(life) or not self._reach(HEALERS, name):
            before = healer.said.get(name, RedisNode(name))
            silent_ms = self.now_ms - healer.answered_ms.setdefault(name, self.now_ms)
            node = replace(before, silent_ms=max(1, silent_ms), fresh=False)
        else:
            healer.answered_ms[name] = self.now_ms
            heard_ms = None if life.heard_ms is None else self.now_ms - life.heard_ms
            offset = len(life.data)
            node = RedisNode(name, life.boot_id, 0, True, life.role, life.follows, heard_ms, keys=offset)
            min_replicas = life.min_replicas if self.honest else int(self.quorum)
            node = replace(node, offset=offset, history=str(life.synced_with), min_replicas=min_replicas)
        healer.said[name] = node
        return node

    def _act(self, healer: Healer, action: Action) -> None:
        match action:
            case MoveRecord(expected=expected, to=to, term=term):
                if self.now_ms < self.database_away_until_ms or term != self.term or expected != self.record:
                    return
                self._note(f"healer {term}: {to}")
                if to.phase is FailoverPhase.PROMOTING:
                    self._check_chosen(healer, to)
                self.failovers += to.epoch != self.record.epoch
                self._recorded(to)
            case Promote(life=named):
                life = self.lives[named.instance]
                if life is not None and life.life == named and self._told(named.instance):
                    self._promote(life)
            case Follow(life=named, primary=primary):
                life = self.lives[named.instance]
                if life is not None and life.life == named and self._told(named.instance):
                    self._leave(life)
                    life.role, life.follows, life.heard_ms = RedisRole.REPLICA, primary, None
                    self._note(f"{life.name}@{life.boot} follows {primary or 'nobody'}")
            case Kill(life=named):
                life = self.lives[named.instance]
                if life is not None and life.life == named:
                    self._kill(named)
            case _:
                pass

    def _kill(self, named: Life) -> None:
        if not self.fence:
            self.exits.append(Exit(named, self.now_ms, "it did not answer"))
        elif self._lost(named.instance):
            self.to_end[named.instance] = named
        else:
            self._end(named.instance)

    def _told(self, name: str) -> bool:
        life = self.lives[name]
        return life is not None and not self._frozen(life) and self._reach(HEALERS, name)

    # What must hold.

    def _check_chosen(self, healer: Healer, to: RedisRecord) -> None:
        """Of the replicas that answered the healer, and had the primary's data, none had more."""
        ended = healer.said[to.primary]
        copies = [node for node in healer.said.values() if node.fresh and node.role is RedisRole.REPLICA]
        known = (ended.boot_id, ended.role) == (to.boot_id, RedisRole.PRIMARY)
        in_step = (node for node in copies if (node.history == to.boot_id if known else not node.unsynced))
        replicas = [node for node in in_step if node.has_data]
        most = max((node.offset for node in replicas), default=0)
        chosen = healer.said[to.candidate]
        if chosen.offset < most or (replicas and chosen not in replicas):
            raise Broken(f"{self.now_ms} ms: {to.candidate} was chosen with {chosen.offset} of {most} writes")

    def _check_calm(self) -> None:
        """After the calm: the record is steady, its life serves, everybody else has what it has."""
        named = self.lives.get(self.record.primary)
        if self.record.phase is not FailoverPhase.STEADY or named is None or named.boot_id != self.record.boot_id:
            raise Broken(f"after the calm the record says {self.record}, and the node is {named}")
        if not self._takes_writes(named):
            raise Broken(f"after the calm {named.name}@{named.boot} takes no writes")
        for life in self.lives.values():
            if life is None or (life is not named and life.follows != named.name):
                raise Broken(f"after the calm {life} does not follow {named.name}")
            if len(named.data) - len(life.data) > BEHIND_MAX or not named.data[: len(life.data)] == life.data:
                raise Broken(f"after the calm {life.name} has other data than {named.name}")


def _row(record: RedisRecord) -> Row:
    return Row(
        record.primary, record.boot_id, record.epoch, record.phase.value, record.candidate, record.candidate_boot_id
    )
