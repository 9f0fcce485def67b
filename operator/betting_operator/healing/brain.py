"""One tick of healing: observation → diagnoses → plan. A pure function of what was seen, remembered and allowed.

Every concern has the same shape: what it watches is kept in memory, what it concludes is a diagnosis, what is done
about it goes through one gate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from betting.life import Life
from betting_operator.healing import (
    bad_nodes,
    diagnose,
    escalation,
    evidence,
    feeds,
    grey,
    handovers,
    ledger,
    nodes,
    placement,
    redis_failover,
    retiring,
    sizes,
    stall,
)
from betting_operator.healing import plan as planning
from betting_operator.healing.actions import Drain
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.evidence import Evidence
from betting_operator.healing.gate import Gate
from betting_operator.healing.handovers import HandOvers
from betting_operator.healing.memory import EXITS_MAX, Attempts, Disruption, Memory
from betting_operator.healing.nodes import Nodes
from betting_operator.healing.plan import Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Answer, Exit, Observation
from betting_operator.healing.slots import is_replaced_by_name, slot_of

# What only starts serves within this time, or is stuck in starting.
STANDS_BY_AFTER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of one look: everything needed for the next one, and what to do now."""

    memory: Memory
    diagnoses: tuple[Diagnosis, ...]
    plan: Plan


def decide(memory: Memory, seen: Observation, policy: Policy) -> Tick:
    """Decides. The same arguments give the same answer, on any machine, at any time."""
    now = _observed(memory, seen, policy)
    lives = (
        *diagnose.died(seen, now.exits, now.nodes, now.evidence, policy),
        *diagnose.hung(seen, now.nodes, now.evidence, policy),
        *nodes.diagnose(now.nodes),
    )
    many = any(each.kind is Kind.SHARED_CAUSE and each.target == diagnose.PLATFORM for each in lives)
    lives = tuple(evidence.apply_voids(each, now.evidence, seen, many=many) for each in lives)
    failures = bad_nodes.watch(now.failures, _own_exits(now), lives, now.nodes, seen, policy)
    now = replace(now, failures=failures)
    dead = planning.dead(seen, lives)
    watched = handovers.watch(now.handovers, seen, dead)
    now = replace(now, handovers=handovers.remember(watched, now.evidence, seen.at_ms, policy))
    where = placement.look(seen, now.evidence, dead, now.handovers.refusing, policy)
    others = (
        *diagnose.crash_loops(_own_exits(now), seen, policy),
        *diagnose.directory(seen),
        *diagnose.database(seen),
        *diagnose.host(seen, policy),
        *evidence.overloaded(now.evidence, seen, policy),
        *feeds.diagnose(now.silences, now.evidence, seen, policy),
        *stall.stuck(now.stalls, now.evidence, seen, policy),
        *placement.diagnose(where, seen),
        *handovers.stuck(now.handovers, now.evidence, seen.at_ms, policy),
        *ledger.diagnose(seen),
        *_unwell(now, seen, policy),
    )
    found = (*lives, *(evidence.apply_voids(each, now.evidence, seen, many=many) for each in others))
    gate = Gate(seen, now, policy, {each.target for each in found if each.kind is Kind.PROCESS_HUNG})
    shared = any(each.kind is Kind.SHARED_CAUSE for each in found)
    redis = redis_failover.next_step(seen, now.evidence, now.exits, gate, policy, shared=shared)
    found = (*found, *redis.diagnoses)
    killable = [each for each in found if planning.may_kill(each)]
    found = (*found, *gate.exhausted(killable))
    responses = escalation.respond(found, now.steps, _own_exits(now), seen, policy, gate)
    decided = planning.plan(seen, found, where, responses, now, policy, gate)
    disruptions = planning.disruptions_of(decided, seen.at_ms)
    decided = planning.join(decided, redis.actions, redis.declined, policy, gate)
    drains = [action for action in decided.actions if isinstance(action, Drain)]
    after = replace(
        now,
        evidence=evidence.remember(now.evidence, seen, many=many),
        retirement=retiring.remember(memory.retirement, drains, found, seen),
        disruptions=(*now.disruptions, *disruptions, *(() if policy.dry_run else redis.disruptions)),
        attempts=_attempted(now.attempts, disruptions),
        steps=escalation.remember(now.steps, responses, seen, policy),
        alerted=planning.standing_alerts(found, responses),
    )
    return Tick(after, found, decided)


def _observed(memory: Memory, seen: Observation, policy: Policy) -> Memory:
    """What every concern knows after this look, before anything is concluded. Hand-overs follow, once it is known who
    is dead."""
    gathered = evidence.gather(memory.evidence, seen, policy)
    begins = gathered.since_ms == seen.at_ms  # what was seen before does not count
    stalls = stall.watch(() if begins else memory.stalls, seen.consumers, seen.at_ms)
    silences = feeds.watch(() if begins else memory.silences, gathered, seen, policy)
    idle = stall.never_moved(stalls) | feeds.never_heard(silences, gathered)
    return replace(
        memory,
        evidence=gathered,
        nodes=nodes.watch(Nodes() if begins else memory.nodes, gathered, seen, policy),
        exits=_within(policy, seen, (*memory.exits, *seen.exits)),
        stalls=stalls,
        silences=silences,
        handovers=HandOvers() if begins else memory.handovers,
        outliers=grey.watch(() if begins else memory.outliers, seen),
        large=sizes.watch(() if begins else memory.large, seen, policy),
        disruptions=tuple(each for each in memory.disruptions if seen.at_ms - each.at_ms < policy.window_ms),
        attempts=tuple(each for each in memory.attempts if not _is_well_again(each, seen, gathered, idle)),
    )


def _within(policy: Policy, seen: Observation, exits: Iterable[Exit]) -> tuple[Exit, ...]:
    """Each life ends once, however often it was reported. The ends of Redis nodes' last lives are kept: fences."""
    fenced = redis_failover.lives(seen.redis)
    unique = {each.life: each for each in exits if seen.at_ms - each.at_ms < policy.window_ms or each.life in fenced}
    return tuple(unique.values())[-EXITS_MAX:]


def _own_exits(now: Memory) -> tuple[Exit, ...]:
    """Exits that nobody caused: nothing was done to the life before, and the platform was not told to end it."""
    acted_ms = {each.life: each.at_ms for each in now.disruptions}
    return tuple(
        each
        for each in now.exits
        if not each.ordered and (each.life not in acted_ms or each.at_ms <= acted_ms[each.life])
    )


def _is_well_again(each: Attempts, seen: Observation, gathered: Evidence, idle: Collection[Life]) -> bool:
    """Where the instance keeps its name: it serves, or stands by. Of pods: all of them do, a replacement among them.

    idle: lives whose work has not been seen to go on yet: that they answer does not show that a kill has helped.
    """
    healthy = (planning.healthy(seen) | _standing_by(seen, gathered)) - {life.instance for life in idle}
    if not any(is_replaced_by_name(p.instance) for p in seen.processes or () if p.workload == each.workload):
        return each.slot in healthy
    pods = [
        p for p in seen.processes or () if (p.workload, slot_of(p.workload, p.instance)) == (each.workload, each.slot)
    ]
    begun = {known.life for known in gathered.lives if known.since_ms > each.at_ms}
    return all(p.instance in healthy for p in pods) and any(p.life in begun for p in pods)


def _standing_by(seen: Observation, gathered: Evidence) -> frozenset[str]:
    """Instances that answer, get on and do not serve, a minute after they began: another one of their kind does."""
    since_ms = {each.life: each.since_ms for each in gathered.lives}
    waiting = (p.life for p in seen.probes if p.answer is Answer.NOT_SERVING and not p.silent_ms)
    return frozenset(
        life.instance for life in waiting if life in since_ms and seen.at_ms - since_ms[life] >= STANDS_BY_AFTER_MS
    )


def _attempted(attempts: Iterable[Attempts], disruptions: Sequence[Disruption]) -> tuple[Attempts, ...]:
    found = {(each.workload, each.slot): each for each in attempts}
    for each in disruptions:
        if each.life is None:
            continue
        before = found.get((each.workload, each.slot))
        count = 1 if before is None else before.count + 1
        found[each.workload, each.slot] = Attempts(each.workload, each.slot, count, each.at_ms)
    return tuple(found[key] for key in sorted(found))


def _unwell(now: Memory, seen: Observation, policy: Policy) -> Iterator[Diagnosis]:
    """Who is to be retired. Each life once for each kind: of who is being retired already it is known why."""
    known = set()
    for each in (
        *retiring.under_way(now.retirement, seen),
        *bad_nodes.diagnose(now.failures, seen),
        *grey.diagnose(now.outliers, now.evidence, now.retirement, seen, policy),
        *sizes.diagnose(now.large, now.evidence, seen.at_ms, policy),
    ):
        if (each.kind, each.target) not in known:
            known.add((each.kind, each.target))
            yield each
