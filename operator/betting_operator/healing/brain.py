"""One tick of healing: observation → diagnoses → plan. A pure function of what was seen, remembered and allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from betting_operator.healing import (
    evidence,
    grey,
    handovers,
    ladder,
    ledger,
    placement,
    redis_failover,
    retiring,
    sizes,
)
from betting_operator.healing import plan as planning
from betting_operator.healing.actions import Eject
from betting_operator.healing.diagnose import BET_SERVICE, diagnose
from betting_operator.healing.diagnoses import Certainty, Diagnosis, Kind
from betting_operator.healing.grey import Outlier
from betting_operator.healing.handovers import HandOvers
from betting_operator.healing.memory import EXITS_MAX, Deed, Memory, Tries
from betting_operator.healing.placement import Placement
from betting_operator.healing.plan import Plan
from betting_operator.healing.policy import Policy
from betting_operator.healing.retiring import Retirement
from betting_operator.healing.signals import Exit, Observation, Phase
from betting_operator.healing.sizes import Large
from betting_operator.healing.standstill import watch


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of one look: everything needed for the next one, and what to do now."""

    memory: Memory
    diagnoses: tuple[Diagnosis, ...]
    plan: Plan


def step(memory: Memory, seen: Observation, policy: Policy) -> Tick:
    """Decides. The same arguments give the same answer, on any machine, at any time."""
    gathered = evidence.gather(memory.evidence, seen, policy)
    exits = _within(policy, seen, (*memory.exits, *seen.exits))
    begins = gathered.since_ms == seen.at_ms  # what was seen before does not count
    still = watch(() if begins else memory.standstills, seen.followers, seen.at_ms)
    killed = {(deed.instance, deed.boot_id) for deed in memory.deeds}
    own = tuple(each for each in exits if (each.instance, each.boot_id) not in killed)
    found = diagnose(seen, gathered, exits, own, still, policy)
    gone = planning.gone(seen, found).keys()
    where = placement.look(seen, gathered, gone, policy)
    moving = handovers.watch(HandOvers() if begins else memory.handovers, seen, gone)
    odd = grey.watch(() if begins else memory.outliers, seen)
    large = sizes.watch(memory.large, seen, policy)
    found = (
        *found,
        *_misplaced(where, seen),
        *handovers.stuck(moving, seen.at_ms, policy),
        *ledger.diagnose(seen),
        *_unwell(odd, large, memory.retirement, seen, policy),
    )
    remembered = Memory(
        evidence=gathered,
        exits=exits,
        standstills=still,
        handovers=moving,
        outliers=odd,
        large=large,
        retirement=memory.retirement,
        deeds=_recent(memory.deeds, seen, policy),
        tries=_unhealthy(memory.tries, seen),
        told=memory.told,
    )
    shared = any(each.kind is Kind.SHARED_CAUSE for each in found)
    redis = redis_failover.step(seen, gathered, exits, remembered.deeds, policy, shared=shared)
    found = (*found, *redis.diagnoses)
    found = (*found, *ladder.exhausted([each for each in found if planning.may_kill(each)], remembered, policy))
    decided = planning.plan(seen, found, where, remembered, policy)
    deeds = planning.deeds_of(decided, seen.at_ms)
    decided = planning.join(decided, redis.actions, redis.declined, policy)
    ejects = [action for action in decided.actions if isinstance(action, Eject)]
    after = replace(
        remembered,
        retirement=retiring.remember(memory.retirement, ejects, found, seen),
        deeds=(*remembered.deeds, *deeds, *(() if policy.dry_run else redis.deeds)),
        tries=_tried(remembered.tries, deeds),
        told=planning.standing_alerts(found),
    )
    return Tick(after, found, decided)


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


def _recent(deeds: Iterable[Deed], seen: Observation, policy: Policy) -> tuple[Deed, ...]:
    return tuple(deed for deed in deeds if seen.at_ms - deed.at_ms < policy.window_ms)


def _unhealthy(tries: Iterable[Tries], seen: Observation) -> tuple[Tries, ...]:
    well = planning.healthy(seen)
    return tuple(each for each in tries if each.instance not in well)


def _tried(tries: Iterable[Tries], deeds: Iterable[Deed]) -> tuple[Tries, ...]:
    counts = Counter({each.instance: each.count for each in tries})
    counts.update(deed.instance for deed in deeds)
    return tuple(Tries(instance, count) for instance, count in sorted(counts.items()))


def _unwell(
    odd: Sequence[Outlier], large: Sequence[Large], last: Retirement | None, seen: Observation, policy: Policy
) -> Iterator[Diagnosis]:
    """Each life once for each kind: of who is being retired it is known why."""
    known = set()
    for each in (
        *retiring.under_way(last, seen),
        *grey.diagnose(odd, last, seen, policy),
        *sizes.diagnose(large, seen.at_ms, policy),
    ):
        if (each.kind, each.target) not in known:
            known.add((each.kind, each.target))
            yield each


def _misplaced(where: Placement | None, seen: Observation) -> tuple[Diagnosis, ...]:
    if where is None:
        return ()
    if not where.able:
        starting = any(p.service == BET_SERVICE and p.phase is Phase.STARTING for p in seen.processes or ())
        unsure = starting or seen.processes is None
        certainty = Certainty.SUSPECTED if unsure else Certainty.CONFIRMED
        evidence = ("no owner beats", "one is starting") if starting else ("no owner beats",)
        return (Diagnosis(Kind.NOBODY_TO_OWN, BET_SERVICE, certainty, evidence),)
    changes = len(where.homeless) + len(where.moves)
    if not changes:
        return ()
    text = f"{len(where.homeless)} without an owner, {len(where.moves)} to hand over"
    return (Diagnosis(Kind.SHARDS_MISPLACED, "shards", Certainty.CONFIRMED, (text,)),)
