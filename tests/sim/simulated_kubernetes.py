"""The same platform on Kubernetes: what breaks there, and what must hold there too.

Two operators, of which one leads by its Lease and has a healer; an API server that goes away; kubelets that tell late;
watches that miss what happened.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from simulated import CALM_MS, FAULTY_MS, SETTLING_MS, STEP_MS, Simulation
from simulated_cluster import Cluster
from simulated_healer import Healer
from simulated_operators import NODES_OF_OPERATORS, Operator
from simulated_pods import LIST_EVERY_MS, Pods
from simulated_world import INSTANCES, NODES, Broken, World

from betting_operator.healer.healer import CALM_TICKS

ITS_OWN = (
    "node", "node", "api-away", "api-away", "api-loses", "unlisted", "unlisted", "missed", "missed", "late", "late",
    "delete", "delete", "operator-freeze", "operator-freeze", "parent-freeze", "cut-off", "operator-kill",
)  # fmt: skip
FAULTS = (
    *ITS_OWN, "kill", "kill", "freeze", "freeze", "freeze", "freeze", "database", "read-only", "sleep", "overload",
    "unheard", "unheard", "beatless", "beatless", "deaf", "stick",
)  # fmt: skip
LASTS_MS = (3_000, 5_000, 8_000, 12_000, 25_000)
# What has to be known again, and by whom, once the faults are over and shards are served.
KNOWN_WITHIN_MS = 15_000
# Without an API server: until the shards of a bet-service that ended are served by others.
CLAIMED_MS_MAX = 15_000


@dataclass
class OnKubernetes(Simulation):
    """More switches of canaries. Of a healer: fenced, whether it looks again before it deletes a pod, and asks for the
    boot id; asks: whether it asks; fresh: whether it knows that what it heard of pods is old; drops_late: whether it
    does nothing of what it concluded before a pause. leased: whether the loss of the Lease ends an operator and its
    healer; termed: whether Postgres knows the term of a healer.
    """

    fenced: bool = True
    asks: bool = True
    fresh: bool = True
    leased: bool = True
    termed: bool = True
    drops_late: bool = True
    over_ms: int = 0

    faults: ClassVar[tuple[str, ...]] = FAULTS

    def __post_init__(self) -> None:
        self.cluster = Cluster()
        dice = random.Random(self.seed)
        askers = tuple(NODES_OF_OPERATORS)
        self.world = World(dice, fence=self.fence, beside=self.beside, askers=askers, host=self.cluster)
        self.cluster.attach(self.world)
        self.cluster.skewed_ms = {node: dice.choice((-3_000, 0, 0, 3_000)) for node in NODES}
        self.operators = [Operator(self.cluster, who, self._begin, leased=self.leased) for who in askers]

    def run_without_api(self, name: str, for_ms: int) -> None:
        """A calm platform; the API server goes away, and a bet-service ends and cannot come back. Raises Broken."""
        world = self.world
        away_ms = CALM_MS + world.dice.randrange(0, 2_000, STEP_MS)
        ends_ms = away_ms + world.dice.randrange(STEP_MS, 12_000, STEP_MS)
        while world.now_ms < ends_ms:
            if world.now_ms == away_ms:
                self.cluster.api.away_until_ms = away_ms + for_ms
            self._step()
        life = world.lives[name]
        assert life is not None
        world.end(life, "killed by SIGKILL")
        world.down_until_ms[name] = away_ms + for_ms
        while world.now_ms < away_ms + for_ms:
            unserved = self._unserved()
            if unserved and world.now_ms - ends_ms > CLAIMED_MS_MAX:
                raise Broken(f"{world.now_ms - ends_ms} ms after {name} ended without an API server, {unserved}")
            self._step()
        self._check_known()
        if world.kills:
            raise Broken(f"the API server was away, and {world.kills} were killed")

    def _begin(self, who: str) -> tuple[Healer, Pods]:
        pods = Pods(self.cluster, who, fenced=self.fenced, asks=self.asks, fresh=self.fresh)
        healer = Healer(
            self.world,
            who,
            pods,
            writes_seen=self.writes_seen,
            pause_seen=self.pause_seen,
            drops_late=self.drops_late,
            calm_ticks=CALM_TICKS,
            termed=self.termed,
        )
        return healer, pods

    def _step(self) -> None:
        world = self.world
        for name in list(world.lives):
            world.live(name)
        self.cluster.step()
        world.follow()
        for each in self.operators:
            if each.healer is not None and world.now_ms > FAULTY_MS:
                each.healer.stops_for_ms = 0
            each.step([other for other in self.operators if other is not each])
        leaders = [each.who for each in self.operators if each.candidate.leads()]
        if len(leaders) > 1:
            raise Broken(f"{world.now_ms} ms: {' and '.join(leaders)} lead at once")
        world.now_ms += STEP_MS

    def _break(self, kind: str, name: str, for_ms: int) -> None:  # noqa: PLR0912 (a line or two for each fault)
        world, cluster, api, dice = self.world, self.cluster, self.cluster.api, self.world.dice
        one = dice.choice(self.operators)
        leader = next((each for each in self.operators if each.candidate.leads()), one)
        for_ms = dice.choice(LASTS_MS) if kind in ITS_OWN else for_ms
        until_ms = world.now_ms + for_ms
        match kind:
            case "node":
                world.lose(dice.choice(sorted(NODES)), for_ms)
            case "api-away":
                world.note(f"the API server is away for {for_ms} ms")
                api.away_until_ms = until_ms
            case "api-loses":
                world.note(f"answers of the API server to writes are lost for {for_ms} ms")
                api.losing_until_ms = until_ms
            case "unlisted":
                until_ms += 20_000
                world.note(f"{leader.who} can neither list nor watch pods for {until_ms - world.now_ms} ms")
                cluster.unlisted_until_ms[leader.who] = until_ms
            case "missed":
                world.note(f"the watch of {leader.who} misses what happens for {for_ms} ms")
                cluster.misses_until_ms[leader.who] = until_ms
                until_ms = max(until_ms, world.now_ms + LIST_EVERY_MS)
                if dice.random() < 0.5:
                    self._break("delete", name, for_ms)
            case "late":
                node = dice.choice(sorted(NODES))
                world.note(f"the kubelet of node {node} tells nothing for {for_ms} ms")
                cluster.late_until_ms[node] = until_ms
                if dice.random() < 0.5:
                    super()._break("kill", dice.choice(NODES[node]), for_ms)
            case "delete":
                world.note(f"a person deletes {name}")
                cluster.delete_in_order(name)
            case "operator-freeze":
                if leader.healer is not None and dice.random() < 0.5:
                    leader.healer.stops_for_ms = dice.choice((3_000, 5_000))
                    super()._break("freeze", dice.choice(INSTANCES), 4_000)
                else:
                    world.note(f"{leader.who} is frozen for {for_ms} ms")
                    world.frozen_until_ms[leader.who] = until_ms
            case "parent-freeze":
                world.note(f"{leader.who} is frozen for {for_ms} ms, its healer is not")
                leader.frozen_until_ms = until_ms
            case "cut-off":
                world.note(f"{leader.who} is cut off from the API server for {for_ms} ms")
                api.cut_off_until_ms[leader.who] = until_ms
            case "operator-kill":
                world.note(f"{leader.who} is killed")
                leader.killed()
            case _:
                super()._break(kind, name, for_ms)
                return
        self.over_ms = max(self.over_ms, until_ms)

    def _sleep(self, *, healer: bool) -> None:
        """Everything: also nodes, operators and the API server."""
        super()._sleep(healer=False)
        until_ms = max(life.asleep_until_ms for life in self.world.lives.values() if life is not None)
        self.cluster.api.away_until_ms = until_ms
        for each in self.operators:
            self.world.frozen_until_ms[each.who] = until_ms

    def _woke_lately(self) -> bool:
        return super()._woke_lately() or self.world.now_ms < self.over_ms + SETTLING_MS

    def _check_known(self) -> None:
        """One operator leads, and its healer knows what runs."""
        world = self.world
        until_ms = world.now_ms + KNOWN_WITHIN_MS
        while world.now_ms < until_ms:
            leaders = [each for each in self.operators if each.candidate.leads()]
            if [each for each in leaders if each.pods is not None and each.pods.is_right()]:
                return
            self._step()
        what = "its healer does not know what runs" if leaders else "no operator leads"
        raise Broken(f"{KNOWN_WITHIN_MS} ms after the calm {what}")
