"""From diagnoses to actions: disruptive ones and others.

Not disruptive: marking an owner dead that is proven dead or hung, placing shards that have no owner, releasing a shard
that is not handed over. The journal's fence makes them safe: neither a budget nor a pause limits them. Disruptive:
killing, draining, moving what works, rolling back. Whatever is not done has a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from betting.life import Life
from betting_operator.healing import handovers, ledger, retiring
from betting_operator.healing.actions import (
    Action,
    Alert,
    Drain,
    ForceRelease,
    Freeze,
    Kill,
    MarkDead,
    MoveAway,
    Place,
    RollBack,
    Scale,
    describe,
)
from betting_operator.healing.diagnoses import TABLE, Certainty, Diagnosis, Kind, Severity
from betting_operator.healing.escalation import Responses
from betting_operator.healing.gate import Gate
from betting_operator.healing.memory import Disruption, Memory
from betting_operator.healing.placement import Placement
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, MoveRecord, Promote
from betting_operator.healing.retiring import RETIRED_FOR
from betting_operator.healing.signals import Answer, Capability, Observation
from betting_operator.healing.slots import slot_of_life

# What is done about these, and why not, is said step by step: see `redis_failover`.
_BY_STEPS = (Kind.REDIS_PRIMARY_GONE, Kind.REDIS_PRIMARY_HUNG, Kind.REDIS_REPLICA_AWAY, Kind.REDIS_BLOCKED)
# What is done about these does not name them: lives are marked dead, shards placed, each process of a node ended.
_BY_OTHERS = (Kind.OWNER_DIED, Kind.SHARDS_MISPLACED, Kind.HANDOVER_STUCK, Kind.NODE_LOST, Kind.BAD_NODE)
Moves = tuple[tuple[int, Life], ...]  # of shards, each to its new owner
_DRY_RUN = "dry run: nothing is done"
_KILLED_FOR = (Kind.PROCESS_HUNG, Kind.FEED_SILENT, Kind.CONSUMER_STUCK)


@dataclass(frozen=True, slots=True)
class Declined:
    """Something concluded that nothing is done about, and why."""

    kind: Kind
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, in this order, and what is not."""

    actions: tuple[Action, ...] = ()
    declined: tuple[Declined, ...] = ()


def dead(seen: Observation, diagnoses: Iterable[Diagnosis]) -> frozenset[Life]:
    """Lives of bet-service that are proven dead or hung, and not marked dead yet."""
    owners = {owner.life for owner in seen.owners or () if not owner.exited}
    proven = (each for each in diagnoses if each.confirmed and each.kind in (Kind.OWNER_DIED, Kind.PROCESS_HUNG))
    return frozenset(each.life for each in proven if each.life is not None and each.life in owners)


def plan(
    seen: Observation,
    diagnoses: Sequence[Diagnosis],
    placement: Placement | None,
    responses: Responses,
    memory: Memory,
    policy: Policy,
    gate: Gate,
) -> Plan:
    """What to do about all of them. responses: of `escalation`."""
    eligible = placement.eligible if placement is not None else ()
    others = _non_disruptive(seen, diagnoses, placement)
    released, left = handovers.remedies(memory.handovers, memory.evidence, eligible, seen, policy)
    others += [*released, *ledger.remedies(seen, diagnoses)]
    disruptive, declined = _disruptive(seen, diagnoses, placement, responses, memory, gate)
    declined += [Declined(Kind.HANDOVER_STUCK, f"shard {shard}", "no other bet-service can own it") for shard in left]
    alerts = [_alert(e) for e in diagnoses if _needs_alert(e, responses) and _name(e) not in memory.alerted]
    done = join(Plan(declined=tuple(declined)), (*others, *disruptive), (), policy, gate)
    return Plan((*done.actions, *alerts), done.declined)


def join(plan: Plan, actions: Sequence[Action], declined: Sequence[Declined], policy: Policy, gate: Gate) -> Plan:
    """The plan with more after it: what may be done now of these actions, and why the others may not."""
    undone = [(action, _DRY_RUN if policy.dry_run else _unwritable(action, gate)) for action in actions]
    done = tuple(action for action, why in undone if not why)
    more = (Declined(_kind_of(action), describe(action), why) for action, why in undone if why)
    return Plan((*plan.actions, *done), (*plan.declined, *declined, *more))


def _unwritable(action: Action, gate: Gate) -> str:
    return gate.unwritable if isinstance(action, MarkDead | Place | ForceRelease | Drain | Freeze | MoveRecord) else ""


def standing_alerts(diagnoses: Iterable[Diagnosis], responses: Responses) -> tuple[str, ...]:
    """What a person has been alerted to by now and is still so: alerted again only after it has been over."""
    return tuple(sorted({_name(each) for each in diagnoses if _needs_alert(each, responses)}))


def open_alerts(diagnoses: Iterable[Diagnosis], standing: Collection[str]) -> tuple[Alert, ...]:
    """What a person has been alerted to and is still so, the most urgent first. standing: of `standing_alerts`."""
    alerts = [_alert(each) for each in diagnoses if each.confirmed and _name(each) in standing]
    return tuple(sorted(alerts, key=lambda alert: (alert.severity is not Severity.PAGE, alert.about, alert.target)))


def disruptions_of(plan: Plan, at_ms: int) -> tuple[Disruption, ...]:
    """The disruptive actions of a plan, to be remembered."""
    return tuple(_disruption(each, at_ms) for each in plan.actions if isinstance(each, Kill | MoveAway | RollBack))


def _disruption(action: Kill | MoveAway | RollBack, at_ms: int) -> Disruption:
    if isinstance(action, RollBack):
        return Disruption(at_ms, action.workload, action.workload)
    return Disruption(at_ms, action.life.workload, slot_of_life(action.life), action.life)


def _non_disruptive(seen: Observation, diagnoses: Sequence[Diagnosis], placement: Placement | None) -> list[Action]:
    actions: list[Action] = [MarkDead(life, seen.term) for life in sorted(dead(seen, diagnoses))]
    if placement is not None and placement.unowned:
        actions.append(Place(placement.unowned, seen.term))
    return actions


def _disruptive(
    seen: Observation,
    diagnoses: Sequence[Diagnosis],
    placement: Placement | None,
    responses: Responses,
    memory: Memory,
    gate: Gate,
) -> tuple[list[Action], list[Declined]]:
    actions: list[Action] = [response.action for response in responses.values() if response.action is not None]
    without = [each for each in diagnoses if each not in responses and not _has_remedy(each)]
    declined = [Declined(each.kind, each.target, _nothing(each)) for each in without]
    declined += [Declined(e.kind, e.target, response.reason) for e, response in responses.items() if response.reason]
    eligible = placement.eligible if placement is not None else ()
    moving = _to_be_moved(seen, diagnoses, memory)
    draining = False
    for each in diagnoses:
        if not may_kill(each) or each.life is None:
            continue
        reason = gate.why_not(each.life)
        following = retiring.next_action(each, memory.retirement, eligible, seen) if each.kind in RETIRED_FOR else None
        if reason or isinstance(following, str):
            declined.append(Declined(each.kind, each.target, reason or str(following)))
        elif following is None:
            elsewhere = each.life in moving and (each.kind is Kind.BAD_NODE or not gate.tried(each.life))
            gate.begun(each.life)
            actions.append(MoveAway(each.life) if elsewhere else Kill(each.life))
        elif draining:
            declined.append(Declined(each.kind, each.target, "another is being retired: one at a time"))
        else:
            draining = True
            actions.append(following)
    if placement is not None and placement.held:
        declined.append(Declined(Kind.SHARDS_MISPLACED, "moves for balance", placement.held))
    if placement is not None and placement.moves:
        moves, reason = _allowed_moves(placement.moves, diagnoses, seen, gate)
        if reason:
            declined.append(Declined(Kind.SHARDS_MISPLACED, "planned moves", reason))
        if moves:
            actions.append(Place(moves, seen.term))
    return actions, declined


def _to_be_moved(seen: Observation, diagnoses: Iterable[Diagnosis], memory: Memory) -> frozenset[Life]:
    """Lives that should not start again on the node that they are on: it is lost, or bad."""
    if Capability.MOVE_AWAY not in seen.capabilities:
        return frozenset()
    on_lost = (p.life for p in seen.processes or () if p.node in memory.nodes.lost_names)
    on_bad = (each.life for each in diagnoses if each.kind is Kind.BAD_NODE and each.confirmed)
    return frozenset(life for life in (*on_lost, *on_bad) if life is not None)


def _allowed_moves(moves: Moves, diagnoses: Sequence[Diagnosis], seen: Observation, gate: Gate) -> tuple[Moves, str]:
    """The moves for balance that may be made now, and why the others may not. A hand-over that was begun in a
    maintenance window is still changed or undone after its end."""
    if gate.paused:
        return (), gate.paused
    if any(each.kind in (Kind.PROCESS_HUNG, Kind.SHARED_CAUSE) for each in diagnoses):
        return (), "a process is silent: no moves for balance until that is clear"
    if not gate.moves_held:
        return moves, ""
    begun = {shard.shard for shard in seen.shards or () if shard.desired_owner not in (None, shard.owner)}
    allowed = tuple(each for each in moves if each[0] in begun)
    return allowed, gate.moves_held if len(allowed) < len(moves) else ""


def _has_remedy(each: Diagnosis) -> bool:
    if each.kind in (*_BY_OTHERS, *_BY_STEPS):
        return True
    return may_kill(each)


def may_kill(each: Diagnosis) -> bool:
    """Whether it is one that a kill can be the answer to."""
    return each.kind in (*_KILLED_FOR, *RETIRED_FOR) and each.confirmed and each.life is not None


def _nothing(each: Diagnosis) -> str:
    if each.certainty is not Certainty.CONFIRMED:
        return f"{each.certainty}: {'; '.join(each.evidence)}"
    return TABLE[each.kind].heals


def _alert(each: Diagnosis) -> Alert:
    text = f"{each.target}: {TABLE[each.kind].means} ({'; '.join(each.evidence)})"
    return Alert(each.kind, each.target, TABLE[each.kind].severity or Severity.NOTE, text)


def _needs_alert(each: Diagnosis, responses: Responses) -> bool:
    """A person is not called for what the healer is still trying to heal by itself."""
    response = responses.get(each)
    if each.kind is Kind.BAD_NODE and each.life is not None:
        return False  # the node has one
    return TABLE[each.kind].severity is not None and each.confirmed and (response is None or response.page)


def _name(each: Diagnosis) -> str:
    return f"{each.kind} {each.target}"


def _kind_of(action: Action) -> Kind:
    match action:
        case MarkDead():
            return Kind.OWNER_DIED
        case Kill():
            return Kind.PROCESS_HUNG
        case Freeze():
            return Kind.LEDGER_BROKEN
        case ForceRelease():
            return Kind.HANDOVER_STUCK
        case Drain():
            return Kind.GREY_FAILURE
        case MoveAway() | RollBack():
            return Kind.CRASH_LOOP
        case Scale():
            return Kind.MEMORY_SHORT
        case MoveRecord() | Promote() | Follow():
            return Kind.REDIS_PRIMARY_GONE
        case _:
            return Kind.SHARDS_MISPLACED


def healthy(seen: Observation) -> frozenset[str]:
    """Instances that answered the healer just now: their attempts start anew."""
    return frozenset(p.life.instance for p in seen.probes if p.answer is Answer.SERVING and not p.silent_ms)
