"""One tick of healing: observation → diagnoses → plan. A pure function of what was seen, remembered and allowed.

Every concern has the same shape: what it watches is kept in memory, what it concludes is a diagnosis, what is done
about it goes through one gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from betting_operator.healing import (
    diagnose,
    evidence,
    feeds,
    grey,
    handovers,
    ledger,
    placement,
    redis_failover,
    retiring,
    sizes,
    standstill,
)
from betting_operator.healing import plan as planning
from betting_operator.healing.actions import Eject
from betting_operator.healing.diagnoses import Diagnosis, Kind
from betting_operator.healing.gate import Gate
from betting_operator.healing.handovers import HandOvers
from betting_operator.healing.memory import EXITS_MAX, Deed, Memory, Tries
from betting_operator.healing.plan import Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.signals import Exit, Observation


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of one look: everything needed for the next one, and what to do now."""

    memory: Memory
    diagnoses: tuple[Diagnosis, ...]
    plan: Plan


def step(memory: Memory, seen: Observation, policy: Policy) -> Tick:
    """Decides. The same arguments give the same answer, on any machine, at any time."""
    now = _observed(memory, seen, policy)
    lives = (*diagnose.died(seen, now.exits), *diagnose.hung(seen, now.evidence, policy))
    many = any(each.kind is Kind.SHARED_CAUSE and each.target == diagnose.PLATFORM for each in lives)
    lives = tuple(evidence.told_apart(each, now.evidence, seen, many=many) for each in lives)
    gone = planning.gone(seen, lives).keys()
    where = placement.look(seen, now.evidence, gone, policy)
    now = replace(now, handovers=handovers.watch(now.handovers, seen, gone))
    others = (
        *diagnose.crash_loops(_own_exits(now), policy),
        *diagnose.directory(seen),
        *diagnose.database(seen),
        *diagnose.host(seen, policy),
        *evidence.overloaded(now.evidence, seen, policy),
        *feeds.diagnose(now.silences, now.evidence, seen, policy),
        *standstill.stuck(now.standstills, now.evidence, seen, policy),
        *placement.diagnose(where, seen),
        *handovers.stuck(now.handovers, now.evidence, seen.at_ms, policy),
        *ledger.diagnose(seen),
        *_unwell(now, seen, policy),
    )
    found = (*lives, *(evidence.told_apart(each, now.evidence, seen, many=many) for each in others))
    gate = Gate(seen, now, policy, {each.target for each in found if each.kind is Kind.PROCESS_HUNG})
    shared = any(each.kind is Kind.SHARED_CAUSE for each in found)
    redis = redis_failover.step(seen, now.evidence, now.exits, gate, policy, shared=shared)
    found = (*found, *redis.diagnoses)
    patients = [(planning.service_of(seen, each.target), each) for each in found if planning.may_kill(each)]
    found = (*found, *gate.exhausted(patients))
    decided = planning.plan(seen, found, where, now, policy, gate)
    deeds = planning.deeds_of(decided, seen.at_ms)
    decided = planning.join(decided, redis.actions, redis.declined, policy, gate)
    ejects = [action for action in decided.actions if isinstance(action, Eject)]
    after = replace(
        now,
        evidence=evidence.remember(now.evidence, seen, many=many),
        retirement=retiring.remember(memory.retirement, ejects, found, seen),
        deeds=(*now.deeds, *deeds, *(() if policy.dry_run else redis.deeds)),
        tries=_tried(now.tries, deeds),
        told=planning.standing_alerts(found),
    )
    return Tick(after, found, decided)


def _observed(memory: Memory, seen: Observation, policy: Policy) -> Memory:
    """What every concern knows after this look, before anything is concluded. Hand-overs follow, once it is known who
    is gone."""
    gathered = evidence.gather(memory.evidence, seen, policy)
    begins = gathered.since_ms == seen.at_ms  # what was seen before does not count
    return replace(
        memory,
        evidence=gathered,
        exits=_within(policy, seen, (*memory.exits, *seen.exits)),
        standstills=standstill.watch(() if begins else memory.standstills, seen.followers, seen.at_ms),
        silences=feeds.watch(() if begins else memory.silences, seen),
        handovers=HandOvers() if begins else memory.handovers,
        outliers=grey.watch(() if begins else memory.outliers, seen),
        large=sizes.watch(() if begins else memory.large, seen, policy),
        deeds=tuple(deed for deed in memory.deeds if seen.at_ms - deed.at_ms < policy.window_ms),
        tries=tuple(each for each in memory.tries if each.instance not in planning.healthy(seen)),
    )


def _within(policy: Policy, seen: Observation, exits: Iterable[Exit]) -> tuple[Exit, ...]:
    """Each life ends once, however often that was told. The end of the recorded Redis primary is kept: a fence."""
    record = seen.redis.record if seen.redis is not None else None
    fenced = None if record is None else (record.primary, record.boot_id)
    unique = {
        (each.instance, each.boot_id): each
        for each in exits
        if seen.at_ms - each.at_ms < policy.window_ms or (each.instance, each.boot_id) == fenced
    }
    return tuple(unique.values())[-EXITS_MAX:]


def _own_exits(now: Memory) -> tuple[Exit, ...]:
    """Exits that the healer did not cause."""
    killed = {(deed.instance, deed.boot_id) for deed in now.deeds}
    return tuple(each for each in now.exits if (each.instance, each.boot_id) not in killed)


def _tried(tries: Iterable[Tries], deeds: Sequence[Deed]) -> tuple[Tries, ...]:
    counts = Counter({each.instance: each.count for each in tries})
    counts.update(deed.instance for deed in deeds)
    return tuple(Tries(instance, count) for instance, count in sorted(counts.items()))


def _unwell(now: Memory, seen: Observation, policy: Policy) -> Iterator[Diagnosis]:
    """Who is to be retired. Each life once for each kind: of who is being retired already it is known why."""
    known = set()
    for each in (
        *retiring.under_way(now.retirement, seen),
        *grey.diagnose(now.outliers, now.evidence, now.retirement, seen, policy),
        *sizes.diagnose(now.large, now.evidence, seen.at_ms, policy),
    ):
        if (each.kind, each.target) not in known:
            known.add((each.kind, each.target))
            yield each
