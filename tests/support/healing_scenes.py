"""Small platforms for the healing brain: what a healer would see of them, tick by tick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from betting.life import Life
from betting_operator.healing import flight
from betting_operator.healing.actions import Action
from betting_operator.healing.brain import Tick, decide
from betting_operator.healing.diagnoses import Certainty, Kind
from betting_operator.healing.memory import Memory
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Database, Exit, Observation, Owner, Phase, Probe, Process, Shard

TICK_MS = 500
SHARDS = 4


def life(instance: str, boot_id: str = "1") -> Life:
    """A life of an instance; its workload is its name without the number."""
    workload = instance.rsplit("-", 1)[0] if instance[-1].isdigit() else instance
    return Life(workload, instance, boot_id)


def process(instance: str, boot_id: str = "1", *, silent_ms: int = 0, phase: Phase = Phase.RUNNING) -> Process:
    """A process; its workload is its name without the number."""
    return Process(life(instance).workload, instance, boot_id, phase, 0, silent_ms)


def calm(at_ms: int = 0) -> Observation:
    """Two owners with two shards each, a wallet, a gateway; all well."""
    owners = (life("bet-service-1"), life("bet-service-2"))
    instances = ("bet-service-1", "bet-service-2", "wallet-service", "api-gateway", "user-service", "event-service")
    return Observation(
        at_ms=at_ms,
        term=1,
        processes=tuple(process(instance) for instance in instances),
        probes=tuple(Probe(life(instance), Answer.SERVING, 0) for instance in instances),
        database=Database.OK,
        owners=tuple(Owner(owner, 200, draining=False, exited=False) for owner in owners),
        shards=tuple(Shard(n, owners[n * 2 // SHARDS], 1, "owned", owners[n * 2 // SHARDS]) for n in range(SHARDS)),
    )


def silent_to_healer(seen: Observation, silent_ms: int, *instances: str) -> Observation:
    """These have not answered the healer's probe for so long."""
    silent = {p.life: replace(p, answer=Answer.SILENT, silent_ms=silent_ms) for p in seen.probes}
    probes = (silent[p.life] if p.life.instance in instances else p for p in seen.probes)
    return replace(seen, probes=tuple(probes))


def reborn(seen: Observation, instance: str, boot_id: str) -> Observation:
    """This instance is in a later life."""
    lives = (replace(p, boot_id=boot_id) if p.instance == instance else p for p in seen.processes or ())
    probes = (
        replace(p, life=replace(p.life, boot_id=boot_id)) if p.life.instance == instance else p for p in seen.probes
    )
    return replace(seen, processes=tuple(lives), probes=tuple(probes))


def silent_to_platform(seen: Observation, silent_ms: int, *instances: str) -> Observation:
    """These have not answered the platform's probe for so long."""
    found = (replace(p, silent_ms=silent_ms) if p.instance in instances else p for p in seen.processes or ())
    return replace(seen, processes=tuple(found))


def no_beat(seen: Observation, age_ms: int, *owners: Life) -> Observation:
    """The beats of these owners are so old."""
    found = (replace(o, beat_age_ms=age_ms) if o.life in owners else o for o in seen.owners or ())
    return replace(seen, owners=tuple(found))


def ended(seen: Observation, instance: str, boot_id: str = "1") -> Observation:
    """The exit of this life was seen just now."""
    down = (replace(p, phase=Phase.DOWN, boot_id="") if p.instance == instance else p for p in seen.processes or ())
    exits = (*seen.exits, Exit(life(instance, boot_id), seen.at_ms, "killed by SIGKILL"))
    return replace(seen, processes=tuple(down), exits=exits)


@dataclass
class Scenario:
    """A healer that lives through ticks."""

    policy: Policy = field(default_factory=Policy)
    memory: Memory = field(default_factory=Memory)
    ticks: list[Tick] = field(default_factory=list)

    def live(self, *seen: Observation) -> Tick:
        """One tick after the other; returns what came of the last."""
        for each in seen:
            tick = decide(self.memory, each, self.policy)
            self.memory = tick.memory
            self.ticks.append(tick)
        return self.ticks[-1]

    @property
    def actions(self) -> list[Action]:
        """Everything done so far."""
        return [action for tick in self.ticks for action in tick.plan.actions]

    def done(self, kind: type) -> list[Action]:
        """Everything of one kind done so far."""
        return [action for action in self.actions if isinstance(action, kind)]


def over(duration_ms: int, change: object, start_ms: int = 0) -> Iterable[Observation]:
    """Ticks of half a second; `change` turns a calm tick into what is seen."""
    assert callable(change)
    return [change(calm(at_ms)) for at_ms in range(start_ms, start_ms + duration_ms + 1, TICK_MS)]


def certainty_of(tick: Tick, kind: Kind, target: str) -> Certainty | None:
    """How certain a diagnosis is in this tick; None: it is not made."""
    return next((d.certainty for d in tick.diagnoses if (d.kind, d.target) == (kind, target)), None)


def recorded() -> list[str]:
    """The lines of a flight record of two ticks: calm, then a death."""
    memory, lines = Memory(), [flight.opening(Memory())]
    for seen in (calm(), ended(calm(500), "bet-service-2")):
        tick = decide(memory, seen, Policy())
        memory = tick.memory
        lines.append(flight.line(flight.Record(7, Policy(), seen, tick.diagnoses, tick.plan)))
    return lines


def on_nodes(seen: Observation, **nodes: tuple[str, ...]) -> Observation:
    """The same processes on nodes: the instances of each."""
    where = {instance: node for node, instances in nodes.items() for instance in instances}
    processes = (replace(process, node=where.get(process.instance, "")) for process in seen.processes or ())
    return replace(seen, processes=tuple(processes))


def unheard(seen: Observation, *instances: str, since_ms: int = 0) -> Observation:
    """Nothing has been heard of these since then: no answer to the healer, no heartbeat. Nobody else probes them."""
    if seen.at_ms <= since_ms:
        return seen
    silent_ms = seen.at_ms - since_ms
    return no_beat(silent_to_healer(seen, silent_ms, *instances), silent_ms, *(life(each) for each in instances))
