"""From diagnoses to actions, at two prices.

Cheap: condemning an owner that is proven dead or hung, and placing shards that nobody has. The journal's fence makes
them safe, so no budget limits them, and no pause. Dear: killing, and moving what works. Whatever is not done has a
reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from betting_operator.healing import handovers, ledger, retiring
from betting_operator.healing.actions import (
    Action,
    Alert,
    Condemn,
    Eject,
    Freeze,
    Kill,
    Place,
    Seize,
    Severity,
    describe,
)
from betting_operator.healing.diagnoses import TABLE, Certainty, Diagnosis, Kind
from betting_operator.healing.memory import Deed, Memory
from betting_operator.healing.placement import Placement
from betting_operator.healing.policy import Policy
from betting_operator.healing.redis_actions import Follow, Move, Promote
from betting_operator.healing.retiring import RETIRED_FOR
from betting_operator.healing.signals import Answer, Observation

_SEVERITY = {
    Kind.SHARED_CAUSE: Severity.WARN,
    Kind.CRASH_LOOP: Severity.PAGE,
    Kind.HEALING_EXHAUSTED: Severity.PAGE,
    Kind.NOBODY_TO_OWN: Severity.PAGE,
    Kind.HANDOVER_STUCK: Severity.WARN,
    Kind.LEDGER_BROKEN: Severity.PAGE,
    Kind.SHARD_STOPPED: Severity.PAGE,
    Kind.DATABASE_AWAY: Severity.PAGE,
    Kind.FEED_SILENT: Severity.WARN,
    Kind.FOLLOWER_STUCK: Severity.WARN,
    Kind.GREY_FAILURE: Severity.WARN,
    Kind.HOT_SHARD: Severity.WARN,
    Kind.MEMORY_CLIMBING: Severity.WARN,
    Kind.MEMORY_SHORT: Severity.PAGE,
    Kind.REDIS_REPLICA_AWAY: Severity.WARN,
    Kind.REDIS_MEMORY_FULL: Severity.PAGE,
    Kind.REDIS_BLOCKED: Severity.PAGE,
    Kind.DISK_FULL: Severity.PAGE,
    Kind.CLOCK_OFF: Severity.WARN,
}
# What is done about these, and why not, is said step by step: see `redis_failover`.
_BY_STEPS = (Kind.REDIS_PRIMARY_GONE, Kind.REDIS_PRIMARY_FROZEN, Kind.REDIS_REPLICA_AWAY, Kind.REDIS_BLOCKED)
# A life that is still there after so long was not killed: the call did not arrive, and is made again.
_KILL_TAKES_MS = 10_000
_DRY_RUN = "dry run: nothing is done"
_KILLED_FOR = (Kind.PROCESS_HUNG, Kind.FEED_SILENT, Kind.FOLLOWER_STUCK)


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


def gone(seen: Observation, diagnoses: Iterable[Diagnosis]) -> dict[str, Diagnosis]:
    """Lives of bet-service that are proven dead or hung, by their name in the directory."""
    owners = {owner.name for owner in seen.owners or () if not owner.exited}
    found = {}
    for each in diagnoses:
        name = each.target if each.kind is Kind.OWNER_DIED else f"{each.target}@{each.boot_id}"
        if each.confirmed and each.kind in (Kind.OWNER_DIED, Kind.PROCESS_HUNG) and name in owners:
            found[name] = each
    return found


def plan(
    seen: Observation, diagnoses: Sequence[Diagnosis], placement: Placement | None, memory: Memory, policy: Policy
) -> Plan:
    """What to do about all of them."""
    cheap = _cheap(seen, diagnoses, placement)
    seized, left = handovers.remedies(memory.handovers, placement.able if placement else (), seen, policy)
    cheap += [*seized, *ledger.remedies(seen, diagnoses)]
    dear, declined = _dear(seen, diagnoses, placement, memory, policy)
    declined += [Declined(Kind.HANDOVER_STUCK, f"shard {shard}", "nobody else can own it") for shard in left]
    alerts = [_alert(each) for each in diagnoses if _is_told(each) and _name(each) not in memory.told]
    if policy.dry_run:
        undone = [Declined(_kind_of(action), describe(action), _DRY_RUN) for action in (*cheap, *dear)]
        return Plan(tuple(alerts), (*declined, *undone))
    return Plan((*cheap, *dear, *alerts), tuple(declined))


def join(plan: Plan, actions: Sequence[Action], declined: Sequence[Declined], policy: Policy) -> Plan:
    """The plan with the steps of another part after it."""
    if policy.dry_run:
        undone = [Declined(_kind_of(action), describe(action), _DRY_RUN) for action in actions]
        return Plan(plan.actions, (*plan.declined, *declined, *undone))
    return Plan((*plan.actions, *actions), (*plan.declined, *declined))


def standing_alerts(diagnoses: Iterable[Diagnosis]) -> tuple[str, ...]:
    """What has been told by now and is still so: told again only after it has been over."""
    return tuple(sorted({_name(each) for each in diagnoses if _is_told(each)}))


def deeds_of(plan: Plan, at_ms: int) -> tuple[Deed, ...]:
    """The dear actions of a plan, to be remembered."""
    kills = [action for action in plan.actions if isinstance(action, Kill)]
    return tuple(Deed(at_ms, kill.service, kill.instance, kill.boot_id) for kill in kills)


def _cheap(seen: Observation, diagnoses: Sequence[Diagnosis], placement: Placement | None) -> list[Action]:
    actions: list[Action] = [Condemn(name, seen.term) for name in sorted(gone(seen, diagnoses))]
    if placement is not None and placement.homeless:
        actions.append(Place(placement.homeless, seen.term))
    return actions


def _dear(
    seen: Observation,
    diagnoses: Sequence[Diagnosis],
    placement: Placement | None,
    memory: Memory,
    policy: Policy,
) -> tuple[list[Action], list[Declined]]:
    actions: list[Action] = []
    declined = [Declined(each.kind, each.target, _nothing(each)) for each in diagnoses if not _has_remedy(each)]
    deeds = list(memory.deeds)
    able = placement.able if placement is not None else ()
    ejected = False
    for each in diagnoses:
        if not may_kill(each):
            continue
        service = _service_of(seen, each.target)
        reason = _why_not(each, service, deeds, memory, policy, seen.at_ms)
        following = retiring.step(each, memory.retirement, able, seen) if each.kind in RETIRED_FOR else None
        if reason or isinstance(following, str):
            declined.append(Declined(each.kind, each.target, reason or str(following)))
        elif following is None:
            deeds.append(Deed(seen.at_ms, service, each.target, each.boot_id))
            actions.append(Kill(service, each.target, each.boot_id))
        elif ejected:
            declined.append(Declined(each.kind, each.target, "another is being retired: one at a time"))
        else:
            ejected = True
            actions.append(following)
    if placement is not None and placement.moves:
        reason = _why_no_moves(diagnoses, policy)
        if reason:
            declined.append(Declined(Kind.SHARDS_MISPLACED, "planned moves", reason))
        else:
            actions.append(Place(placement.moves, seen.term))
    return actions, declined


def _why_not(each: Diagnosis, service: str, deeds: Sequence[Deed], memory: Memory, policy: Policy, at_ms: int) -> str:
    """Why a kill has to wait, or must not be; "" when it may be."""
    tries = Counter({known.instance: known.count for known in memory.tries})
    last_ms = max((deed.at_ms for deed in deeds if deed.service == service), default=None)
    if policy.paused:
        return f"healing is paused: {policy.paused}"
    if any(
        (deed.instance, deed.boot_id) == (each.target, each.boot_id) and at_ms - deed.at_ms < _KILL_TAKES_MS
        for deed in deeds
    ):
        return "this life has been killed already: waiting for its end"
    if tries[each.target] >= policy.tries_max:
        return f"killed {tries[each.target]} times without getting healthy: a person must look"
    if last_ms is not None and at_ms - last_ms < policy.cool_down_ms:
        return f"{service} was acted on {at_ms - last_ms} ms ago: one at a time, {policy.cool_down_ms} ms apart"
    if len(deeds) >= policy.dear_per_window:
        return f"the budget of {policy.dear_per_window} in {policy.window_ms // 1000} s is spent: a person must look"
    return ""


def _why_no_moves(diagnoses: Sequence[Diagnosis], policy: Policy) -> str:
    if policy.paused:
        return f"healing is paused: {policy.paused}"
    if any(each.kind in (Kind.PROCESS_HUNG, Kind.SHARED_CAUSE) for each in diagnoses):
        return "somebody is silent: no moves for balance until that is clear"
    return ""


def _has_remedy(each: Diagnosis) -> bool:
    if each.kind in (Kind.OWNER_DIED, Kind.SHARDS_MISPLACED, Kind.HANDOVER_STUCK, *_BY_STEPS):
        return True
    return may_kill(each)


def may_kill(each: Diagnosis) -> bool:
    """Whether it is one that a kill can be the answer to."""
    return each.kind in (*_KILLED_FOR, *RETIRED_FOR) and each.confirmed and bool(each.boot_id)


def _nothing(each: Diagnosis) -> str:
    if each.certainty is not Certainty.CONFIRMED:
        return f"{each.certainty}: {'; '.join(each.evidence)}"
    return TABLE[each.kind].heals


def _service_of(seen: Observation, instance: str) -> str:
    services = {process.instance: process.service for process in seen.processes or ()}
    return services.get(instance, instance)


def _alert(each: Diagnosis) -> Alert:
    text = f"{each.target}: {TABLE[each.kind].means} ({'; '.join(each.evidence)})"
    return Alert(each.kind, each.target, _SEVERITY[each.kind], text)


def _is_told(each: Diagnosis) -> bool:
    return each.kind in _SEVERITY and each.confirmed


def _name(each: Diagnosis) -> str:
    return f"{each.kind} {each.target}"


def _kind_of(action: Action) -> Kind:
    match action:
        case Condemn():
            return Kind.OWNER_DIED
        case Kill():
            return Kind.PROCESS_HUNG
        case Freeze():
            return Kind.LEDGER_BROKEN
        case Seize():
            return Kind.HANDOVER_STUCK
        case Eject():
            return Kind.GREY_FAILURE
        case Move() | Promote() | Follow():
            return Kind.REDIS_PRIMARY_GONE
        case _:
            return Kind.SHARDS_MISPLACED


def healthy(seen: Observation) -> frozenset[str]:
    """Instances that answered the healer just now: their tries start anew."""
    return frozenset(probe.instance for probe in seen.probes if probe.answer is Answer.SERVING)
