"""A platform in one thread on a clock of its own: the real brain and the real claim rules, around a simulated world.

Here is what breaks and what must hold; the world and the healer have modules of their own. Every choice comes from
one seed, so a failing run is repeated by its number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from simulated_healer import STEP_MS, Healer
from simulated_supervisor import Supervisor
from simulated_world import INSTANCES, NODES, ODDS, OTHERS, PROBE_MS, SHARDS, Broken, World

from betting.life import Life
from betting.placement import Candidate
from betting_operator.healing import rebalancing
from betting_operator.healing.signals import Rebalance

FAULTY_MS = 30_000
SETTLING_MS = 25_000
FAULTS = (
    "kill", "freeze", "freeze", "freeze", "freeze", "database", "read-only", "read-only", "sleep", "sleep-but-healer",
    "overload", "overload", "deaf", "unheard", "unheard", "beatless", "beatless", "healer-freeze", "healer-freeze",
    "healer-kill", "stick", "stick", "node", "node",
)  # fmt: skip
# Many independent faults: one in eight seconds for five minutes; nobody may hang for longer than this.
STORM_MS = 300_000
STORM_EVERY_MS = 8_000
HANGS_MS_MAX = 15_000
# How often people change their minds about a rebalance, in histories that have some.
ASKED_EVERY_MS = 6_000
REBALANCED_WITHIN_MS = 15_000
# A node is lost: until every shard is served elsewhere.
CALM_MS = 10_000
LOST_MS_MAX = 5_000


@dataclass
class Simulation:
    """Switches of the canaries, each an old fault: runs must break with it. fence: whether an append checks owner and
    epoch. writes_seen: whether the healer knows that nothing can be written; pause_seen: its own pause.
    beside: whether health is answered beside the work; nodes_seen: whether the healer knows what runs where. storm:
    many independent faults instead of some of each kind. asked: whether people ask for rebalances meanwhile; the last
    one is under way when the faults are over.
    """

    seed: int
    fence: bool = True
    writes_seen: bool = True
    pause_seen: bool = True
    beside: bool = True
    nodes_seen: bool = True
    storm: bool = False
    asked: bool = False
    slept_ms: int = 0
    awake_at_ms: int = -SETTLING_MS

    faults: ClassVar[tuple[str, ...]] = FAULTS

    def __post_init__(self) -> None:
        self.world = World(random.Random(self.seed), fence=self.fence, beside=self.beside)
        supervisor = Supervisor(self.world, nodes_seen=self.nodes_seen)
        self.healer = Healer(self.world, "healer", supervisor, writes_seen=self.writes_seen, pause_seen=self.pause_seen)

    def run(self) -> None:
        """Faults for a while, then calm. Raises Broken."""
        world = self.world
        faulty_ms = STORM_MS if self.storm else FAULTY_MS
        while (lived_ms := world.now_ms - self.slept_ms) < faulty_ms + SETTLING_MS or self._woke_lately():
            if self.storm:
                if lived_ms < faulty_ms and lived_ms % STORM_EVERY_MS == 0:
                    self._strike()
                self._check_hanging()
            elif lived_ms < faulty_ms and not world.asleep and world.dice.random() < 0.02:
                self._fault()
            if self.asked and lived_ms <= faulty_ms and lived_ms % ASKED_EVERY_MS == 0:
                self._ask()
            self._step()
        self._check_served()
        self._check_rebalanced()
        self._check_known()

    def run_lost_node(self, node: str, within_ms: int = LOST_MS_MAX) -> None:
        """A calm platform, of which this node is lost. Raises Broken when its shards are not served elsewhere soon, or
        anything but what ran there was killed."""
        world = self.world
        while world.now_ms < CALM_MS + world.dice.randrange(0, 2_000, STEP_MS):
            self._step()
        world.lose(node, for_ms=10 * SETTLING_MS)
        lost_ms = world.now_ms
        while unserved := self._unserved(working=True):
            if world.now_ms - lost_ms >= within_ms:
                raise Broken(f"{world.now_ms - lost_ms} ms after node {node} was lost, {unserved}")
            self._step()
        while world.now_ms - lost_ms < SETTLING_MS:
            self._step()
        if elsewhere := [name for name in world.kills if name.split("@")[0] not in NODES[node]]:
            raise Broken(f"node {node} was lost, and {elsewhere} were killed")

    def _woke_lately(self) -> bool:
        """Whether what slept, the healer or not, has not had the calm that follows faults yet."""
        return self.world.now_ms < self.awake_at_ms + SETTLING_MS

    def _step(self) -> None:
        for name in (*INSTANCES, *OTHERS):
            self.world.live(name)
        self.world.follow()
        self.healer.run()
        self.world.now_ms += STEP_MS

    def _ask(self) -> None:
        """The last plan is stopped, or done with; the next one empties somebody."""
        owners = {
            shard: Life.parse("bet-service", row.owner).instance
            for shard, row in enumerate(self.world.rows)
            if row.owner is not None
        }
        emptied = (self.world.dice.choice(INSTANCES),)
        moves = rebalancing.needed(SHARDS, [Candidate(name) for name in INSTANCES], owners, emptied)
        self.world.note(f"asked for {emptied[0]} to be emptied: {len(moves)} moves")
        self.world.rebalance = Rebalance(f"at-{self.world.now_ms}", moves, emptied)

    def _strike(self) -> None:
        """One random process is killed, or hangs for good."""
        world = self.world
        life = world.lives[world.dice.choice((*INSTANCES, *OTHERS))]
        if life is None or life.frozen_until_ms > world.now_ms:
            return
        if world.dice.random() < 0.3:
            world.end(life, "killed by SIGKILL")
        else:
            world.note(f"freeze {life.owner} for good")
            life.frozen_until_ms, life.frozen_since_ms = world.now_ms + 10 * STORM_MS, world.now_ms

    def _sleep(self, *, healer: bool) -> None:
        """Everything is stopped, and goes on one after the other within a second and a half."""
        world = self.world
        for_ms = world.dice.choice((4_000, 25_000, 70_000))
        world.note(f"everybody sleeps for {for_ms} ms" + ("" if healer else ", the healer does not"))
        for life in world.lives.values():
            if life is not None:
                if life.asleep_since_ms < 0 or world.now_ms > life.asleep_until_ms + PROBE_MS:  # it was heard since
                    life.asleep_since_ms = world.now_ms
                life.asleep_until_ms = world.now_ms + for_ms + world.dice.randrange(0, 1_500, STEP_MS)
        self.awake_at_ms = world.now_ms + for_ms
        if healer:
            world.frozen_until_ms["healer"] = world.now_ms + for_ms
            self.slept_ms += for_ms
            world.platform_woke_ms = world.now_ms + for_ms

    def _fault(self) -> None:
        name = self.world.dice.choice((*INSTANCES, *OTHERS))
        for_ms = self.world.dice.choice((1_500, 2_900, 4_000, 12_000, 60_000))
        self._break(self.world.dice.choice(self.faults), name, for_ms)

    def _break(self, kind: str, name: str, for_ms: int) -> None:  # noqa: PLR0912 (a line or two for each fault)
        """One fault. name, for_ms: whom it is about and how long it lasts, where a fault has that."""
        world = self.world
        life = world.lives[name]
        match kind:
            case "kill" if life is not None:
                world.note(f"kill {life.owner}")
                world.end(life, "killed by SIGKILL")
            case "freeze" if life is not None:
                world.note(f"freeze {life.owner} for {for_ms} ms")
                life.frozen_until_ms, life.frozen_since_ms = world.now_ms + for_ms, world.now_ms
            case "database":
                world.note("the database is away for 5 s")
                world.database_away_until_ms = world.now_ms + 5_000
            case "read-only":
                for_ms = world.dice.choice((4_000, 15_000))
                world.note(f"the database takes no writes for {for_ms} ms")
                world.read_only_until_ms = world.now_ms + for_ms
            case "sleep" | "sleep-but-healer" as who:
                self._sleep(healer=who == "sleep")
            case "overload" if life is not None:
                world.note(f"{life.owner} is overloaded for 12 s")
                life.slow_until_ms = world.now_ms + 12_000
            case "node":
                world.lose(world.dice.choice(sorted(NODES)), world.dice.choice((4_000, 12_000, 60_000)))
            case "stick" if (odds := world.lives[ODDS]) is not None:
                world.note(f"{ODDS} is stuck for {for_ms} ms: it answers its probes, and takes in no prices")
                odds.stuck_since_ms, odds.stuck_until_ms = world.now_ms, world.now_ms + for_ms
            case "deaf":
                who = world.dice.choice(world.askers)
                world.note(f"the {who}'s probes are lost for 8 s")
                world.deaf_until_ms[who] = world.now_ms + 8_000
            case "unheard":
                who = world.dice.choice(world.askers)
                world.note(f"the {who} cannot reach {name} for 8 s")
                world.unheard_until_ms[who, name] = world.now_ms + 8_000
            case "beatless":
                world.note(f"{name} cannot beat for 6 s")
                world.beatless_until_ms[name] = world.now_ms + 6_000
            case "healer-freeze":
                world.note("the healer is frozen for 4 s")
                world.frozen_until_ms["healer"] = world.now_ms + 4_000
            case "healer-kill":
                world.note("the healer is killed")
                self.healer.killed()

    def _check_hanging(self) -> None:
        """Whoever hangs is found and ended, however many did before."""
        world = self.world
        for life in world.lives.values():
            if life is not None and life.frozen_until_ms > world.now_ms:
                hangs_ms = world.now_ms - life.frozen_since_ms
                if hangs_ms > HANGS_MS_MAX:
                    raise Broken(f"{world.now_ms} ms: {life.owner} has been left hanging for {hangs_ms} ms")

    def _check_served(self) -> None:
        """After the calm: every shard is held by a living owner at the directory's epoch, and journals only grew."""
        world = self.world
        if unserved := self._unserved():
            raise Broken(f"after the calm {unserved}")
        for shard in range(len(world.rows)):
            epochs = [epoch for epoch, _owner in world.journal[shard]]
            if epochs != sorted(epochs):
                raise Broken(f"shard {shard} has entries of an older epoch after a newer one")

    def _check_known(self) -> None:
        """Here nothing has to be found out again after the faults."""

    def _check_rebalanced(self) -> None:
        """The plan that is under way is carried out, where everybody has been able to for a while."""
        if self._woke_ms() + REBALANCED_WITHIN_MS > self.world.now_ms:
            return
        for move in self.world.rebalance.moves:
            owner = self.world.rows[move.shard].owner
            if owner is not None and Life.parse("bet-service", owner).instance == move.origin:
                raise Broken(f"shard {move.shard} is still with {owner}: the rebalance did not go on after the faults")

    def _woke_ms(self) -> int:
        """When the last fault was over that keeps the healer from moving what works, or somebody from working."""
        world = self.world
        lives = [each for each in world.lives.values() if each is not None]
        over_ms = [world.read_only_until_ms, *world.frozen_until_ms.values(), *world.deaf_until_ms.values()]
        over_ms += [*world.unheard_until_ms.values(), *world.beatless_until_ms.values()]
        for each in lives:
            over_ms += [each.frozen_until_ms, each.asleep_until_ms, each.slow_until_ms, each.stuck_until_ms]
        return max(over_ms)

    def _unserved(self, *, working: bool = False) -> str:
        """A shard that no life (working: none that is not frozen) holds at the directory's epoch; "": all are held."""
        world = self.world
        for shard, row in enumerate(world.rows):
            life = world.life_of(row.owner)
            frozen = working and life is not None and life.frozen_until_ms > world.now_ms
            if life is None or frozen or life.memory.get(shard, (0, 0))[0] != row.epoch:
                return f"shard {shard} is not served: owner {row.owner}, epoch {row.epoch}"
        return ""
